//! The command that merges adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_experiment::{MergeRequest, MethodChoice, ScopeChoice, SpaceChoice};

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
    #[arg(long, value_parser = choice(SPACES))]
    pub(crate) space: SpaceChoice,

    /// How the updates become one.
    #[arg(long, value_parser = choice(METHODS))]
    pub(crate) method: MethodChoice,

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

    /// ties, dare-ties: the share of the entries that is kept, above 0 and up to 1 [default: 0.2].
    #[arg(long, value_name = "D")]
    pub(crate) density: Option<f64>,

    /// dare, dare-ties: the probability of an entry to be dropped [default: 0.5].
    #[arg(long, value_name = "P")]
    pub(crate) drop: Option<f64>,

    /// cart: the share of the singular values that is kept [default: 0.16].
    #[arg(long, value_name = "RHO")]
    pub(crate) rank_fraction: Option<f64>,

    /// cart: what the deviations from the mean are multiplied by [default: 1].
    #[arg(long, value_name = "C")]
    pub(crate) coefficient: Option<f64>,

    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[arg(long, value_parser = choice(SCOPES))]
    pub(crate) scope: Option<ScopeChoice>,

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

const SPACES: [(&str, SpaceChoice); 3] = [
    ("full", SpaceChoice::Full),
    ("knots", SpaceChoice::Knots),
    ("core", SpaceChoice::Core),
];

const METHODS: [(&str, MethodChoice); 7] = [
    ("average", MethodChoice::Average),
    ("sum", MethodChoice::Sum),
    ("ties", MethodChoice::Ties),
    ("dare", MethodChoice::Dare),
    ("dare-ties", MethodChoice::DareTies),
    ("tsv", MethodChoice::Tsv),
    ("cart", MethodChoice::Cart),
];

const SCOPES: [(&str, ScopeChoice); 2] =
    [("layer", ScopeChoice::Layer), ("model", ScopeChoice::Model)];

/// Takes one of several words.
fn choice<T: Copy + Send + Sync + 'static, const N: usize>(
    choices: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    let words = choices.map(|(word, _)| word);
    PossibleValuesParser::new(words).try_map(move |found| {
        let chosen = choices.iter().find(|(word, _)| *word == found);
        chosen.map(|(_, value)| *value).ok_or("unknown")
    })
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
            density: arguments.density,
            drop: arguments.drop,
            rank_fraction: arguments.rank_fraction,
            coefficient: arguments.coefficient,
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
