//! The subspace that a set of adapters shares.

use std::collections::BTreeMap;

use eigenmix_adapter::Source;
use serde::{Deserialize, Serialize};

use crate::basis::Basis;
use crate::error::EigenloraxError;
use crate::flattened::Flattened;
use crate::growth::GrowOptions;
use crate::options::ExtractOptions;

/// Orthonormal bases U and V of both sides of every module: adapters of the base model are near
/// `ΔW = U · M · Vᵀ`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subspace {
    /// The base model that the adapters name, if one does.
    pub base_model: Option<String>,
    /// The adapters it was extracted from.
    pub sources: Vec<Source>,
    /// How it was extracted.
    pub options: ExtractOptions,
    /// The release of Eigenmix that extracted it.
    pub version: String,
    /// How it has grown since, the first update first: the last of `sources` are theirs.
    pub updates: Vec<SubspaceUpdate>,
    /// The modules, by their path in the base model.
    pub modules: BTreeMap<String, ModuleSubspace>,
}

/// One update of a subspace by further adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubspaceUpdate {
    /// How many adapters came in.
    pub adapters: usize,
    pub options: GrowOptions,
    /// The release of Eigenmix that did it.
    pub version: String,
}

/// The bases of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSubspace {
    /// U: `[d_out, p]`; flattened `[d_out · r, p]`.
    pub left: Basis,
    /// V: `[d_in, q]`; flattened `[d_in · r, q]`.
    pub right: Basis,
    /// If the columns are whole factors, how they are laid out.
    pub flattened: Option<Flattened>,
}

impl ModuleSubspace {
    /// Bases of the columns and of the rows of ΔW.
    pub(crate) fn of_columns(left: Basis, right: Basis) -> Self {
        Self {
            left,
            right,
            flattened: None,
        }
    }

    /// # Panics
    /// If the columns are whole factors: a mixer stands between directions of columns and of rows.
    pub(crate) fn assert_columns(&self) {
        assert!(
            self.flattened.is_none(),
            "a flattened subspace has no mixer between its sides"
        );
    }

    /// `[d_out, d_in]`: the shape of the updates it describes.
    pub fn shape(&self) -> [usize; 2] {
        let rank = self.flattened.map_or(1, |flattened| flattened.rank);
        [self.left.width() / rank, self.right.width() / rank]
    }

    /// The same subspace with at most `count` principal components per side, the strongest. The
    /// other columns of either basis stay, as [`Basis::with_components`] says.
    pub fn with_components(&self, count: usize) -> Self {
        Self {
            left: self.left.with_components(count),
            right: self.right.with_components(count),
            flattened: self.flattened,
        }
    }
}

impl Subspace {
    /// The bases for an update of the module at `path` with the shape `[d_out, d_in]`.
    ///
    /// # Errors
    /// If the subspace doesn't have the module, or has it in another shape.
    pub fn module_for(
        &self,
        path: &str,
        shape: [usize; 2],
    ) -> Result<&ModuleSubspace, EigenloraxError> {
        let module = self
            .modules
            .get(path)
            .ok_or_else(|| EigenloraxError::NoSuchModule {
                module: path.to_owned(),
                modules: self.modules.len(),
                example: self.modules.keys().next().cloned().unwrap_or_default(),
            })?;
        if module.shape() != shape {
            return Err(EigenloraxError::SubspaceShape {
                module: path.to_owned(),
                expected: module.shape(),
                found: shape,
            });
        }
        Ok(module)
    }

    /// How many bytes its bases and variances take, in a file as in memory.
    pub fn bytes(&self) -> usize {
        self.modules
            .values()
            .flat_map(|module| [&module.left, &module.right])
            .map(|side| (side.width() + 1) * side.columns() * size_of::<f32>())
            .sum()
    }
}
