//! `eigenmix extract`: from adapters to the subspace that they share.

use eigenmix_experiment::ExtractRequest;

use crate::cli::ExtractArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &ExtractArguments, console: &Console) -> anyhow::Result<()> {
    let request = ExtractRequest::from(arguments);
    console.result(&eigenmix_experiment::extract(&request, console)?)
}
