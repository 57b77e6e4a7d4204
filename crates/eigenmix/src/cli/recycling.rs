//! The commands on adapters and subspaces, which need no base model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use eigenmix_eigenlorax::{ClusterCount, SubspaceKind, Weights};
use eigenmix_experiment::{ExtractRequest, OptionNames};

use super::FormatArguments;

/// Extract the subspace that adapters share.
///
/// Per module, the principal components of both factors over all adapters (EigenLoRAx). Without
/// --components and --variance all directions are kept, so that the adapters can be reconstructed
/// exactly. With --update a subspace that was extracted before grows.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix extract datasets/quickstart/adapters/* --out shared
  eigenmix extract org/a org/b@v2 --out shared --components 16 --augment 4
  eigenmix extract --update shared org/c org/d --out larger
  eigenmix extract pool/* --out bases --clusters auto --components 24
  eigenmix extract a b task-gradient --out shared --components 24 --weights 1,1,3
  eigenmix extract datasets/quickstart/adapters/* --out paper --components 16 --raw-factors --center")]
pub(crate) struct ExtractArguments {
    /// The adapters, all for one base model.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// The base model of adapters in GGUF [default: the one that they name].
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// Where to write the subspace: a new directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Take the adapters into this subspace: it grows by the directions that it lacks, and its
    /// columns stay as they are.
    #[arg(
        long,
        value_name = "SUBSPACE",
        conflicts_with_all = ["components", "variance", "kind", "raw_factors", "weights", "center", "augment", "seed"]
    )]
    pub(crate) update: Option<PathBuf>,

    /// --update: the share of an adapter's columns, by squared norm, that may stay outside the basis
    /// of a side [default: 0.05].
    #[arg(
        long,
        value_name = "SHARE",
        requires = "update",
        allow_negative_numbers = true
    )]
    pub(crate) residual: Option<f64>,

    /// Group the adapters by what they share, into N groups or as many as there are, and extract a
    /// subspace of each into DIR/cluster-1, DIR/cluster-2, …; adapters that stand alone are named.
    #[arg(long, value_name = "N|auto", conflicts_with = "update")]
    pub(crate) clusters: Option<ClusterCount>,

    /// The number of components to keep on each side of a module.
    #[arg(long, short = 'k', value_name = "K", conflicts_with = "variance")]
    pub(crate) components: Option<NonZeroUsize>,

    /// Keep as few components as explain this share of the variance, such as 0.95.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) variance: Option<f64>,

    /// What the columns of the bases are: `columns`, the directions of columns and rows of ΔW, or
    /// `flattened`, whole factors of adapters of one rank, on which eigenlorax trains a number for each
    /// and side.
    #[arg(long, value_name = "KIND", default_value = "columns")]
    pub(crate) kind: SubspaceKind,

    /// Stack the factors as they are stored, not balanced; the subspace then depends on how each
    /// adapter splits ΔW.
    #[arg(long)]
    pub(crate) raw_factors: bool,

    /// How much each adapter counts: `equal`, `norms` (each by its own), or a number for each in their
    /// order; its update of a module is scaled to this norm first [default: equal, with --raw-factors
    /// norms].
    #[arg(long, value_name = "equal|norms|W,…")]
    pub(crate) weights: Option<Weights>,

    /// Centre the columns first and keep the mean as an extra component.
    #[arg(long)]
    pub(crate) center: bool,

    /// Add N random columns to each side, orthonormal to the others.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) augment: usize,

    /// The seed of the random columns.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Continue even if the adapters name different base models.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Continue even if an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

impl From<&ExtractArguments> for ExtractRequest {
    fn from(arguments: &ExtractArguments) -> Self {
        Self {
            adapters: arguments.adapters.clone(),
            base: arguments.base.clone(),
            out: arguments.out.clone(),
            components: arguments.components,
            variance: arguments.variance,
            kind: arguments.kind,
            raw_factors: arguments.raw_factors,
            center: arguments.center,
            weights: arguments.weights.clone(),
            augment: arguments.augment,
            seed: arguments.seed,
            allow_base_mismatch: arguments.allow_base_mismatch,
            allow_partial: arguments.allow_partial,
            force: arguments.force,
            names: OptionNames::Flags,
        }
    }
}

/// Measure how much of an adapter a subspace can express.
///
/// Prints the relative error ‖ΔW − ΔŴ‖ / ‖ΔW‖ per module and in total; --out writes the projected
/// adapters. Modules missing from the subspace count as lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix project datasets/quickstart/adapters/gym --subspace shared
  eigenmix project datasets/quickstart/adapters/* --subspace shared --out projected --json")]
pub(crate) struct ProjectArguments {
    /// The adapters to project.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// The base model of adapters in GGUF [default: the one that they name].
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// The subspace that `eigenmix extract` wrote.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) subspace: PathBuf,

    /// Write the projection of one adapter to DIR, of several to DIR/NAME.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: FormatArguments,

    /// Continue even if an adapter names another base model than the subspace.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Continue even if an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Export a run or an adapter as plain LoRA, in its own dialect or another, or merged into its base
/// model.
///
/// In PEFT's dialect scaling and mixers are folded into the factors, so that every tool reads the
/// same ΔW. With --merge-into-base the result is a checkpoint that needs no adapter: W₀ + ΔW in the
/// dtype of the base model, the heads of the adapter in place, every other tensor bit for bit as it
/// was.
///
/// With --format gguf the result is one file for llama.cpp, Ollama and what is built on them, in the
/// names and the order of rows of the base model.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix export runs/ferry --out ferry-lora
  eigenmix export runs/ferry --out ferry-small --rank 4
  eigenmix export runs/ferry --out ferry-model --merge-into-base datasets/quickstart/base
  eigenmix export runs/chat --out chat.gguf --format gguf --base models/llama
  eigenmix export style.safetensors --out style-diffusers --format diffusers")]
pub(crate) struct ExportArguments {
    /// A run, an adapter's directory or file, or a Hub id.
    #[arg(value_name = "RUN|ADAPTER")]
    pub(crate) source: String,

    /// Where to write: a new directory, a .safetensors file of kohya or diffusers, or a .gguf file.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) format: FormatArguments,

    /// From or to GGUF: the base model, a directory, a .gguf file or a Hub id [default: the one that
    /// the adapter names].
    #[arg(long, value_name = "MODEL", conflicts_with = "merge_into_base")]
    pub(crate) base: Option<String>,

    /// Merge the adapter into the weights of this base model and write the checkpoint. A quantised
    /// model, also a .gguf file, is decoded, to the dtype of the model or to --dtype (f16 if a GGUF
    /// file has none).
    #[arg(long, value_name = "MODEL", conflicts_with = "format")]
    pub(crate) merge_into_base: Option<PathBuf>,

    /// Truncate every module to its best approximation of rank R.
    #[arg(long, short, value_name = "R")]
    pub(crate) rank: Option<NonZeroUsize>,

    /// Continue even if the adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Show what is in an adapter, a subspace, a run or a safetensors file, or what several adapters
/// have in common.
///
/// --html also draws charts, on one page that opens offline: the size of updates by module, what
/// adapters have in common, how much variance a subspace explains, learning curves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix inspect datasets/quickstart/adapters/gym
  eigenmix inspect org/name --json
  eigenmix inspect runs/ferry
  eigenmix inspect datasets/quickstart/adapters/* --html adapters.html
  eigenmix inspect shared --html subspace.html")]
pub(crate) struct InspectArguments {
    /// A directory, a .safetensors or .gguf file, or the Hub id of an adapter or a base model; or several
    /// adapters.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Write charts to FILE, one page that opens offline.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Overwrite FILE if it exists.
    #[arg(long, short, requires = "html")]
    pub(crate) force: bool,
}
