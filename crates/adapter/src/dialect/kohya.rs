//! kohya's sd-scripts and LyCORIS: one file, `NAME.lora_down.weight` `[rank, d_in]`,
//! `NAME.lora_up.weight` `[d_out, rank]` and `NAME.alpha`, from which s = alpha / rank.

use std::collections::BTreeMap;

use eigenmix_tensors::TensorFile;

use super::Reading;
use super::kohya_names::{name_of, path_of};
use crate::index::{FileIndex, ModuleEntry, ModuleParts, Orientation};
use crate::key::Part;
use crate::single_file::{Writing, factors_of};
use crate::style::{AlphaTensor, ModuleStyle, read_alpha};
use crate::{Adapter, AdapterError, Dialect, PeftConfig, Style};

const PREFIXES: [&str; 3] = ["lora_unet_", "lora_te", "lycoris_"];

/// Other methods that the same programs write, by what follows the name of a module.
const OTHER_METHODS: [(&str, &str); 12] = [
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("oft_", "OFT"),
    ("boft_", "BOFT"),
    ("dora_scale", "DoRA"),
    ("on_input", "IA3"),
    ("a1.", "GLoRA"),
    ("bm.", "GLoRA"),
    ("diff", "a full difference of weights"),
    ("w_norm", "trained norms"),
    ("b_norm", "trained norms"),
    ("scalar", "LyCORIS with use_scalar"),
];

pub(super) fn recognises(file: &TensorFile) -> bool {
    file.names()
        .any(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// The tensors of one name.
#[derive(Default)]
struct Found {
    keys: BTreeMap<Part, String>,
    alpha: Option<String>,
}

/// # Errors
/// If another method than LoRA is in the file, a module is incomplete, or two names are read as
/// the same module.
pub(super) fn read(file: &TensorFile) -> Result<Reading, AdapterError> {
    let mut index = FileIndex::default();
    let mut found: BTreeMap<&str, Found> = BTreeMap::new();
    for key in file.names() {
        let Some((name, tail)) = key.split_once('.') else {
            index.leave_out(key, "no tensor of a LoRA in kohya's naming");
            continue;
        };
        let part = match tail {
            "lora_down.weight" => Part::A,
            "lora_up.weight" => Part::B,
            "lora_mid.weight" => Part::Mid,
            "alpha" => {
                found.entry(name).or_default().alpha = Some(key.to_owned());
                continue;
            }
            _ => {
                let other = OTHER_METHODS
                    .iter()
                    .find(|(mark, _)| tail.starts_with(mark));
                if let Some((_, method)) = other {
                    return Err(AdapterError::UnsupportedTensor {
                        path: file.path().to_owned(),
                        tensor: key.to_owned(),
                        method,
                    });
                }
                index.leave_out(key, "no tensor of a LoRA in kohya's naming");
                continue;
            }
        };
        let keys = &mut found.entry(name).or_default().keys;
        keys.insert(part, key.to_owned());
    }

    let mut style = Style::new(Dialect::Kohya);
    style.metadata = file.metadata().clone();
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, found) in found {
        let path = path_of(name).unwrap_or_else(|| name.to_owned());
        if let Some(first) = names.insert(path.clone(), name) {
            return Err(AdapterError::SameModule {
                path: file.path().to_owned(),
                first: first.to_owned(),
                second: name.to_owned(),
                module: path,
            });
        }
        let alpha = found.alpha.map(|key| read_alpha(file, key)).transpose()?;
        let (entry, module) = entry(file, name, found.keys, alpha)?;
        style.modules.insert(path.clone(), module);
        index.modules.insert(path, entry);
    }
    index.require_modules(file)?;
    let base = file.metadata().get("ss_base_model_version");
    let base = base.map(String::as_str).filter(|base| !base.is_empty());
    Ok(Reading {
        config: PeftConfig::of_entries(base, &index.modules)?,
        index,
        vera: None,
        style,
    })
}

fn entry(
    file: &TensorFile,
    name: &str,
    keys: BTreeMap<Part, String>,
    alpha: Option<AlphaTensor>,
) -> Result<(ModuleEntry, ModuleStyle), AdapterError> {
    let parts = ModuleParts {
        keys,
        scaling: 1.0,
        orientation: Orientation::Usual,
    };
    let mut entry = ModuleEntry::check(file, name, parts, spelling)?;
    if let Some(alpha) = &alpha {
        entry.scaling = alpha.scaling(entry.rank);
    }
    let style = ModuleStyle {
        a: entry.keys[&Part::A].clone(),
        b: entry.keys[&Part::B].clone(),
        alpha,
        rank: entry.rank,
        scaling: entry.scaling,
    };
    Ok((entry, style))
}

/// The tensors of `adapter`: under the names that `style` has for its modules, the others under
/// those that surely mean them. Alpha stays as it was where rank and scaling did. Where no module was in a
/// file before, all get one alpha and B the rest of the scaling: diffusers loses alphas that differ.
///
/// # Errors
/// If a module has no sure name, or more than a low-rank update.
pub(super) fn write<'a>(adapter: &'a Adapter, style: &Style) -> Result<Writing<'a>, AdapterError> {
    let mut writing = Writing::new(style.metadata.clone());
    let mut modules = Vec::new();
    for (path, module) in &adapter.modules {
        let path_in_pipeline = style.path_in_pipeline(path)?;
        let known = match style.modules.get(path) {
            Some(known) => known.clone(),
            None => new_names(&path_in_pipeline)?,
        };
        let folded = factors_of(path, module, Dialect::Kohya)?;
        let alpha = known.alpha_of(folded.rank(), folded.scaling);
        modules.push((known, folded, alpha));
    }
    let is_new = style.modules.is_empty();
    let mut all = modules.iter().map(|(_, _, alpha)| *alpha);
    let shared = all.find(|&alpha| is_new && alpha != 0.0);
    let mut alphas = Vec::new();
    for (known, mut folded, mut alpha) in modules {
        if let Some(shared) = shared.filter(|&shared| shared != alpha) {
            let module = folded.to_mut();
            module.b = module
                .b
                .clone()
                .scaled((f64::from(alpha) / f64::from(shared)) as f32);
            module.scaling = (f64::from(shared) / module.rank() as f64) as f32;
            alpha = shared;
        }
        alphas.push((folded.rank(), alpha));
        let scaling = folded.scaling;
        writing.push_factors(&known, folded);
        // Without alpha, readers take it to be the rank.
        if known.alpha.is_some() || scaling != 1.0 {
            writing.push_alpha(known.alpha_tensor(alpha));
        }
    }
    note_rank(&mut writing.metadata, &alphas);
    Ok(writing)
}

/// The names of a module that no file had before.
fn new_names(path: &str) -> Result<ModuleStyle, AdapterError> {
    let name = name_of(path).ok_or_else(|| AdapterError::NotConvertible {
        module: path.to_owned(),
        dialect: Dialect::Kohya,
        problem: "its names have `_` for `.`, and only those of the UNet and the CLIP text encoders of Stable Diffusion can be read back for certain".to_owned(),
    })?;
    let key = |part| format!("{name}.{}", spelling(part));
    Ok(ModuleStyle {
        a: key(Part::A),
        b: key(Part::B),
        alpha: Some(AlphaTensor::new(format!("{name}.alpha"))),
        rank: 0,
        scaling: f32::NAN,
    })
}

/// Corrects what the metadata say of rank and alpha, `Dynamic` where modules differ, as kohya's own
/// tools do. What never was there is not added.
fn note_rank(metadata: &mut BTreeMap<String, String>, alphas: &[(usize, f32)]) {
    let Some(&(rank, alpha)) = alphas.first() else {
        return;
    };
    let say = |is_same: bool, value: String| match is_same {
        true => value,
        false => "Dynamic".to_owned(),
    };
    let rank = say(alphas.iter().all(|other| other.0 == rank), rank.to_string());
    let alpha = say(
        alphas.iter().all(|other| other.1 == alpha),
        format!("{alpha:?}"),
    );
    for (key, value) in [("ss_network_dim", rank), ("ss_network_alpha", alpha)] {
        if let Some(old) = metadata.get_mut(key)
            && !is_same_number(old, &value)
            && old != "Dynamic"
        {
            *old = value;
        }
    }
}

/// `8` and `8.0` say the same.
fn is_same_number(left: &str, right: &str) -> bool {
    let numbers = (left.parse::<f64>(), right.parse::<f64>());
    matches!(numbers, (Ok(left), Ok(right)) if left == right)
}

fn spelling(part: Part) -> &'static str {
    match part {
        Part::A => "lora_down.weight",
        Part::B => "lora_up.weight",
        _ => "lora_mid.weight",
    }
}
