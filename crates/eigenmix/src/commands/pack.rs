//! `eigenmix pack`: many adapters in one store.

use eigenmix_eigenlorax::Components;
use eigenmix_experiment::{OptionNames, PackRequest};
use eigenmix_store::PackOptions;

use crate::cli::PackArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &PackArguments, console: &Console) -> anyhow::Result<()> {
    let components = match (arguments.components, arguments.variance) {
        (Some(count), _) => Components::Count(count.get()),
        (None, Some(share)) => Components::Variance(share),
        (None, None) => Components::All,
    };
    let dtype = arguments.dtype;
    let request = PackRequest {
        adapters: arguments.adapters.clone(),
        base: arguments.base.clone(),
        out: arguments.out.clone(),
        options: PackOptions {
            coefficients: arguments.coefficients.into(),
            components,
            basis_precision: arguments.basis_dtype.unwrap_or(dtype),
            coefficient_precision: dtype,
            head_precision: arguments.head_dtype.unwrap_or(dtype),
            allow_base_mismatch: arguments.allow_base_mismatch,
        },
        allow_partial: arguments.allow_partial,
        names: OptionNames::Flags,
        force: arguments.force,
    };
    console.result(&eigenmix_experiment::pack_adapters(&request, console)?)
}
