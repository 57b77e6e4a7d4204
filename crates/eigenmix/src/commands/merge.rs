//! `eigenmix merge`: from several adapters to one.

use std::fmt;

use eigenmix_experiment::{MergeRequest, MergeSummary};
use eigenmix_trainer::DeviceChoice;
use serde::Serialize;

use crate::cli::MergeArguments;
use crate::console::Console;

pub(crate) fn run(
    arguments: &MergeArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let request = MergeRequest::from(arguments);
    console.result(&MergeResult {
        merged: eigenmix_experiment::merge(&request, device, console)?,
        explain: arguments.explain || console.is_verbose(),
    })
}

#[derive(Serialize)]
struct MergeResult {
    #[serde(flatten)]
    merged: MergeSummary,
    /// Whether to show the result for each module.
    #[serde(skip)]
    explain: bool,
}

impl fmt::Display for MergeResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.merged.fmt(formatter)?;
        match self.explain {
            true => write!(formatter, "\n\n{}", self.merged.modules()),
            false => Ok(()),
        }
    }
}
