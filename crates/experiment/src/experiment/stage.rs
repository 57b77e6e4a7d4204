//! The stages of an experiment.

use std::fmt;

use serde::Serialize;

use super::{Cell, StageKind};
use crate::extract::ExtractRequest;
use crate::merge::MergeRequest;

/// A stage, which arms refer to as `KIND:NAME`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Train {
        name: String,
        cell: Cell,
    },
    Extract {
        name: String,
        // The name in stamps that earlier releases left.
        #[serde(rename = "arguments")]
        request: ExtractRequest,
    },
    Merge {
        name: String,
        #[serde(rename = "arguments")]
        request: Box<MergeRequest>,
    },
}

impl Stage {
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Train { .. } => StageKind::Train,
            Self::Extract { .. } => StageKind::Extract,
            Self::Merge { .. } => StageKind::Merge,
        }
    }

    pub fn name(&self) -> &str {
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
            Self::Extract { request, .. } => write!(
                formatter,
                "{}: the subspace of {}",
                request.out.display(),
                request.adapters.join(", ")
            ),
            Self::Merge { request, .. } => write!(
                formatter,
                "{}: the merge of {}",
                request.out.display(),
                request.adapters.join(", ")
            ),
        }
    }
}
