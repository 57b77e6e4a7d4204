//! The commands on adapters and subspaces, which need no base model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use eigenmix_experiment::ExtractRequest;

use super::FormatArguments;

/// Extract the subspace that adapters share.
///
/// Per module, the principal components of both factors over all adapters (EigenLoRAx). Without
/// --components and --variance all directions are kept, so the adapters can be reconstructed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix extract adapters/* --out subspaces/clinc
  eigenmix extract org/a org/b@v2 --out shared --components 16 --augment 4
  eigenmix extract adapters/* --out paper --components 16 --raw-factors --center")]
pub(crate) struct ExtractArguments {
    /// The adapters, all for one base model.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// Where to write the subspace: a new directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// How many components a side of a module keeps.
    #[arg(long, short = 'k', value_name = "K", conflicts_with = "variance")]
    pub(crate) components: Option<NonZeroUsize>,

    /// Keep the fewest components that carry this share of the variance, such as 0.95.
    #[arg(long, value_name = "SHARE")]
    pub(crate) variance: Option<f64>,

    /// Stack the factors as the files have them, instead of balanced; the subspace then depends on
    /// how each adapter happened to split ΔW.
    #[arg(long)]
    pub(crate) raw_factors: bool,

    /// Subtract the mean first and keep it as a component of its own.
    #[arg(long)]
    pub(crate) center: bool,

    /// Add N random columns to each side, orthonormal to the others.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) augment: usize,

    /// The seed of the random columns.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Go on although the adapters name different base models.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Go on although an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Replace DIR if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

impl From<&ExtractArguments> for ExtractRequest {
    fn from(arguments: &ExtractArguments) -> Self {
        Self {
            adapters: arguments.adapters.clone(),
            out: arguments.out.clone(),
            components: arguments.components,
            variance: arguments.variance,
            raw_factors: arguments.raw_factors,
            center: arguments.center,
            augment: arguments.augment,
            seed: arguments.seed,
            allow_base_mismatch: arguments.allow_base_mismatch,
            allow_partial: arguments.allow_partial,
            force: arguments.force,
        }
    }
}

/// Measure how much of an adapter a subspace can express.
///
/// Prints the relative error ‖ΔW − ΔŴ‖ / ‖ΔW‖ per module and in all, and writes the projected
/// adapters with --out. Modules that the subspace does not have count as lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix project adapters/banking --subspace subspaces/clinc
  eigenmix project adapters/* --subspace subspaces/clinc --out projected --json")]
pub(crate) struct ProjectArguments {
    /// The adapters to project.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// The subspace that `eigenmix extract` wrote.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) subspace: PathBuf,

    /// Write the projection of one adapter to DIR, of several to DIR/NAME.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: FormatArguments,

    /// Go on although an adapter names another base model than the subspace.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Go on although an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Replace DIR if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Export a run or an adapter as plain LoRA, in its own dialect or another, or merged into its base
/// model.
///
/// In PEFT's dialect scaling and mixers are folded into the factors, so that every tool reads the same ΔW. With
/// --merge-into-base the result is a checkpoint that needs no adapter: W₀ + ΔW in the dtype of the
/// base model, the heads of the adapter in place, every other tensor bit for bit as it was.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix export runs/travel --out travel-lora
  eigenmix export runs/travel --out travel-small --rank 4
  eigenmix export runs/travel --out travel-merged --merge-into-base models/minilm
  eigenmix export style.safetensors --out style-diffusers --format diffusers")]
pub(crate) struct ExportArguments {
    /// A run, an adapter's directory or file, or a Hub id.
    #[arg(value_name = "RUN|ADAPTER")]
    pub(crate) source: String,

    /// Where to write: a new directory, or a .safetensors file of kohya or diffusers.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) format: FormatArguments,

    /// Write the base model in this directory with the adapter merged into its weights.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["format", "dtype"])]
    pub(crate) merge_into_base: Option<PathBuf>,

    /// Truncate every module to its best approximation of rank R.
    #[arg(long, short, value_name = "R")]
    pub(crate) rank: Option<NonZeroUsize>,

    /// Go on although the adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Replace DIR if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Show what is in an adapter, a subspace, a run or a safetensors file, or what several adapters
/// have in common.
///
/// With --html also as pictures, on one page that opens offline: the sizes of updates by module, how
/// much adapters have in common, how much of its sources a subspace carries, learning curves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix inspect adapters/banking
  eigenmix inspect org/name --json
  eigenmix inspect runs/travel
  eigenmix inspect adapters/* --html adapters.html
  eigenmix inspect subspaces/clinc --html subspace.html")]
pub(crate) struct InspectArguments {
    /// A directory or a .safetensors file, or the Hub id of an adapter; or several adapters.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Write pictures of it to FILE, as one page that opens offline.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Replace FILE if it is there.
    #[arg(long, short, requires = "html")]
    pub(crate) force: bool,
}
