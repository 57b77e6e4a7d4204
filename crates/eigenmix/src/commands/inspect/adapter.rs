//! An adapter: what it changes in its base model, and by how much.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;
use std::fmt;

use eigenmix_adapter::{Dialect, LayerKind, LoraModule};
use eigenmix_data::InputContract;
use eigenmix_eigenlorax::LowRank;
use eigenmix_experiment::{ByteCount, OpenedAdapter};
use rayon::prelude::*;
use serde::Serialize;

use super::listing::{Listed, first_few};
use super::shapes::{ShapeCount, count_shapes};
use crate::layer_table::LayerTable;

#[derive(Serialize)]
pub(super) struct AdapterSummary {
    kind: &'static str,
    location: String,
    sha256: String,
    dialect: &'static str,
    /// The information in a file besides its tensors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    base_model: Option<String>,
    revision: Option<String>,
    task_type: Option<String>,
    /// What it has beyond plain LoRA: `rslora`, `dora`, `mixer`, `lora_bias`.
    variants: Vec<&'static str>,
    /// The smallest and the largest.
    ranks: [usize; 2],
    scalings: [f32; 2],
    target_modules: Option<serde_json::Value>,
    parameters: usize,
    /// The bytes of its parameters as f32.
    bytes: u64,
    shapes: Vec<ShapeCount>,
    modules: BTreeMap<String, ModuleSummary>,
    /// ‖ΔW‖ over all modules.
    norm: f64,
    heads: BTreeMap<String, Vec<usize>>,
    biases: BTreeMap<String, Vec<usize>>,
    labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompts: Vec<String>,
    /// How rows became its input in the training, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<InputContract>,
    unexpected: BTreeMap<String, &'static str>,
    untargeted: Vec<String>,
    zero_effect: Vec<String>,
}

#[derive(Serialize)]
struct ModuleSummary {
    d_out: usize,
    d_in: usize,
    rank: usize,
    scaling: f32,
    /// What it is, if not a linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    /// The Frobenius norm ‖ΔW‖, scaling included.
    norm: f64,
}

impl ModuleSummary {
    fn of(module: &LoraModule) -> Self {
        Self {
            d_out: module.d_out(),
            d_in: module.d_in(),
            rank: module.rank(),
            scaling: module.scaling,
            layer: (module.layer != LayerKind::Linear).then(|| module.layer.to_string()),
            norm: LowRank::of(module).norm(),
        }
    }
}

impl AdapterSummary {
    /// Reads all of an adapter.
    pub(super) fn read(adapter: &OpenedAdapter) -> anyhow::Result<Self> {
        let file = &adapter.file;
        let input = adapter.input()?.contract().cloned();
        let (loaded, sha256) = rayon::join(|| file.load(), || file.source().sha256);
        let loaded = loaded?;
        let modules: BTreeMap<String, ModuleSummary> = loaded
            .modules
            .par_iter()
            .map(|(path, module)| (path.clone(), ModuleSummary::of(module)))
            .collect();
        let zero_effect = loaded
            .modules
            .iter()
            .filter(|(_, module)| module.has_no_effect())
            .map(|(path, _)| path.clone())
            .collect();
        let shapes_of = |tensors: &BTreeMap<String, HostTensor>| {
            tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
                .collect()
        };

        let config = file.config();
        let dialect = file.style().dialect();
        let variants = [
            ("rslora", config.use_rslora()),
            ("dora", config.use_dora()),
            ("mixer", config.use_mixer()),
            ("lora_bias", config.lora_bias()),
        ];
        let variants = variants.into_iter().filter(|(_, is_used)| *is_used);
        let ranks = modules.values().map(|module| module.rank);
        let scalings = modules.values().map(|module| module.scaling);
        let parameters = loaded.parameter_count();
        let report = file.report();
        let unexpected = report.unexpected.iter();
        Ok(Self {
            kind: "adapter",
            location: file.location().to_owned(),
            sha256,
            dialect: dialect.name(),
            metadata: file.style().metadata().clone(),
            base_model: config.base_model().map(str::to_owned),
            revision: config.revision().map(str::to_owned),
            task_type: config.task_type().map(str::to_owned),
            variants: variants.map(|(name, _)| name).collect(),
            ranks: [ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0)],
            scalings: [
                scalings.clone().fold(f32::INFINITY, f32::min),
                scalings.fold(f32::NEG_INFINITY, f32::max),
            ],
            // Of the other dialects they are the modules themselves.
            target_modules: (dialect == Dialect::Peft)
                .then(|| config.raw().get("target_modules").cloned())
                .flatten(),
            parameters,
            bytes: (parameters * size_of::<f32>()) as u64,
            shapes: count_shapes(modules.values().map(|module| [module.d_out, module.d_in])),
            norm: modules
                .values()
                .map(|module| module.norm.powi(2))
                .sum::<f64>()
                .sqrt(),
            modules,
            heads: shapes_of(&loaded.heads),
            biases: shapes_of(&loaded.biases),
            labels: loaded.labels.map(|labels| labels.0),
            prompts: loaded
                .prompts
                .map_or_else(Vec::new, |prompts| prompts.templates().to_vec()),
            input,
            unexpected: unexpected
                .map(|tensor| (tensor.name.clone(), tensor.reason))
                .collect(),
            untargeted: report.untargeted.clone(),
            zero_effect,
        })
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "adapter `{}` for {}{}",
            self.location,
            self.base_model
                .as_deref()
                .unwrap_or("an unnamed base model"),
            in_brackets(self.task_type.as_deref()),
        )?;
        writeln!(formatter, "  method   {}", self.method())?;
        writeln!(
            formatter,
            "  modules  {}: {}",
            self.modules.len(),
            Listed(&self.shapes)
        )?;
        writeln!(
            formatter,
            "  size     {} parameters, {} as f32",
            self.parameters,
            ByteCount(self.bytes)
        )?;
        for (title, tensors) in [("heads ", &self.heads), ("biases", &self.biases)] {
            if !tensors.is_empty() {
                let tensors = tensors
                    .iter()
                    .map(|(name, shape)| format!("{name} {shape:?}"));
                writeln!(formatter, "  {title}   {}", Listed(&first_few(tensors)))?;
            }
        }
        if let Some(labels) = &self.labels {
            let names = first_few(labels.iter().cloned());
            writeln!(formatter, "  labels   {}: {}", labels.len(), Listed(&names))?;
        }
        if !self.prompts.is_empty() {
            let prompts = first_few(self.prompts.iter().cloned());
            writeln!(formatter, "  prompts  {}", Listed(&prompts))?;
        }
        let settings = self.input.as_ref().map(InputContract::settings);
        if let Some(settings) = settings.filter(|settings| !settings.is_empty()) {
            writeln!(formatter, "  input    {}", Listed(&settings))?;
        }
        for (name, reason) in &self.unexpected {
            writeln!(formatter, "  unused   `{name}` ({reason})")?;
        }
        for module in &self.untargeted {
            writeln!(
                formatter,
                "  unnamed  `{module}` (not in target_modules: PEFT ignores it)"
            )?;
        }
        if !self.zero_effect.is_empty() {
            let modules = first_few(self.zero_effect.iter().cloned());
            writeln!(
                formatter,
                "  zero     {} modules change nothing: {}",
                self.zero_effect.len(),
                Listed(&modules)
            )?;
        }
        write!(
            formatter,
            "  ‖ΔW‖     {:.4} in total, by layer:\n\n{}",
            self.norm,
            LayerTable::new(&self.norms(), |norm| format!("{norm:.4}"))
        )
    }
}

impl AdapterSummary {
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    pub(super) fn module_count(&self) -> usize {
        self.modules.len()
    }

    /// ‖ΔW‖ over all modules.
    pub(super) fn norm(&self) -> f64 {
        self.norm
    }

    /// ‖ΔW‖ of every module.
    pub(super) fn norms(&self) -> BTreeMap<String, f64> {
        let modules = self.modules.iter();
        modules
            .map(|(path, module)| (path.clone(), module.norm))
            .collect()
    }

    fn method(&self) -> String {
        let [low, high] = self.ranks;
        let rank = if low == high {
            format!("rank {low}")
        } else {
            format!("ranks {low} to {high}")
        };
        let [weak, strong] = self.scalings;
        let scaling = if weak == strong {
            format!("scaling {weak}")
        } else {
            format!("scalings {weak} to {strong}")
        };
        let targets = match &self.target_modules {
            Some(serde_json::Value::Array(names)) => {
                let names = names.iter().filter_map(|name| name.as_str());
                first_few(names.map(str::to_owned)).join(", ")
            }
            Some(serde_json::Value::String(pattern)) => format!("`{pattern}`"),
            _ if self.dialect == Dialect::Peft.name() => "left to PEFT".to_owned(),
            _ => return format!("LoRA, {rank}, {scaling}, written by {}", self.dialect),
        };
        let variants: String = self
            .variants
            .iter()
            .map(|variant| format!(" + {variant}"))
            .collect();
        format!("LoRA{variants}, {rank}, {scaling}, targets {targets}")
    }
}

fn in_brackets(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(" ({text})"))
}
