//! What is made before the arms.

use std::fmt;

use serde::Serialize;

use super::{Cell, StageKind};
use crate::cli::{ExtractArguments, MergeArguments};

/// Something that arms refer to as `KIND:NAME`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Train {
        name: String,
        cell: Cell,
    },
    Extract {
        name: String,
        arguments: ExtractArguments,
    },
    Merge {
        name: String,
        arguments: Box<MergeArguments>,
    },
}

impl Stage {
    pub(crate) fn kind(&self) -> StageKind {
        match self {
            Self::Train { .. } => StageKind::Train,
            Self::Extract { .. } => StageKind::Extract,
            Self::Merge { .. } => StageKind::Merge,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Train { name, .. } | Self::Extract { name, .. } | Self::Merge { name, .. } => {
                name
            }
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train { cell, .. } => write!(formatter, "{cell}"),
            Self::Extract { arguments, .. } => write!(
                formatter,
                "{}: the subspace of {}",
                arguments.out.display(),
                arguments.adapters.join(", ")
            ),
            Self::Merge { arguments, .. } => write!(
                formatter,
                "{}: the merge of {}",
                arguments.out.display(),
                arguments.adapters.join(", ")
            ),
        }
    }
}
