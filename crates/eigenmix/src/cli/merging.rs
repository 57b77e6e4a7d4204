//! The command that merges adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_merging::{MergeRequest, MethodKind, Scope, Space, UnknownName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameter_flags::ParameterFlags;
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
    #[arg(long, value_parser = word_parser::<Space>(Space::ALL.map(Space::name)))]
    pub(crate) space: Space,

    /// How the updates become one.
    #[arg(long, value_parser = word_parser::<MethodKind>(MethodKind::ALL.map(MethodKind::name)))]
    pub(crate) method: MethodKind,

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

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) parameters: ParameterFlags,

    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[arg(long, value_parser = word_parser::<Scope>(Scope::ALL.map(Scope::name)))]
    #[serde(default)]
    pub(crate) scope: Option<Scope>,

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

impl MergeArguments {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> MergeRequest {
        MergeRequest {
            space: self.space,
            method: self.method,
            parameters: self.parameters.0.clone(),
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

/// Reads one of `words`, the names of all values of `T`.
fn word_parser<T>(words: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownName> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}
