//! From adapters to the subspace that they share.

mod clusters;
mod clusters_summary;
mod request;
mod summary;
mod update;
mod update_summary;

use std::time::Instant;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{AdapterReport, ExtractOptions, ExtractReport, Extraction, ModuleReport};

pub use self::clusters::extract_clusters;
pub use self::clusters_summary::ClustersSummary;
pub use self::request::ExtractRequest;
pub use self::summary::ExtractionSummary;
pub use self::update::{UpdateRequest, update_subspace};
pub use self::update_summary::UpdateSummary;
use crate::ExperimentError;
use crate::destination::Destination;
use crate::listener::Listener;
use crate::opened_adapter::OpenedAdapter;
use crate::option_names::OptionNames;

/// Extracts the subspace, writes it to `request.out` and returns the result to print.
///
/// # Errors
/// If the adapters do not fit together, or the output cannot be written.
pub fn extract(
    request: &ExtractRequest,
    listener: &dyn Listener,
) -> Result<ExtractionSummary, ExperimentError> {
    let start = Instant::now();
    let options = request.options()?;
    let destination = Destination::new(&request.out, request.force)?;
    let adapters = destination.open_inputs(
        &request.adapters,
        request.base.as_deref(),
        request.allow_partial,
        request.names,
        listener,
    )?;
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let Extraction { subspace, report } = of_files(&files, &options, listener)?;
    subspace.save(destination.path(), destination.force())?;
    report_notes(&report, request.names, listener);
    let source_bytes = adapters.iter().map(OpenedAdapter::bytes).sum();
    let mut extracted = ExtractionSummary::new(&request.out, &subspace, report, source_bytes);
    extracted.seconds = start.elapsed().as_secs_f64();
    Ok(extracted)
}

fn of_files(
    files: &[&AdapterFile],
    options: &ExtractOptions,
    listener: &dyn Listener,
) -> Result<Extraction, ExperimentError> {
    let modules = files.iter().map(|file| file.module_paths().count()).max();
    let progress = listener.progress("extracting", modules.unwrap_or(0), "modules");
    let extracted = eigenmix_eigenlorax::extract(files, options, &|_, _| progress.advance());
    Ok(extracted?)
}

/// Reports what in the subspace may not be as expected.
fn report_notes(report: &ExtractReport, names: OptionNames, listener: &dyn Listener) {
    for adapter in &report.adapters {
        report_adapter(adapter, listener);
    }
    if let Some(module) = report.left_out.first() {
        listener.warn(&format_args!(
            "{} modules are left out because no adapter changes them, such as `{module}`",
            report.left_out.len()
        ));
    }
    let available = |module: &ModuleReport| module.left.available.min(module.right.available);
    let short: Vec<(&str, &ModuleReport)> = report.short().collect();
    if let Some((path, module)) = short.iter().min_by_key(|(_, module)| available(module)) {
        let available = available(module);
        let asked = module.left.asked.unwrap_or(available);
        listener.warn(&format_args!(
            "{asked} components were requested, but in {} of {} modules the adapters span fewer directions (only {available} in `{path}`); {} adds random ones",
            short.len(),
            report.modules.len(),
            names.setting("augment", asked.saturating_sub(available))
        ));
    }
}

/// Reports what of an adapter a subspace does not describe.
fn report_adapter(adapter: &AdapterReport, listener: &dyn Listener) {
    let location = &adapter.source.location;
    match adapter.without_effect.len() {
        0 => {}
        all if all == adapter.modules => {
            listener.warn(&format_args!(
                "adapter `{location}` changes nothing: its update is zero in every module"
            ));
        }
        some => listener.warn(&format_args!(
            "adapter `{location}` does not change {some} of its {} modules, such as `{}`",
            adapter.modules, adapter.without_effect[0]
        )),
    }
    if let Some(module) = adapter.biased.first() {
        listener.warn(&format_args!(
            "adapter `{location}` has biases of B in {} modules, such as `{module}`, which a subspace does not describe",
            adapter.biased.len()
        ));
    }
    if !adapter.whole_tensors.is_empty() {
        listener.detail(&format_args!(
            "adapter `{location}`: {} belong to its task and are left out of the subspace",
            adapter.whole_tensors.join(", ")
        ));
    }
}
