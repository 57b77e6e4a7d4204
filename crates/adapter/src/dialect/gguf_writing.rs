//! A LoRA adapter written as GGUF, as llama.cpp and Ollama load it.

use std::borrow::Cow;
use std::path::Path;

use eigenmix_gguf::{GgufOutput, GgufValue, write_gguf};
use eigenmix_quant::Encoding;
use eigenmix_tensors::{Dtype, FileError, encode, is_exact};

use super::gguf_file::{ADAPTER_TYPE, ALPHA, ARCHITECTURE, BASE_MODEL, TABLE, TYPE};
use crate::gguf_base::{HeadProblem, RowsFor, reordered};
use crate::single_file::factors_of;
use crate::style::DtypeChoice;
use crate::{Adapter, AdapterError, Dialect, GgufBase, LayerKind, LoraModule, SaveOptions, Style};

/// Where it stands how the adapter was made.
const PROVENANCE: &str = "eigenmix.provenance";

/// What may be kept of the metadata of a file that is written again: texts that name and describe it.
const KEPT: [&str; 12] = [
    "general.name",
    "general.author",
    "general.version",
    "general.organization",
    "general.finetune",
    "general.basename",
    "general.description",
    "general.license",
    "general.license.name",
    "general.license.link",
    "general.url",
    "general.repo_url",
];

/// What llama.cpp says of the whole of a file by its type of numbers.
const ALL_F32: u32 = 0;
const MOSTLY_F16: u32 = 1;
const MOSTLY_BF16: u32 = 32;
const QUANTISATION_VERSION: u32 = 2;

/// A factor with its name in the file.
struct Factor<'a> {
    name: String,
    shape: [usize; 2],
    values: Cow<'a, [f32]>,
}

/// Writes the file `path`: plain factors in the names and the order of rows of the base model's GGUF
/// file. There is one alpha for all modules; where scalings are not alpha / rank with one alpha, they
/// are multiplied into B, at equal ΔW.
///
/// # Errors
/// If the file exists and `options.force` is not set, the base model is not known, a module has no
/// place in such a file, a value is not finite or too large for its dtype, or it cannot be written.
pub(crate) fn save(
    adapter: &Adapter,
    path: &Path,
    style: &Style,
    options: &SaveOptions,
) -> Result<(), AdapterError> {
    let base = style.gguf.ok_or(AdapterError::NoGgufBase)?;
    let modules = adapter
        .modules
        .iter()
        .map(|(path, module)| Ok((path.as_str(), factors_of(path, module, Dialect::Gguf)?)))
        .collect::<Result<Vec<_>, AdapterError>>()?;
    let alpha = common_alpha(modules.iter().map(|(_, module)| module.as_ref()));
    let mut factors = Vec::with_capacity(2 * modules.len());
    for (module_path, module) in modules {
        push_module(&mut factors, &base, module_path, with_alpha(module, alpha))?;
    }
    for factor in &factors {
        if let Some(position) = factor.values.iter().position(|value| !value.is_finite()) {
            return Err(FileError::NotFinite {
                path: path.to_owned(),
                tensor: factor.name.clone(),
                value: factor.values[position],
                position,
            }
            .into());
        }
    }
    let dtype = dtype_of(style.dtype, &factors);
    if path.symlink_metadata().is_ok() && !options.force {
        return Err(FileError::AlreadyExists(path.to_owned()).into());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
    }
    let (encoding, file_type) = match dtype {
        Dtype::F16 => (Encoding::F16, MOSTLY_F16),
        Dtype::BF16 => (Encoding::Bf16, MOSTLY_BF16),
        _ => (Encoding::F32, ALL_F32),
    };
    let tensors = factors
        .iter()
        .map(|factor| {
            let bytes = encode(&factor.name, &factor.values, dtype)?;
            Ok(GgufOutput::new(
                factor.name.as_str(),
                factor.shape,
                encoding,
                bytes,
            ))
        })
        .collect::<Result<Vec<_>, FileError>>()?;
    let metadata = metadata_of(adapter, path, style, &base, alpha, file_type, options)?;
    Ok(write_gguf(path, &metadata, &tensors)?)
}

/// The alpha that most modules have, alpha = s · rank.
fn common_alpha<'a>(modules: impl Iterator<Item = &'a LoraModule>) -> f32 {
    let mut counts: Vec<(f32, usize)> = Vec::new();
    for module in modules {
        let alpha = (f64::from(module.scaling) * module.rank() as f64) as f32;
        match counts.iter_mut().find(|(known, _)| *known == alpha) {
            Some((_, count)) => *count += 1,
            None => counts.push((alpha, 1)),
        }
    }
    // 0 would mean a scaling of 1.
    counts.retain(|(alpha, _)| alpha.is_finite() && *alpha != 0.0);
    let most = counts.iter().map(|&(_, count)| count).max();
    let first = counts.iter().find(|(_, count)| Some(*count) == most);
    first.map_or(1.0, |&(alpha, _)| alpha)
}

/// The same update with the scaling alpha / rank: what is missing is multiplied into B.
fn with_alpha(module: Cow<'_, LoraModule>, alpha: f32) -> Cow<'_, LoraModule> {
    let scaling = (f64::from(alpha) / module.rank() as f64) as f32;
    if module.scaling == scaling {
        return module;
    }
    let mut module = module.into_owned();
    let factor = (f64::from(module.scaling) / f64::from(scaling)) as f32;
    module.b = module.b.scaled(factor);
    module.scaling = scaling;
    Cow::Owned(module)
}

fn push_module<'a>(
    factors: &mut Vec<Factor<'a>>,
    base: &GgufBase,
    path: &str,
    module: Cow<'a, LoraModule>,
) -> Result<(), AdapterError> {
    let refuse = |problem: String| AdapterError::NotConvertible {
        module: path.to_owned(),
        dialect: Dialect::Gguf,
        problem,
    };
    let family = base.family.name();
    // An adapter that was trained without the output layer has paths without the model's name.
    let name_of = |path: &str| base.family.gguf_name(&format!("{path}.weight"));
    let name = name_of(path)
        .or_else(|| name_of(&format!("model.{path}")))
        .filter(|name| !name.ends_with("_norm.weight"))
        .ok_or_else(|| refuse(format!("models of the family {family} have no such module")))?;
    if base.is_tied && (name == TABLE || name == "output.weight") {
        return Err(refuse(
            "the base model's output layer is its table of tokens, and llama.cpp has no update of one of the two there".to_owned(),
        ));
    }
    if (module.layer == LayerKind::Embedding) != (name == TABLE) {
        return Err(refuse(format!("it is {} here", module.layer)));
    }
    let order = match base.row_order(path, module.d_out()) {
        Ok(order) => order,
        Err(HeadProblem::Unknown) => return Err(AdapterError::NoGgufBase),
        Err(HeadProblem::Rows { rows, heads }) => {
            return Err(refuse(format!(
                "its {rows} rows are not {heads} heads of an even size, as the base model has them"
            )));
        }
    };
    let module = match order {
        Some(order) => Cow::Owned(reordered(module.into_owned(), &order, RowsFor::File)),
        None => module,
    };
    let (a, b) = match module {
        Cow::Borrowed(module) => (Cow::Borrowed(&module.a), Cow::Borrowed(&module.b)),
        Cow::Owned(module) => (Cow::Owned(module.a), Cow::Owned(module.b)),
    };
    // The factors of a table have each other's names, see `gguf_file`.
    let (a, b) = match name == TABLE {
        true => (b, Cow::Owned(a.transposed())),
        false => (a, b),
    };
    for (part, matrix) in [("lora_a", a), ("lora_b", b)] {
        factors.push(Factor {
            name: format!("{name}.{part}"),
            shape: matrix.shape(),
            values: crate::named_tensor::values_of(matrix),
        });
    }
    Ok(())
}

fn dtype_of(choice: DtypeChoice, factors: &[Factor<'_>]) -> Dtype {
    match choice {
        DtypeChoice::Asked(dtype) => dtype,
        // bf16 only where it is asked for: not all of llama.cpp's backends multiply in it.
        DtypeChoice::IfExact(Dtype::F16)
            if factors
                .iter()
                .all(|factor| is_exact(&factor.values, Dtype::F16)) =>
        {
            Dtype::F16
        }
        DtypeChoice::IfExact(_) => Dtype::F32,
    }
}

fn metadata_of(
    adapter: &Adapter,
    path: &Path,
    style: &Style,
    base: &GgufBase,
    alpha: f32,
    file_type: u32,
    options: &SaveOptions,
) -> Result<Vec<(String, GgufValue)>, AdapterError> {
    let mut metadata: Vec<(String, GgufValue)> = Vec::new();
    let mut put = |key: &str, value: GgufValue| metadata.push((key.to_owned(), value));
    put(ARCHITECTURE, base.family.name().into());
    put(TYPE, "adapter".into());
    put(ADAPTER_TYPE, "lora".into());
    let kept = KEPT
        .iter()
        .filter_map(|key| style.metadata.get_key_value(*key));
    let mut has_name = false;
    for (key, text) in kept {
        has_name |= key == "general.name";
        put(key, text.as_str().into());
    }
    if !has_name {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        put("general.name", name.as_ref().into());
    }
    if let Some(model) = adapter.config.base_model().filter(|name| !name.is_empty()) {
        let is_path = Path::new(model).exists() || !is_hub_id(model);
        let name = match is_path {
            true if !model.contains('/') => format!("./{model}"),
            _ => model.to_owned(),
        };
        put(BASE_MODEL, model.into());
        put("general.base_model.count", 1u32.into());
        put("general.base_model.0.name", name.into());
        if !is_path {
            let address = format!("https://huggingface.co/{model}");
            put("general.base_model.0.repo_url", address.into());
        }
    }
    put(ALPHA, alpha.into());
    put("general.file_type", file_type.into());
    put("general.quantization_version", QUANTISATION_VERSION.into());
    if let Some(provenance) = &options.provenance {
        put(PROVENANCE, provenance.to_json(path)?.into());
    }
    Ok(metadata)
}

/// Whether a name has the form `org/name`.
fn is_hub_id(name: &str) -> bool {
    let allowed = |part: &str| {
        let mut letters = part.chars();
        !part.starts_with('.')
            && !part.is_empty()
            && letters.all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    name.split_once('/')
        .is_some_and(|(owner, name)| allowed(owner) && allowed(name))
}
