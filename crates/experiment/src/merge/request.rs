//! The request for a merge: a `[[merge]]` table, or the flags of a command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use eigenmix_merging::{MergeError, MergeOptions, MethodKind, ParameterValues, Scope, Space};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SearchRequest;
use super::search::{assign, grid};
use crate::BadInput;
use crate::error::message;
use crate::opened_adapter::adapter_name;
use crate::option_names::OptionNames;
use crate::output_style::OutputFormat;

/// Merge adapters into one.
///
/// A space decides in which coordinates updates are compared, a method how they are combined; any
/// pair works. Dense updates are formed only where a method needs single entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The adapters, all for one base model.
    pub adapters: Vec<String>,
    /// The base model of adapters in GGUF, if it is not the one that they name.
    #[serde(skip)]
    pub base: Option<String>,
    /// Where to write the merged adapter: a new directory, or a .safetensors file of kohya or
    /// diffusers.
    #[serde(skip)]
    pub out: PathBuf,
    /// The space: dense updates (full), a shared left basis (KnOTS), or shared bases on both sides
    /// (Core Space).
    pub space: Space,
    /// How to combine the updates.
    pub method: MethodKind,
    /// Set all non-zero singular values of the merged update to their mean, as the last step.
    #[serde(default)]
    pub isotropize: bool,
    /// λ, a factor on the result [default: 1].
    #[serde(default)]
    pub scale: Option<f64>,
    /// A weight for each adapter.
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// The method's parameters, by name.
    #[serde(flatten)]
    pub parameters: ParameterValues,
    /// ties, dare-ties: choose the largest entries per module or over the whole model [default:
    /// model in the knots space, layer otherwise].
    #[serde(default)]
    pub scope: Option<Scope>,
    /// knots: merge the rows without their singular values and multiply by them afterwards.
    #[serde(default)]
    pub unscaled_rows: bool,
    /// First project the adapters, module by module, on a subspace of rank R that they share, so that
    /// the merge has rank R.
    #[serde(default)]
    pub compress: Option<NonZeroUsize>,
    /// Truncate every module to its best approximation of this rank.
    #[serde(default)]
    pub rank: Option<NonZeroUsize>,
    /// dare, dare-ties: the seed.
    #[serde(default)]
    pub seed: u64,
    /// Continue even if the adapters name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
    /// Continue even if an adapter has tensors that are not used.
    #[serde(default)]
    pub allow_partial: bool,
    /// Overwrite existing output.
    #[serde(skip)]
    pub force: bool,
    /// How messages name these options.
    #[serde(skip)]
    pub names: OptionNames,
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
        let options = self.requested_options().options();
        options.map_err(|error| match error {
            MergeError::OptionOfOthers { option, owners } => {
                BadInput(format!("{} is for {owners} only", self.names.of(option)))
            }
            other => BadInput(message(&other)),
        })
    }

    /// Checks what can be known before the adapters are there: the options, and of a search its
    /// values and, by their names alone, whether every adapter has the data of its task.
    ///
    /// # Errors
    /// With the key that the problem is at, if it is known: as [`MergeRequest::options`]; if a value
    /// is out of range or the weights are not one for each adapter; if an adapter has no data or
    /// two, or a name is unknown; if a value is given beside the values to search.
    pub(crate) fn check(&self) -> Result<(), (Option<&'static str>, BadInput)> {
        let refused = |error: MergeError| BadInput(message(&error));
        let options = self.options().map_err(|problem| (None, problem))?;
        let count = self.adapters.len();
        let checked = options.check(count).map_err(refused);
        checked.map_err(|problem| (None, problem))?;
        let Some(search) = &self.search else {
            return Ok(());
        };
        let names = self.adapters.iter();
        let names: Vec<String> = names.map(|location| adapter_name(location, 1)).collect();
        let assigned = assign(&names, &search.data, self.names).map(drop);
        assigned.map_err(|problem| (Some("search.data"), problem))?;
        let grid = grid(self, search, &options);
        let checked = grid.and_then(|grid| grid.check(options.method, count).map_err(refused));
        checked.map_err(|problem| (Some("search"), problem))
    }

    fn requested_options(&self) -> eigenmix_merging::RequestedOptions {
        eigenmix_merging::RequestedOptions {
            space: self.space,
            method: self.method,
            parameters: self.parameters.clone(),
            isotropize: self.isotropize,
            scale: self.scale,
            weights: self.weights.clone(),
            scope: self.scope,
            unscaled_rows: self.unscaled_rows,
            compress: self.compress,
            rank: self.rank,
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
        }
    }
}
