//! `adapter_config.json`: how PEFT describes a LoRA adapter.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::FileError;
use serde_json::{Map, Value, json};

use crate::config_fields::{ConfigFields, as_names};
use crate::export::unambiguous_pattern;
use crate::key::heads_of_task;
use crate::module_naming::earlier_names;
use crate::pattern::ModulePattern;
use crate::support::check_support;
use crate::target::{LayerSelection, ModuleSelection, ModuleSet};
use crate::token_rows::TrainedTokens;
use crate::token_table::is_token_table;
use crate::{AdapterError, TargetModules};

/// Which biases of the base model were trained along: `bias` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasKind {
    None,
    All,
    LoraOnly,
}

/// A PEFT LoRA configuration: typed where Eigenmix understands it, and whole as it was read.
///
/// Every key survives reading and writing; one that is set and that Eigenmix does not know is refused.
#[derive(Clone, Debug)]
pub struct PeftConfig {
    raw: Map<String, Value>,
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(ModulePattern, usize)>,
    alpha_pattern: Vec<(ModulePattern, f64)>,
    target_modules: Option<TargetModules>,
    selection: Option<ModuleSelection>,
    modules_to_save: Vec<String>,
    bias: BiasKind,
    dropout: f64,
    use_rslora: bool,
    use_dora: bool,
    use_mixer: bool,
    lora_bias: bool,
    fan_in_fan_out: bool,
    ensures_weight_tying: bool,
    trained_tokens: TrainedTokens,
}

impl PeftConfig {
    /// The name of the file in an adapter's directory.
    pub const FILE_NAME: &str = "adapter_config.json";

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// If it cannot be read, is not a JSON object, is not a LoRA configuration, asks for something
    /// that is not supported, or has a field of the wrong form or a bad regular expression.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        Self::from_map(Self::read_raw(path)?, path)
    }

    /// The JSON object in `adapter_config.json`, whatever it configures.
    pub(crate) fn read_raw(path: &Path) -> Result<Map<String, Value>, FileError> {
        let text = std::fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
            _ => FileError::io("read", path)(source),
        })?;
        if text.starts_with(b"version https://git-lfs") {
            return Err(FileError::LfsPointer(path.to_owned()));
        }
        serde_json::from_slice(&text).map_err(|source| FileError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// The configuration in `raw`; `path` is where it came from, for errors.
    ///
    /// # Errors
    /// As [`PeftConfig::read`].
    pub fn from_map(raw: Map<String, Value>, path: &Path) -> Result<Self, AdapterError> {
        let fields = ConfigFields { map: &raw, path };
        check_support(&fields)?;
        for text in ["base_model_name_or_path", "revision", "task_type"] {
            fields.text(text)?;
        }

        let target_modules = read_targets(&fields)?;
        let modules_to_save = fields.names("modules_to_save")?;
        let excluded = read_excluded(&fields)?;
        let layers = read_layers(&fields)?;
        let selection = match &target_modules {
            None => None,
            Some(targets) => Some(ModuleSelection {
                targets: targets.compile()?,
                excluded,
                layers,
                saved: modules_to_save.clone(),
            }),
        };
        let bias = match fields.text("bias")?.as_deref() {
            None | Some("none") => BiasKind::None,
            Some("all") => BiasKind::All,
            Some("lora_only") => BiasKind::LoraOnly,
            Some(other) => {
                let expected = "\"none\", \"all\" or \"lora_only\"";
                return Err(fields.error("bias", expected, &json!(other)));
            }
        };
        Ok(Self {
            // PEFT's own defaults for both.
            rank: fields.positive("r", 8)?,
            alpha: fields.number("lora_alpha", 8.0)?,
            rank_pattern: compile(fields.ranks("rank_pattern")?)?,
            alpha_pattern: compile(fields.numbers("alpha_pattern")?)?,
            target_modules,
            selection,
            modules_to_save,
            bias,
            dropout: fields.number("lora_dropout", 0.0)?,
            use_rslora: fields.flag("use_rslora")?,
            use_dora: fields.flag("use_dora")?,
            use_mixer: fields.flag("lora_use_mixer")?,
            lora_bias: fields.flag("lora_bias")?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            ensures_weight_tying: fields.flag("ensure_weight_tying")?,
            trained_tokens: TrainedTokens::read(&fields)?,
            raw,
        })
    }

    /// A new configuration of plain LoRA with scaling 1: `lora_alpha` = r, and likewise per module.
    ///
    /// It has the keys that every version of PEFT reads. `rank_pattern` maps full module paths to
    /// ranks that differ from `rank`; each is written so that PEFT matches that module alone.
    ///
    /// # Errors
    /// If `target_modules` is not a regular expression, or a rank is 0.
    pub fn lora(
        base_model: &str,
        rank: usize,
        target_modules: TargetModules,
        modules_to_save: &[String],
        task_type: Option<&str>,
        rank_pattern: &BTreeMap<String, usize>,
    ) -> Result<Self, AdapterError> {
        let others: Vec<&str> = rank_pattern.keys().map(String::as_str).collect();
        let patterns: Map<String, Value> = rank_pattern
            .iter()
            .filter(|&(_, &other)| other != rank)
            .map(|(module, &other)| (unambiguous_pattern(module, &others), json!(other)))
            .collect();
        let raw = json!({
            "alpha_pattern": patterns,
            "auto_mapping": null,
            "base_model_name_or_path": base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "modules_to_save": if modules_to_save.is_empty() { Value::Null } else { json!(modules_to_save) },
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": patterns,
            "revision": null,
            "target_modules": target_modules.to_json(),
            "task_type": task_type,
            "use_dora": false,
            "use_rslora": false,
        });
        let Value::Object(raw) = raw else {
            unreachable!("the literal above is an object")
        };
        Self::from_map(raw, Path::new("the new configuration"))
    }

    /// The same configuration with one key set to another value, checked as if it had been read.
    ///
    /// # Errors
    /// As [`PeftConfig::read`].
    pub fn with(&self, key: &str, value: Value) -> Result<Self, AdapterError> {
        let mut raw = self.raw.clone();
        raw.insert(key.to_owned(), value);
        Self::from_map(raw, Path::new("the changed configuration"))
    }

    /// Every key as it was read, in the order of the file. Of an opened adapter, modules are without what
    /// wrappers put in front.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// The text of `adapter_config.json`.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.raw.clone()))
    }

    /// The base model that it names. Some programs write an empty name, which names none.
    pub fn base_model(&self) -> Option<&str> {
        self.text("base_model_name_or_path")
            .filter(|name| !name.is_empty())
    }

    /// The revision of the base model.
    pub fn revision(&self) -> Option<&str> {
        self.text("revision")
    }

    pub fn task_type(&self) -> Option<&str> {
        self.text("task_type")
    }

    /// Whether PEFT trains a head for its task type, and looks for one in the adapter's file even
    /// where `modules_to_save` names none.
    pub fn task_has_head(&self) -> bool {
        !heads_of_task(self.task_type()).is_empty()
    }

    /// The rank where no pattern says otherwise: `r`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The alpha where no pattern says otherwise: `lora_alpha`.
    pub fn alpha(&self) -> f32 {
        self.alpha as f32
    }

    /// The dropout on the input of A during training.
    pub fn dropout(&self) -> f32 {
        self.dropout as f32
    }

    /// `None` where the configuration leaves the choice to PEFT's table of model types.
    pub fn target_modules(&self) -> Option<&TargetModules> {
        self.target_modules.as_ref()
    }

    /// Modules that were trained and saved whole, such as a classification head.
    pub fn modules_to_save(&self) -> &[String] {
        &self.modules_to_save
    }

    pub fn bias(&self) -> BiasKind {
        self.bias
    }

    pub fn use_rslora(&self) -> bool {
        self.use_rslora
    }

    pub fn use_dora(&self) -> bool {
        self.use_dora
    }

    /// Whether the modules have MoSLoRA's mixer (`lora_use_mixer`).
    pub fn use_mixer(&self) -> bool {
        self.use_mixer
    }

    /// Whether B has a bias.
    pub fn lora_bias(&self) -> bool {
        self.lora_bias
    }

    /// Whether the base model stores its weights `[d_in, d_out]`, as GPT-2 does. The factors of the
    /// adapter are oriented alike either way.
    pub fn fan_in_fan_out(&self) -> bool {
        self.fan_in_fan_out
    }

    /// The rank of a module: that of the first key of `rank_pattern` that matches it, else `r`.
    pub fn rank_of(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.rank)
    }

    /// The alpha of a module: that of the first key of `alpha_pattern` that matches it, else
    /// `lora_alpha`.
    pub fn alpha_of(&self, module: &str) -> f32 {
        first_match(&self.alpha_pattern, module).unwrap_or(self.alpha) as f32
    }

    /// s of a module: alpha / r, or alpha / √r with rsLoRA.
    pub fn scaling_of(&self, module: &str) -> f32 {
        let rank = self.rank_of(module) as f64;
        let alpha = first_match(&self.alpha_pattern, module).unwrap_or(self.alpha);
        let divisor = if self.use_rslora { rank.sqrt() } else { rank };
        (alpha / divisor) as f32
    }

    /// Whether PEFT adapts layers alike that share one tensor (`ensure_weight_tying`), whichever of them
    /// `target_modules` names.
    pub fn ensures_weight_tying(&self) -> bool {
        self.ensures_weight_tying
    }

    /// The tokens of which single rows were trained (`trainable_token_indices`).
    pub(crate) fn trained_tokens(&self) -> &TrainedTokens {
        &self.trained_tokens
    }

    /// Those of `modules` that PEFT would not adapt, although there are factors of them; none without
    /// `target_modules`.
    pub fn untargeted<'m>(&self, modules: &[&'m str]) -> Vec<&'m str> {
        if self.selection.is_none() {
            return Vec::new();
        }
        let (targeted, mut others): (Vec<&str>, Vec<&'m str>) = modules
            .iter()
            .partition(|module| self.targets(module, false));
        // A table and the output layer that is tied to it follow each other.
        if self.ensures_weight_tying && targeted.into_iter().any(is_token_table) {
            others.retain(|module| !is_token_table(module));
        }
        others
    }

    /// Whether PEFT would adapt the linear layer at path `module` of the base model.
    ///
    /// `is_output_layer` says whether it is the one that `all-linear` leaves out. Without
    /// `target_modules` the answer is no.
    ///
    /// A module of a vision-language model is meant by its name in any release of transformers.
    pub fn targets(&self, module: &str, is_output_layer: bool) -> bool {
        let Some(selection) = &self.selection else {
            return false;
        };
        if selection.contains(module, is_output_layer) {
            return !earlier_names(module).any(|name| selection.excludes(&name));
        }
        !selection.excludes(module)
            && earlier_names(module).any(|name| selection.contains(&name, is_output_layer))
    }

    /// Whether none of `modules` is adapted only by a name that it had before transformers 5.
    pub(crate) fn targets_by_current_names(&self, modules: &[&str]) -> bool {
        let selected = |selection: &ModuleSelection| {
            let mut modules = modules.iter();
            modules.all(|module| {
                selection.contains(module, false)
                    || !earlier_names(module).any(|name| selection.contains(&name, false))
            })
        };
        self.selection.as_ref().is_none_or(selected)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.raw.get(field).and_then(Value::as_str)
    }
}

impl PartialEq for PeftConfig {
    /// Everything else is derived from the raw keys.
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl TargetModules {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Names(names) => json!(names),
            Self::Regex(expression) => json!(expression),
            Self::AllLinear => json!("all-linear"),
        }
    }
}

fn read_targets(fields: &ConfigFields<'_>) -> Result<Option<TargetModules>, AdapterError> {
    let Some(value) = fields.value("target_modules") else {
        return Ok(None);
    };
    match value {
        Value::String(text) if text.eq_ignore_ascii_case("all-linear") => {
            Ok(Some(TargetModules::AllLinear))
        }
        Value::String(expression) => Ok(Some(TargetModules::Regex(expression.clone()))),
        _ => match as_names(value) {
            Some(names) => Ok(Some(TargetModules::Names(names))),
            None => Err(fields.error("target_modules", "a list of strings or a string", value)),
        },
    }
}

fn read_excluded(fields: &ConfigFields<'_>) -> Result<Option<ModuleSet>, AdapterError> {
    Ok(match fields.value("exclude_modules") {
        None => None,
        Some(Value::String(expression)) if expression.is_empty() => None,
        Some(Value::String(expression)) => {
            Some(ModuleSet::Expression(ModulePattern::whole(expression)?))
        }
        Some(_) => Some(ModuleSet::Names(fields.names("exclude_modules")?)),
    })
}

fn read_layers(fields: &ConfigFields<'_>) -> Result<Option<LayerSelection>, AdapterError> {
    let indices = fields.indices("layers_to_transform")?;
    if indices.is_empty() {
        return Ok(None);
    }
    let names = fields.names("layers_pattern")?;
    let patterns = if names.iter().all(String::is_empty) {
        vec![ModulePattern::any_layer()?]
    } else {
        names
            .iter()
            .map(|name| ModulePattern::layer_of(name))
            .collect::<Result<_, _>>()?
    };
    Ok(Some(LayerSelection { indices, patterns }))
}

fn compile<T>(entries: Vec<(String, T)>) -> Result<Vec<(ModulePattern, T)>, AdapterError> {
    entries
        .into_iter()
        .map(|(key, value)| Ok((ModulePattern::suffix(&key)?, value)))
        .collect()
}

fn first_match<T: Copy>(patterns: &[(ModulePattern, T)], module: &str) -> Option<T> {
    let matches = |pattern: &ModulePattern| {
        pattern.matches(module) || earlier_names(module).any(|name| pattern.matches(&name))
    };
    patterns
        .iter()
        .find(|(pattern, _)| matches(pattern))
        .map(|&(_, value)| value)
}
