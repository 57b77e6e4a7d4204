//! The command that merges adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_experiment::MergeRequest;
use eigenmix_merging::{MethodKind, Scope, Space, UnknownName};

use super::parameter_flags::ParameterFlags;
use super::{FormatArguments, SearchArguments};

/// Merge adapters into one.
///
/// A space says in which coordinates the updates are compared, a method how they become one; every
/// pair works, and no dense update is formed where thin factors do.
#[derive(Debug, Args)]
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
    pub(crate) out: PathBuf,

    /// The coordinates: dense updates, the shared left basis (KnOTS) or both (Core Space).
    #[arg(long, value_parser = word_parser::<Space>(Space::ALL.map(Space::name)))]
    pub(crate) space: Space,

    /// How the updates become one.
    #[arg(long, value_parser = word_parser::<MethodKind>(MethodKind::ALL.map(MethodKind::name)))]
    pub(crate) method: MethodKind,

    /// Make every direction of the merged update equally strong, as the last step.
    #[arg(long)]
    pub(crate) isotropize: bool,

    /// λ, which multiplies the result [default: 1].
    #[arg(long, value_name = "λ", allow_negative_numbers = true)]
    pub(crate) scale: Option<f64>,

    /// A weight for each adapter, separated by commas.
    #[arg(
        long,
        value_name = "W,…",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) weights: Option<Vec<f64>>,

    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,

    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[arg(long, value_parser = word_parser::<Scope>(Scope::ALL.map(Scope::name)))]
    pub(crate) scope: Option<Scope>,

    /// knots: merge the rows without their singular values, and multiply by these afterwards.
    #[arg(long)]
    pub(crate) unscaled_rows: bool,

    /// Truncate every module to its best approximation of this rank.
    #[arg(long, value_name = "R")]
    pub(crate) rank: Option<NonZeroUsize>,

    /// The seed of dare.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Tell what was done for each module.
    #[arg(long)]
    pub(crate) explain: bool,

    /// Go on although the adapters name different base models.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Go on although an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Replace DIR if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) format: FormatArguments,

    #[command(flatten)]
    pub(crate) search: SearchArguments,
}

impl From<&MergeArguments> for MergeRequest {
    fn from(arguments: &MergeArguments) -> Self {
        Self {
            adapters: arguments.adapters.clone(),
            out: arguments.out.clone(),
            space: arguments.space,
            method: arguments.method,
            isotropize: arguments.isotropize,
            scale: arguments.scale,
            weights: arguments.weights.clone(),
            parameters: arguments.parameters.0.clone(),
            scope: arguments.scope,
            unscaled_rows: arguments.unscaled_rows,
            rank: arguments.rank,
            seed: arguments.seed,
            allow_base_mismatch: arguments.allow_base_mismatch,
            allow_partial: arguments.allow_partial,
            force: arguments.force,
            format: arguments.format.into(),
            search: arguments.search.request(),
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
