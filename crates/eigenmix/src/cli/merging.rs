//! The command that merges adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FormatArguments, SearchArguments};

/// Merge adapters into one.
///
/// A space says in which coordinates the updates are compared, a method how they become one; every
/// pair works, and no dense update is formed where thin factors do.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[command(after_help = "\
Examples:
  eigenmix merge adapters/* --out merged --space core --method tsv
  eigenmix merge a b --out merged --space knots --method ties --density 0.2 --scale 0.7
  eigenmix merge gym library --out merged --space core --method ties --search \\
      --base models/minilm --data gym=datasets/gym --data library=datasets/library
  eigenmix merge a b c --out merged --space full --method sum --weights 0.5,0.3,0.2 --rank 16
  eigenmix merge style.safetensors face.safetensors --out both.safetensors --space core --method sum")]
pub(crate) struct MergeArguments {
    /// The adapters, all for one base model.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// Where to write the merged adapter: a new directory, or a .safetensors file of kohya or
    /// diffusers.
    #[arg(long, short, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) out: PathBuf,

    /// The coordinates: dense updates, the shared left basis (KnOTS) or both (Core Space).
    #[arg(long, value_enum)]
    pub(crate) space: SpaceChoice,

    /// How the updates become one.
    #[arg(long, value_enum)]
    pub(crate) method: MethodChoice,

    /// Make every direction of the merged update equally strong, as the last step.
    #[arg(long)]
    #[serde(default)]
    pub(crate) isotropize: bool,

    /// λ, which multiplies the result [default: 1].
    #[arg(long, value_name = "λ", allow_negative_numbers = true)]
    #[serde(default)]
    pub(crate) scale: Option<f64>,

    /// A weight for each adapter, separated by commas.
    #[arg(
        long,
        value_name = "W,…",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    #[serde(default)]
    pub(crate) weights: Option<Vec<f64>>,

    /// ties, dare-ties: the share of the entries that is kept, above 0 and up to 1 [default: 0.2].
    #[arg(long, value_name = "D")]
    #[serde(default)]
    pub(crate) density: Option<f64>,

    /// dare, dare-ties: the probability of an entry to be dropped [default: 0.5].
    #[arg(long, value_name = "P")]
    #[serde(default)]
    pub(crate) drop: Option<f64>,

    /// cart: the share of the singular values that is kept [default: 0.16].
    #[arg(long, value_name = "RHO")]
    #[serde(default)]
    pub(crate) rank_fraction: Option<f64>,

    /// cart: what the deviations from the mean are multiplied by [default: 1].
    #[arg(long, value_name = "C")]
    #[serde(default)]
    pub(crate) coefficient: Option<f64>,

    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[arg(long, value_enum)]
    #[serde(default)]
    pub(crate) scope: Option<ScopeChoice>,

    /// knots: merge the rows without their singular values, and multiply by these afterwards.
    #[arg(long)]
    #[serde(default)]
    pub(crate) unscaled_rows: bool,

    /// Truncate every module to its best approximation of this rank.
    #[arg(long, value_name = "R")]
    #[serde(default)]
    pub(crate) rank: Option<NonZeroUsize>,

    /// The seed of dare.
    #[arg(long, value_name = "S", default_value_t = 0)]
    #[serde(default)]
    pub(crate) seed: u64,

    /// Tell what was done for each module.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) explain: bool,

    /// Go on although the adapters name different base models.
    #[arg(long)]
    #[serde(default)]
    pub(crate) allow_base_mismatch: bool,

    /// Go on although an adapter has tensors that are not used.
    #[arg(long)]
    #[serde(default)]
    pub(crate) allow_partial: bool,

    /// Replace DIR if it is there.
    #[arg(long, short)]
    #[serde(skip)]
    pub(crate) force: bool,

    #[command(flatten)]
    #[serde(skip)]
    pub(crate) format: FormatArguments,

    #[command(flatten)]
    #[serde(default, skip_serializing_if = "SearchArguments::is_off")]
    pub(crate) search: SearchArguments,
}

/// A value of `--space`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SpaceChoice {
    Full,
    Knots,
    Core,
}

/// A value of `--method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MethodChoice {
    Average,
    Sum,
    Ties,
    Dare,
    DareTies,
    Tsv,
    Cart,
}

/// A value of `--scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScopeChoice {
    Layer,
    Model,
}
