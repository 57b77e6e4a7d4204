//! A subspace on disk: `subspace.safetensors` and, beside it, `subspace.json`.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_tensors::{Matrix, TensorFile, TensorOutput};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::basis::{Basis, ColumnCounts};
use crate::decomposition::deviation_from_orthonormal;
use crate::error::EigenloraxError;
use crate::flattened::Flattened;
use crate::options::ExtractOptions;
use crate::subspace::{ModuleSubspace, Subspace, SubspaceUpdate};

const TENSORS: &str = "subspace.safetensors";
const DESCRIPTION: &str = "subspace.json";

/// How far VᵀV may be from the identity in any entry. Rounding to f32 leaves less than 1e-6, to
/// bf16 less than 1e-2; a basis that is off by more than this gives wrong coefficients.
const ORTHONORMALITY_TOLERANCE: f64 = 1e-3;

/// The content of `subspace.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: String,
    base_model: Option<String>,
    options: ExtractOptions,
    sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    updates: Vec<SubspaceUpdate>,
    modules: BTreeMap<String, ModuleDescription>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleDescription {
    left: BasisDescription,
    right: BasisDescription,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flattened: Option<Flattened>,
}

/// The fields of a basis besides its tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasisDescription {
    total_variance: f64,
    principal: usize,
    has_mean: bool,
    augmented: usize,
}

impl BasisDescription {
    fn of(basis: &Basis) -> Self {
        Self {
            total_variance: basis.total_variance(),
            principal: basis.principal(),
            has_mean: basis.has_mean(),
            augmented: basis.augmented(),
        }
    }

    fn counts(&self) -> ColumnCounts {
        ColumnCounts {
            principal: self.principal,
            has_mean: self.has_mean,
            augmented: self.augmented,
        }
    }
}

impl Subspace {
    /// Writes the directory `directory`, complete or not at all: per module the tensors
    /// `MODULE/left` `[d_out, p]`, `MODULE/right` `[d_in, q]` (of a flattened subspace `[d_out · r, p]` and
    /// `[d_in · r, q]`), `MODULE/left_variance` `[p]` and
    /// `MODULE/right_variance` `[q]`, and the rest in `subspace.json`. `force` replaces an existing
    /// directory.
    ///
    /// # Errors
    /// If the directory exists and `force` isn't set, or something can't be written.
    pub fn save(&self, directory: &Path, force: bool) -> Result<(), EigenloraxError> {
        eigenmix_tensors::write_directory(directory, force, |directory| {
            eigenmix_tensors::write_tensor_file(&directory.join(TENSORS), self.tensors())?;
            let path = directory.join(DESCRIPTION);
            let mut json = serde_json::to_vec_pretty(&self.description()).map_err(|source| {
                EigenloraxError::Description {
                    path: path.clone(),
                    source,
                }
            })?;
            json.push(b'\n');
            Ok(eigenmix_tensors::write_file(&path, &json)?)
        })
    }

    /// The SHA-256 of the bases in `directory`, in hexadecimal.
    ///
    /// # Errors
    /// If their file is missing or is no file of tensors.
    pub fn sha256(directory: &Path) -> Result<String, EigenloraxError> {
        Ok(TensorFile::open(&directory.join(TENSORS))?.sha256())
    }

    /// Reads what [`Subspace::save`] wrote, and checks all of it.
    ///
    /// # Errors
    /// If a file is missing or truncated, a tensor is missing, unexpected, of another shape or not
    /// finite, or a basis isn't orthonormal.
    pub fn load(directory: &Path) -> Result<Self, EigenloraxError> {
        let path = directory.join(DESCRIPTION);
        let json = std::fs::read(&path).map_err(|source| EigenloraxError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let description: Description = serde_json::from_slice(&json)
            .map_err(|source| EigenloraxError::Description { path, source })?;

        let file = TensorFile::open(&directory.join(TENSORS))?;
        check_names(&file, &description.modules)?;
        let modules = description
            .modules
            .into_par_iter()
            .map(|(path, module)| {
                let read = |side, basis| read_basis(&file, &path, side, basis);
                let flattened = module.flattened;
                let subspace = ModuleSubspace {
                    left: read("left", module.left)?,
                    right: read("right", module.right)?,
                    flattened,
                };
                check_flattened(&file, &path, &subspace)?;
                Ok((path, subspace))
            })
            .collect::<Result<BTreeMap<String, ModuleSubspace>, EigenloraxError>>()?;
        description
            .options
            .weights()
            .check(description.sources.len())?;
        let is_columns = description.options.kind.is_columns();
        let other = modules
            .iter()
            .find(|(_, module)| module.flattened.is_none() != is_columns);
        if let Some((path, _)) = other {
            let problem = format!("`{path}` is of another kind than its options say");
            return Err(damaged(&file, problem));
        }
        Ok(Self {
            base_model: description.base_model,
            sources: description.sources,
            options: description.options,
            version: description.version,
            updates: description.updates,
            modules,
        })
    }

    fn tensors(&self) -> Vec<TensorOutput<'_>> {
        let sides = self.modules.iter().flat_map(|(path, module)| {
            [(path, "left", &module.left), (path, "right", &module.right)]
        });
        sides
            .flat_map(|(path, side, basis)| {
                let [vectors, variance] = tensor_names(path, side);
                [
                    TensorOutput::f32(vectors, basis.vectors().shape(), basis.vectors().values()),
                    TensorOutput::f32(variance, [basis.columns()], basis.variance()),
                ]
            })
            .collect()
    }

    fn description(&self) -> Description {
        let modules = self
            .modules
            .iter()
            .map(|(path, module)| {
                let sides = ModuleDescription {
                    left: BasisDescription::of(&module.left),
                    right: BasisDescription::of(&module.right),
                    flattened: module.flattened,
                };
                (path.clone(), sides)
            })
            .collect();
        Description {
            version: self.version.clone(),
            base_model: self.base_model.clone(),
            options: self.options.clone(),
            sources: self.sources.clone(),
            updates: self.updates.clone(),
            modules,
        }
    }
}

/// The names of the columns and of their variances.
fn tensor_names(path: &str, side: &str) -> [String; 2] {
    [format!("{path}/{side}"), format!("{path}/{side}_variance")]
}

/// Refuses a file with tensors that the description doesn't account for.
fn check_names(
    file: &TensorFile,
    modules: &BTreeMap<String, ModuleDescription>,
) -> Result<(), EigenloraxError> {
    if modules.is_empty() {
        return Err(damaged(file, "its description has no modules".to_owned()));
    }
    let unexpected = file.names().find(|name| {
        let described = name.rsplit_once('/').is_some_and(|(path, tensor)| {
            let known = ["left", "right", "left_variance", "right_variance"];
            known.contains(&tensor) && modules.contains_key(path)
        });
        !described
    });
    match unexpected {
        Some(name) => Err(damaged(
            file,
            format!("tensor `{name}` belongs to no module of {DESCRIPTION}"),
        )),
        None => Ok(()),
    }
}

/// Refuses vectors that are no factors of the rank that the description says.
fn check_flattened(
    file: &TensorFile,
    path: &str,
    module: &ModuleSubspace,
) -> Result<(), EigenloraxError> {
    let Some(Flattened { rank, .. }) = module.flattened else {
        return Ok(());
    };
    let widths = [module.left.width(), module.right.width()];
    match rank > 0 && widths.iter().all(|width| width.is_multiple_of(rank)) {
        true => Ok(()),
        false => Err(damaged(
            file,
            format!(
                "`{path}` has vectors of {} and {} numbers, which are no factors of rank {rank}",
                widths[0], widths[1]
            ),
        )),
    }
}

fn read_basis(
    file: &TensorFile,
    path: &str,
    side: &str,
    description: BasisDescription,
) -> Result<Basis, EigenloraxError> {
    let [vectors_name, variance_name] = tensor_names(path, side);
    let columns = description.counts().columns();
    let &[width, found] = file.shape(&vectors_name)? else {
        let shape = file.shape(&vectors_name)?;
        return Err(damaged(
            file,
            format!("`{vectors_name}` is not a matrix: shape {shape:?}"),
        ));
    };
    if found != columns || columns == 0 || columns > width {
        return Err(damaged(
            file,
            format!(
                "`{vectors_name}` is [{width}, {found}], but {DESCRIPTION} describes {columns} columns, and there must be 1 to {width}"
            ),
        ));
    }
    let variance_shape = file.shape(&variance_name)?;
    if variance_shape != [columns] {
        return Err(damaged(
            file,
            format!("`{variance_name}` has shape {variance_shape:?}, expected [{columns}]"),
        ));
    }
    let variance = file.read_finite_f32(&variance_name)?;
    if let Some(negative) = variance.iter().find(|&&value| value < 0.0) {
        return Err(damaged(
            file,
            format!("`{variance_name}` has the negative value {negative}"),
        ));
    }
    let basis = Basis::new(
        Matrix::new(width, columns, file.read_finite_f32(&vectors_name)?),
        variance,
        description.total_variance,
        description.counts(),
    );
    let deviation = deviation_from_orthonormal(basis.to_f64().as_ref());
    if deviation > ORTHONORMALITY_TOLERANCE {
        return Err(damaged(
            file,
            format!(
                "the columns of `{vectors_name}` are not orthonormal: their products deviate from the identity by {deviation:.1e}, more than rounding ({ORTHONORMALITY_TOLERANCE:.0e})"
            ),
        ));
    }
    Ok(basis)
}

fn damaged(file: &TensorFile, problem: String) -> EigenloraxError {
    EigenloraxError::DamagedSubspace {
        path: file.path().to_owned(),
        problem,
    }
}
