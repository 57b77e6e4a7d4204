//! The commands on stores of adapters.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use eigenmix_store::{CoefficientKind, Precision};

/// Pack adapters into one store: a basis that they share, and small coefficients of each.
///
/// Prints the relative error ‖ΔW − ΔŴ‖ / ‖ΔW‖ of each adapter as it comes out of the store, the largest one
/// of its heads and other tensors, and the bytes before and after. Heads, labels, input contracts, templates and tokenizers are kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix pack datasets/quickstart/adapters/* --out store
  eigenmix pack org/a org/b org/c --out store --components 32
  eigenmix pack datasets/quickstart/adapters/* --out exact --dtype f32")]
pub(crate) struct PackArguments {
    /// The adapters, all for one base model.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// The base model of adapters in GGUF [default: the one that they name].
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// Where to write the store: a new directory.
    #[arg(long, short, value_name = "STORE")]
    pub(crate) out: PathBuf,

    /// The coefficients of an adapter: full on orthonormal bases, or one number for each pair of
    /// directions.
    #[arg(long, value_enum, default_value_t = CoefficientChoice::Full)]
    pub(crate) coefficients: CoefficientChoice,

    /// The number of directions on each side of a module [default: all].
    #[arg(long, short = 'k', value_name = "R", conflicts_with = "variance")]
    pub(crate) components: Option<NonZeroUsize>,

    /// As few directions on each side as hold this share of the energy of all updates, such as 0.95.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) variance: Option<f64>,

    /// The precision of everything that is kept; int8 has a scale for each row.
    #[arg(long, value_name = "DTYPE", default_value = "int8", value_parser = precision_parser())]
    pub(crate) dtype: Precision,

    /// The precision of the bases, if another.
    #[arg(long, value_name = "DTYPE", value_parser = precision_parser())]
    pub(crate) basis_dtype: Option<Precision>,

    /// The precision of heads and other tensors that are kept whole, if another.
    #[arg(long, value_name = "DTYPE", value_parser = precision_parser())]
    pub(crate) head_dtype: Option<Precision>,

    /// Continue even if the adapters name different base models.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Continue even if an adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite STORE if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Unpack a store, or one adapter of it, into plain adapters in PEFT's form.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix unpack store --out adapters
  eigenmix unpack store#gym --out gym")]
pub(crate) struct UnpackArguments {
    /// The store that `eigenmix pack` wrote, or one adapter of it.
    #[arg(value_name = "STORE[#NAME]")]
    pub(crate) store: String,

    /// Write one adapter to DIR, all of them to DIR/NAME.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// A value of `--coefficients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CoefficientChoice {
    Full,
    Diagonal,
}

impl From<CoefficientChoice> for CoefficientKind {
    fn from(choice: CoefficientChoice) -> Self {
        match choice {
            CoefficientChoice::Full => Self::Full,
            CoefficientChoice::Diagonal => Self::Diagonal,
        }
    }
}

/// Reads the name of a precision.
fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name))
        .try_map(|word| word.parse::<Precision>())
}
