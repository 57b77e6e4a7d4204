//! The dialect in which an adapter is written.

use clap::{Args, ValueEnum};
use eigenmix_adapter::Dialect;
use eigenmix_experiment::OutputFormat;
use eigenmix_tensors::Dtype;

/// The form of an adapter that is written.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormatArguments {
    /// The dialect to write [default: that of the adapters].
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatChoice>,

    /// kohya, diffusers, mlx, gguf: the dtype of the factors [default: that of the file if it is exact,
    /// otherwise f32].
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DtypeChoice>,
}

/// A value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatChoice {
    Peft,
    Kohya,
    Diffusers,
    Mlx,
    Gguf,
}

/// A value of `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeChoice {
    F32,
    F16,
    Bf16,
}

impl From<FormatArguments> for OutputFormat {
    fn from(arguments: FormatArguments) -> Self {
        Self {
            dialect: arguments.format.map(Into::into),
            dtype: arguments.dtype.map(Into::into),
            gguf: None,
        }
    }
}

impl From<FormatChoice> for Dialect {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Peft => Self::Peft,
            FormatChoice::Kohya => Self::Kohya,
            FormatChoice::Diffusers => Self::Diffusers,
            FormatChoice::Mlx => Self::Mlx,
            FormatChoice::Gguf => Self::Gguf,
        }
    }
}

impl From<DtypeChoice> for Dtype {
    fn from(choice: DtypeChoice) -> Self {
        match choice {
            DtypeChoice::F32 => Self::F32,
            DtypeChoice::F16 => Self::F16,
            DtypeChoice::Bf16 => Self::BF16,
        }
    }
}
