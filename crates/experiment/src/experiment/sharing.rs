//! What the processes of `mpirun` share of an experiment.

use serde::{Deserialize, Serialize};

/// What is split over several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The cells: every process runs some of them alone.
    #[default]
    Cells,
    /// The steps of each cell: all processes train one cell after the other.
    Steps,
}
