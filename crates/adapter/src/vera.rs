//! VeRA adapters, read as LoRA: `ΔW = diag(λ_b)·B · diag(λ_d)·A` (arXiv 2310.11454).
//!
//! All modules share the frozen projections A and B, of which each takes as much as it needs; only
//! the vectors λ_b and λ_d are trained.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{FileError, Matrix, TensorFile};
use serde_json::{Map, Value, json};

use crate::index::{FileIndex, ModuleEntry};
use crate::key::{PREFIX, Role, role_of};
use crate::module_name::without_wrappers;
use crate::{AdapterError, LayerKind, LoraModule, PeftConfig};

/// PEFT's own default for `r` of VeRA.
const DEFAULT_RANK: usize = 256;

/// Where the tensors of a VeRA adapter are in its file.
#[derive(Debug)]
pub(crate) struct VeraProjections {
    /// A: `[rank, d_in]`.
    a: String,
    /// B: `[largest d_out, rank]`.
    b: String,
    lambdas: BTreeMap<String, Lambdas>,
}

/// The names of the vectors of one module.
#[derive(Debug, Default)]
struct Lambdas {
    /// λ_b: `[d_out]`.
    b: Option<String>,
    /// λ_d: `[rank]`.
    d: Option<String>,
}

pub(crate) fn is_vera(raw: &Map<String, Value>) -> bool {
    raw.get("peft_type").and_then(Value::as_str) == Some("VERA")
}

/// The configuration of the LoRA that a VeRA adapter is read as: the same rank and targets,
/// scaling 1, and none of the keys that only VeRA has.
///
/// # Errors
/// If its projections are not in the file, or as [`PeftConfig::from_map`].
pub(crate) fn lora_config(
    mut raw: Map<String, Value>,
    path: &Path,
) -> Result<PeftConfig, AdapterError> {
    if raw.get("save_projection") == Some(&json!(false)) {
        return Err(no_projections(path, "false"));
    }
    let rank = raw.get("r").cloned().unwrap_or_else(|| json!(DEFAULT_RANK));
    raw.insert("peft_type".into(), json!("LORA"));
    raw.insert("r".into(), rank.clone());
    raw.insert("lora_alpha".into(), rank);
    if let Some(dropout) = raw.shift_remove("vera_dropout") {
        raw.insert("lora_dropout".into(), dropout);
    }
    if raw.get("bias") == Some(&json!("vera_only")) {
        raw.insert("bias".into(), json!("lora_only"));
    }
    for key in [
        "save_projection",
        "projection_prng_key",
        "d_initial",
        "init_weights",
    ] {
        raw.shift_remove(key);
    }
    PeftConfig::from_map(raw, path)
}

impl VeraProjections {
    /// Sorts the tensors of `file` by what they are and checks their shapes.
    ///
    /// The file doesn't say how wide a module is: all are taken to have the d_in of A, which is
    /// that of the widest one. Where they differ, the shape clashes with the base model or with
    /// another adapter, and whoever brings the two together says so.
    ///
    /// # Errors
    /// If a projection or a vector is missing or has a shape that doesn't fit.
    pub(crate) fn index(
        file: &TensorFile,
        config: &PeftConfig,
    ) -> Result<(FileIndex, Self), AdapterError> {
        let mut index = FileIndex::default();
        let (mut a, mut b) = (None, None);
        let mut lambdas: BTreeMap<String, Lambdas> = BTreeMap::new();
        for key in file.names() {
            let name = without_wrappers(key);
            let slot = match vera_role(&name) {
                Some((_, "A")) => &mut a,
                Some((_, "B")) => &mut b,
                Some((module, "lambda_b")) => &mut lambdas.entry(module.into()).or_default().b,
                Some((module, "lambda_d")) => &mut lambdas.entry(module.into()).or_default().d,
                _ => {
                    sort_other(&mut index, file, key, &name, config)?;
                    continue;
                }
            };
            if let Some(first) = slot.replace(key.to_owned()) {
                return Err(AdapterError::DuplicateTensor {
                    path: file.path().to_owned(),
                    first,
                    second: key.to_owned(),
                });
            }
        }
        let (Some(a), Some(b)) = (a, b) else {
            let found = "true, but the file lacks vera_A or vera_B";
            return Err(no_projections(file.path(), found));
        };
        let rank = config.rank();
        let [_, d_in] = shape(file, &a, |[rows, _]| rows == rank, "[r, d_in]")?;
        let [widest, _] = shape(file, &b, |[_, cols]| cols == rank, "[d_out, r]")?;
        for (module, lambdas) in &lambdas {
            let missing = |missing| AdapterError::IncompleteModule {
                path: file.path().to_owned(),
                module: module.clone(),
                missing,
            };
            let lambda_b = lambdas.b.as_ref().ok_or_else(|| missing("vera_lambda_b"))?;
            let lambda_d = lambdas.d.as_ref().ok_or_else(|| missing("vera_lambda_d"))?;
            let [d_out] = shape(
                file,
                lambda_b,
                |[d_out]| (1..=widest).contains(&d_out),
                "[d_out], at most the rows of vera_B",
            )?;
            let [_] = shape(file, lambda_d, |[size]| size == rank, "[r]")?;
            let keys = BTreeMap::new();
            let entry = ModuleEntry {
                keys,
                rank,
                d_in,
                d_out,
                scaling: 1.0,
                layer: LayerKind::Linear,
                is_transposed: false,
            };
            index.modules.insert(module.clone(), entry);
        }
        if index.modules.is_empty() {
            return Err(AdapterError::NoModules {
                path: file.path().to_owned(),
                found: "no vera_lambda_b and vera_lambda_d".to_owned(),
            });
        }
        Ok((index, Self { a, b, lambdas }))
    }

    /// `B' = diag(λ_b)·B` `[d_out, rank]` and `A' = diag(λ_d)·A` `[rank, d_in]` of one module.
    ///
    /// # Errors
    /// If a tensor is not of floating-point numbers or not finite.
    pub(crate) fn module(
        &self,
        file: &TensorFile,
        module: &str,
        entry: &ModuleEntry,
    ) -> Result<LoraModule, AdapterError> {
        let read = |key: &Option<String>| match key {
            Some(key) => file.read_finite_f32(key),
            None => Ok(Vec::new()),
        };
        let lambdas = &self.lambdas[module];
        let (lambda_b, lambda_d) = (read(&lambdas.b)?, read(&lambdas.d)?);
        let weighted = |key: &str, weights: &[f32], cols: usize| {
            let mut values = file.read_finite_f32(key)?;
            values.truncate(weights.len() * cols);
            for (row, weight) in values.chunks_exact_mut(cols).zip(weights) {
                row.iter_mut().for_each(|value| *value *= weight);
            }
            Ok::<_, AdapterError>(Matrix::new(weights.len(), cols, values))
        };
        Ok(LoraModule::new(
            weighted(&self.b, &lambda_b, entry.rank)?,
            weighted(&self.a, &lambda_d, entry.d_in)?,
            1.0,
        ))
    }
}

/// The module (empty for what all share) and the kind of a VeRA tensor: `A`, `B`, `lambda_b` or
/// `lambda_d`, with or without the name of the adapter after it.
fn vera_role(key: &str) -> Option<(&str, &str)> {
    let (path, tail) = key.rsplit_once(".vera_")?;
    let kind = tail.split('.').next()?;
    let module = path.strip_prefix(PREFIX).unwrap_or(path);
    match kind {
        "A" | "B" => Some(("", kind)),
        "lambda_b" | "lambda_d" => Some((module, kind)),
        _ => None,
    }
}

/// Heads, biases, and what is neither.
///
/// - name: the key without wrappers
///
/// # Errors
/// If there are two of one head or bias that are no copies.
fn sort_other(
    index: &mut FileIndex,
    file: &TensorFile,
    key: &str,
    name: &str,
    config: &PeftConfig,
) -> Result<(), AdapterError> {
    match role_of(name, config) {
        Role::Factor(..) => index.leave_out(key, "a LoRA tensor in a VeRA adapter"),
        role => index.add_other(file, role, key)?,
    }
    Ok(())
}

/// The shape of a tensor, if it has so many dimensions and they fit.
fn shape<const DIMENSIONS: usize>(
    file: &TensorFile,
    tensor: &str,
    fits: impl Fn([usize; DIMENSIONS]) -> bool,
    expected: &str,
) -> Result<[usize; DIMENSIONS], FileError> {
    let found = file.shape(tensor)?;
    <[usize; DIMENSIONS]>::try_from(found)
        .ok()
        .filter(|&dims| !dims.contains(&0) && fits(dims))
        .ok_or_else(|| FileError::TensorShape {
            path: file.path().to_owned(),
            tensor: tensor.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
}

fn no_projections(path: &Path, found: &str) -> AdapterError {
    AdapterError::UnsupportedOption {
        path: path.to_owned(),
        option: "save_projection".to_owned(),
        found: found.to_owned(),
        consequence: "the projections that all modules of VeRA share are not in the file, and only PyTorch's random generator can make them again. Load it in PEFT, set save_projection = True in its configuration, and save it anew",
    }
}
