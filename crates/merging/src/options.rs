//! The options of a merge.

use serde::{Deserialize, Serialize};

use crate::error::MergeError;
use crate::knots_space::KnotsRows;
use crate::method::{Method, Recipe};
use crate::names::by_name;
use crate::space::Space;

/// `ΔW = λ · isotropize?(back(method(w_1·τ_1, …, w_T·τ_T)))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeOptions {
    pub space: Space,
    pub method: Method,
    /// Whether all non-zero singular values of the merged update are set to their mean, as the last
    /// step.
    #[serde(default)]
    pub isotropize: bool,
    /// λ, a factor on the result.
    #[serde(default = "one")]
    pub scale: f64,
    /// w, one for each adapter, which multiply the representations; all 1 if `None`. The basis of a
    /// space is that of the unweighted adapters.
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// The range over which TIES takes its largest entries and its majority sign.
    pub scope: Scope,
    /// Which rows KnOTS merges.
    #[serde(default)]
    pub knots_rows: KnotsRows,
    /// R: the updates are first projected on a subspace of this rank a side that all adapters share,
    /// so that the merge has at most this rank; as they are if `None`.
    #[serde(default)]
    pub compress: Option<usize>,
    /// The highest rank of a merged module; as high as needed if `None`.
    #[serde(default)]
    pub rank: Option<usize>,
    /// The seed of DARE.
    #[serde(default)]
    pub seed: u64,
    /// Whether adapters that name different base models may be merged.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

/// The range over which TIES takes its top density.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each module separately, as the authors of Core Space do.
    Layer,
    /// All modules of an adapter together, as the authors of KnOTS do.
    Model,
}

by_name!(
    Scope,
    "scope",
    "Of what the largest entries are taken: each module, or the whole model."
);

impl Scope {
    pub const ALL: [Self; 2] = [Self::Layer, Self::Model];

    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Model => "model",
        }
    }
}

impl MergeOptions {
    /// Weights and scale 1, nothing truncated; the scope of the space's authors: the model for
    /// KnOTS, the layer otherwise.
    pub fn new(space: Space, method: Method) -> Self {
        Self {
            space,
            method,
            isotropize: false,
            scale: 1.0,
            weights: None,
            scope: match space {
                Space::Knots => Scope::Model,
                Space::Full | Space::Core => Scope::Layer,
            },
            knots_rows: KnotsRows::default(),
            compress: None,
            rank: None,
            seed: 0,
            allow_base_mismatch: false,
        }
    }

    /// Refuses values out of range, or unfit for this number of adapters; every merge does.
    ///
    /// # Errors
    /// If there is such a value.
    pub fn check(&self, adapters: usize) -> Result<(), MergeError> {
        self.method.check(adapters)?;
        if !self.scale.is_finite() {
            return Err(MergeError::NotANumber {
                what: "the scale",
                found: self.scale,
            });
        }
        if self.rank == Some(0) {
            return Err(MergeError::NoRank);
        }
        if self.compress == Some(0) {
            return Err(MergeError::NoCompressedRank);
        }
        if let (Some(rank), Some(compress)) = (self.rank, self.compress)
            && rank >= compress
        {
            return Err(MergeError::RankBesideCompression { rank, compress });
        }
        if self.compress.is_some()
            && self.space == Space::Full
            && matches!(self.method.recipe(), Recipe::Entries(_))
        {
            return Err(MergeError::CompressedEntries {
                method: self.method.name(),
            });
        }
        let Some(weights) = &self.weights else {
            return Ok(());
        };
        if weights.len() != adapters {
            return Err(MergeError::WeightCount {
                found: weights.len(),
                adapters,
            });
        }
        match weights.iter().find(|weight| !weight.is_finite()) {
            Some(&found) => Err(MergeError::NotANumber {
                what: "a weight",
                found,
            }),
            None => Ok(()),
        }
    }

    /// w, one for each adapter.
    pub(crate) fn all_weights(&self, adapters: usize) -> Vec<f64> {
        self.weights.clone().unwrap_or_else(|| vec![1.0; adapters])
    }
}

fn one() -> f64 {
    1.0
}
