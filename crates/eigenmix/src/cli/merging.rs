//! The command that merges adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_experiment::{MergeRequest, OptionNames};
use eigenmix_merging::{MethodKind, Scope, Space, UnknownName};

use super::parameter_flags::ParameterFlags;
use super::{FormatArguments, SearchArguments};

/// Merge adapters into one.
///
/// A space decides in which coordinates updates are compared, a method how they are combined; any
/// pair works. Dense updates are formed only where a method needs single entries.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix merge datasets/quickstart/adapters/* --out merged --space core --method tsv
  eigenmix merge a b --out merged --space knots --method ties --density 0.2 --scale 0.7
  eigenmix merge datasets/quickstart/adapters/{gym,library} --out merged --space core \\
      --method ties --search --base datasets/quickstart/base \\
      --data gym=datasets/quickstart/tasks/gym --data library=datasets/quickstart/tasks/library
  eigenmix merge a b c --out merged --space full --method sum --weights 0.5,0.3,0.2 --rank 16
  eigenmix merge a b c --out merged --space core --method tsv --compress 16
  eigenmix merge style.safetensors face.safetensors --out both.safetensors --space core --method sum")]
pub(crate) struct MergeArguments {
    /// The adapters, all for one base model.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// Where to write the merged adapter: a new directory, or a .safetensors file of kohya or
    /// diffusers.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The space: dense updates (full), a shared left basis (KnOTS), or shared bases on both sides
    /// (Core Space).
    #[arg(long, value_parser = word_parser::<Space>(Space::ALL.map(Space::name)))]
    pub(crate) space: Space,

    /// How to combine the updates.
    #[arg(long, value_parser = word_parser::<MethodKind>(MethodKind::ALL.map(MethodKind::name)))]
    pub(crate) method: MethodKind,

    /// Set all non-zero singular values of the merged update to their mean, as the last step.
    #[arg(long)]
    pub(crate) isotropize: bool,

    /// λ, a factor on the result [default: 1].
    #[arg(long, value_name = "λ", allow_negative_numbers = true)]
    pub(crate) scale: Option<f64>,

    /// A weight for each adapter, separated by commas; negative ones subtract.
    // A list that begins with a negative number is no number to clap, so that it takes any value.
    #[arg(
        long,
        value_name = "W,…",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(crate) weights: Option<Vec<f64>>,

    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,

    /// ties, dare-ties: choose the largest entries per module or over the whole model [default:
    /// model in the knots space, layer otherwise].
    #[arg(long, value_parser = word_parser::<Scope>(Scope::ALL.map(Scope::name)))]
    pub(crate) scope: Option<Scope>,

    /// knots: merge the rows without their singular values and multiply by them afterwards.
    #[arg(long)]
    pub(crate) unscaled_rows: bool,

    /// First project the adapters, module by module, on a subspace of rank R that they share, so that
    /// the merge has rank R.
    #[arg(long, value_name = "R")]
    pub(crate) compress: Option<NonZeroUsize>,

    /// Truncate every module to its best approximation of this rank.
    #[arg(long, value_name = "R")]
    pub(crate) rank: Option<NonZeroUsize>,

    /// dare, dare-ties: the seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Show the result for each module.
    #[arg(long)]
    pub(crate) explain: bool,

    /// Continue even if the adapters name different base models.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Continue even if an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite DIR if it exists.
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
            base: arguments.search.base_without_search(),
            out: arguments.out.clone(),
            space: arguments.space,
            method: arguments.method,
            isotropize: arguments.isotropize,
            scale: arguments.scale,
            weights: arguments.weights.clone(),
            parameters: arguments.parameters.0.clone(),
            scope: arguments.scope,
            unscaled_rows: arguments.unscaled_rows,
            compress: arguments.compress,
            rank: arguments.rank,
            seed: arguments.seed,
            allow_base_mismatch: arguments.allow_base_mismatch,
            allow_partial: arguments.allow_partial,
            force: arguments.force,
            names: OptionNames::Flags,
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
