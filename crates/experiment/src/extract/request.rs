//! What to extract a subspace from, and how: an `[[extract]]` table, or the flags of a command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use eigenmix_eigenlorax::{Components, ExtractOptions, Factors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Extract the subspace that adapters share.
///
/// Per module, the principal components of both factors over all adapters (EigenLoRAx). Without
/// `components` and `variance` all directions are kept, so the adapters can be reconstructed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractRequest {
    /// The adapters, all for one base model.
    pub adapters: Vec<String>,
    /// Where to write the subspace: a new directory.
    #[serde(skip)]
    pub out: PathBuf,
    /// How many components a side of a module keeps.
    #[serde(default)]
    pub components: Option<NonZeroUsize>,
    /// Keep the fewest components that carry this share of the variance, such as 0.95.
    #[serde(default)]
    pub variance: Option<f64>,
    /// Stack the factors as the files have them, instead of balanced; the subspace then depends on
    /// how each adapter happened to split ΔW.
    #[serde(default)]
    pub raw_factors: bool,
    /// Subtract the mean first and keep it as a component of its own.
    #[serde(default)]
    pub center: bool,
    /// Add N random columns to each side, orthonormal to the others.
    #[serde(default)]
    pub augment: usize,
    /// The seed of the random columns.
    #[serde(default)]
    pub seed: u64,
    /// Go on although the adapters name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
    /// Go on although an adapter has tensors that are not used.
    #[serde(default)]
    pub allow_partial: bool,
    /// Replace the directory if it is there.
    #[serde(skip)]
    pub force: bool,
}

impl ExtractRequest {
    /// The options of the extraction; `components` goes before `variance`.
    pub fn options(&self) -> ExtractOptions {
        ExtractOptions {
            components: match (self.components, self.variance) {
                (Some(count), _) => Components::Count(count.get()),
                (None, Some(share)) => Components::Variance(share),
                (None, None) => Components::All,
            },
            factors: match self.raw_factors {
                true => Factors::Raw,
                false => Factors::Balanced,
            },
            center: self.center,
            augment: self.augment,
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
        }
    }
}
