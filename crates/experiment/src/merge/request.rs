//! What to merge, and how: a `[[merge]]` table, or the flags of a command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use eigenmix_merging::{MergeError, MergeOptions, MethodKind, ParameterValues, Scope, Space};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SearchRequest;
use crate::BadInput;
use crate::output_style::OutputFormat;

/// Merge adapters into one.
///
/// A space says in which coordinates the updates are compared, a method how they become one; every
/// pair works, and no dense update is formed where thin factors do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The adapters, all for one base model.
    pub adapters: Vec<String>,
    /// Where to write the merged adapter: a new directory, or a .safetensors file of kohya or
    /// diffusers.
    #[serde(skip)]
    pub out: PathBuf,
    /// The coordinates: dense updates, the shared left basis (KnOTS) or both (Core Space).
    pub space: Space,
    /// How the updates become one.
    pub method: MethodKind,
    /// Make every direction of the merged update equally strong, as the last step.
    #[serde(default)]
    pub isotropize: bool,
    /// λ, which multiplies the result [default: 1].
    #[serde(default)]
    pub scale: Option<f64>,
    /// A weight for each adapter.
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// The parameters of the method, each by its name.
    #[serde(flatten)]
    pub parameters: ParameterValues,
    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[serde(default)]
    pub scope: Option<Scope>,
    /// knots: merge the rows without their singular values, and multiply by these afterwards.
    #[serde(default)]
    pub unscaled_rows: bool,
    /// Truncate every module to its best approximation of this rank.
    #[serde(default)]
    pub rank: Option<NonZeroUsize>,
    /// The seed of dare.
    #[serde(default)]
    pub seed: u64,
    /// Go on although the adapters name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
    /// Go on although an adapter has tensors that are not used.
    #[serde(default)]
    pub allow_partial: bool,
    /// Replace what is there.
    #[serde(skip)]
    pub force: bool,
    /// The form of the adapter that is written.
    #[serde(skip)]
    pub format: OutputFormat,
    /// Search λ and the parameters of the method on the tasks of the adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SearchRequest")]
    pub search: Option<SearchRequest>,
}

impl MergeRequest {
    /// The options that the request stands for.
    ///
    /// # Errors
    /// If a parameter does not belong to the method, or an option to the space.
    pub fn options(&self) -> Result<MergeOptions, BadInput> {
        let options = self.of_library().options();
        options.map_err(|error| match error {
            MergeError::OptionOfOthers { option, owners } => {
                let flag = option.replace('_', "-");
                BadInput(format!("--{flag} is for {owners} only"))
            }
            other => BadInput(other.to_string()),
        })
    }

    fn of_library(&self) -> eigenmix_merging::MergeRequest {
        eigenmix_merging::MergeRequest {
            space: self.space,
            method: self.method,
            parameters: self.parameters.clone(),
            isotropize: self.isotropize,
            scale: self.scale,
            weights: self.weights.clone(),
            scope: self.scope,
            unscaled_rows: self.unscaled_rows,
            rank: self.rank,
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
        }
    }
}
