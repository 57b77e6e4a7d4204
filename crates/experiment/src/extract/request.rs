//! The request for an extraction: an `[[extract]]` table, or the flags of a command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use eigenmix_eigenlorax::{Components, ExtractOptions, Factors, SubspaceKind, Weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BadInput;
use crate::error::message;
use crate::option_names::OptionNames;

/// Extract the subspace that adapters share.
///
/// Per module, the principal components of both factors over all adapters (EigenLoRAx). Without
/// `components` and `variance` all directions are kept, so that the adapters can be reconstructed
/// exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractRequest {
    /// The adapters, all for one base model.
    pub adapters: Vec<String>,
    /// The base model of adapters in GGUF, if it is not the one that they name.
    #[serde(skip)]
    pub base: Option<String>,
    /// Where to write the subspace: a new directory.
    #[serde(skip)]
    pub out: PathBuf,
    /// The number of components to keep on each side of a module.
    #[serde(default)]
    pub components: Option<NonZeroUsize>,
    /// Keep as few components as explain this share of the variance, such as 0.95.
    #[serde(default)]
    pub variance: Option<f64>,
    /// What the columns of the bases are: directions of columns and rows of ΔW ("columns"), or whole factors
    /// of adapters of one rank ("flattened"), on which eigenlorax trains a number for each and side.
    #[serde(default)]
    pub kind: SubspaceKind,
    /// Stack the factors as they are stored, not balanced; the subspace then depends on how each
    /// adapter splits ΔW.
    #[serde(default)]
    pub raw_factors: bool,
    /// How much each adapter counts: "equal", "norms" (each by its own), or a number for each in their
    /// order; its update of a module is scaled to this norm first. Default: "equal", and "norms" with
    /// `raw_factors`.
    #[serde(default)]
    pub weights: Option<Weights>,
    /// Centre the columns first and keep the mean as an extra component.
    #[serde(default)]
    pub center: bool,
    /// Add N random columns to each side, orthonormal to the others.
    #[serde(default)]
    pub augment: usize,
    /// The seed of the random columns.
    #[serde(default)]
    pub seed: u64,
    /// Continue even if the adapters name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
    /// Continue even if an adapter has tensors that are not used.
    #[serde(default)]
    pub allow_partial: bool,
    /// How messages name these options.
    #[serde(skip)]
    pub names: OptionNames,
    /// Overwrite the directory if it exists.
    #[serde(skip)]
    pub force: bool,
}

impl ExtractRequest {
    /// The options that the request stands for.
    ///
    /// # Errors
    /// If it asks for `components` and for `variance`, or for a share that is none.
    pub fn options(&self) -> Result<ExtractOptions, BadInput> {
        let components = match (self.components, self.variance) {
            (Some(_), Some(_)) => {
                let [count, share] = ["components", "variance"].map(|key| self.names.of(key));
                return Err(BadInput(format!(
                    "{count} and {share} both say how many components to keep; leave one of them out"
                )));
            }
            (Some(count), None) => Components::Count(count.get()),
            (None, Some(share)) => Components::Variance(share),
            (None, None) => Components::All,
        };
        let checked = components.check();
        checked.map_err(|error| BadInput(message(&error)))?;
        let factors = match self.raw_factors {
            true => Factors::Raw,
            false => Factors::Balanced,
        };
        let options = ExtractOptions {
            weights: self.weights.clone().filter(|weights| !weights.is_none()),
            components,
            kind: self.kind,
            factors,
            center: self.center,
            augment: self.augment,
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
        };
        let checked = options.weights().check(self.adapters.len());
        checked.map_err(|error| BadInput(message(&error)))?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_say_how_many_components_and_an_impossible_share_are_refused() {
        let request = |table: &str| -> ExtractRequest {
            toml::from_str(&format!("adapters = [\"a\"]\n{table}")).expect("a request")
        };
        let error = request("components = 4\nvariance = 0.9").options();
        let error = error.expect_err("a refusal").to_string();
        assert!(error.contains("`components` and `variance`"), "{error}");
        for share in ["0.0", "2.0", "nan"] {
            let error = request(&format!("variance = {share}")).options();
            let error = error.expect_err("a refusal").to_string();
            assert!(error.contains("above 0 and at most 1"), "{error}");
        }
        for (table, expected) in [
            ("components = 4", Components::Count(4)),
            ("variance = 0.9", Components::Variance(0.9)),
            ("", Components::All),
        ] {
            let options = request(table).options().expect("options");
            assert_eq!(options.components, expected);
        }
    }
}
