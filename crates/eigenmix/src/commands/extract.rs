//! `eigenmix extract`: from adapters to the subspace that they share, to several, or to a larger one.

use eigenmix_eigenlorax::{DEFAULT_RESIDUAL, GrowOptions};
use eigenmix_experiment::{ExtractRequest, OptionNames, UpdateRequest};

use crate::cli::ExtractArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &ExtractArguments, console: &Console) -> anyhow::Result<()> {
    let Some(subspace) = &arguments.update else {
        let request = ExtractRequest::from(arguments);
        return match arguments.clusters {
            Some(count) => {
                let summary = eigenmix_experiment::extract_clusters(&request, count, console)?;
                console.result(&summary)
            }
            None => console.result(&eigenmix_experiment::extract(&request, console)?),
        };
    };
    let request = UpdateRequest {
        subspace: subspace.clone(),
        adapters: arguments.adapters.clone(),
        base: arguments.base.clone(),
        out: arguments.out.clone(),
        options: GrowOptions {
            residual: arguments.residual.unwrap_or(DEFAULT_RESIDUAL),
            allow_base_mismatch: arguments.allow_base_mismatch,
        },
        allow_partial: arguments.allow_partial,
        names: OptionNames::Flags,
        force: arguments.force,
    };
    console.result(&eigenmix_experiment::update_subspace(&request, console)?)
}
