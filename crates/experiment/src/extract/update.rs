//! From a subspace and further adapters to a larger subspace.

use std::path::PathBuf;
use std::time::Instant;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{GrowOptions, Growth, Subspace, grow};

use super::UpdateSummary;
use super::report_adapter;
use crate::BadInput;
use crate::ExperimentError;
use crate::destination::Destination;
use crate::error::message;
use crate::listener::Listener;
use crate::option_names::OptionNames;

/// The request for an update.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// The directory of the subspace.
    pub subspace: PathBuf,
    /// The adapters to take in, one after the other.
    pub adapters: Vec<String>,
    /// The base model of adapters in GGUF, if it is not the one that they name.
    pub base: Option<String>,
    /// Where to write the larger subspace; with `force` it may be the same directory.
    pub out: PathBuf,
    pub options: GrowOptions,
    /// Continue even if an adapter has tensors that are not used.
    pub allow_partial: bool,
    /// How messages name these options.
    pub names: OptionNames,
    /// Overwrite the directory if it exists.
    pub force: bool,
}

/// Takes the adapters into the subspace, writes it to `request.out` and returns the result to print.
///
/// # Errors
/// If the adapters are not for the model of the subspace, or the output cannot be written.
pub fn update_subspace(
    request: &UpdateRequest,
    listener: &dyn Listener,
) -> Result<UpdateSummary, ExperimentError> {
    let start = Instant::now();
    let checked = request.options.check();
    checked.map_err(|error| BadInput(message(&error)))?;
    let destination = Destination::new(&request.out, request.force)?;
    let adapters = destination.open_inputs(
        &request.adapters,
        request.base.as_deref(),
        request.allow_partial,
        request.names,
        listener,
    )?;
    // The subspace itself may be replaced: it is read before anything is written.
    let same = [&request.out, &request.subspace].map(|path| path.canonicalize().ok());
    if same[0] != same[1] {
        destination.keep_apart_from(&request.subspace)?;
    }
    let known = Subspace::load(&request.subspace)?;
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let Growth { subspace, report } = {
        let modules = files.iter().map(|file| file.module_paths().count()).max();
        let progress = listener.progress("updating", modules.unwrap_or(0), "modules");
        grow(&known, &files, &request.options, &|_, _| progress.advance())?
    };
    subspace.save(destination.path(), destination.force())?;
    for adapter in &report.adapters {
        report_adapter(&adapter.adapter, listener);
    }
    if let Some(module) = report.left_out.first() {
        listener.warn(&format_args!(
            "{} modules are new and left out because no adapter changes them, such as `{module}`",
            report.left_out.len()
        ));
    }
    let mut summary = UpdateSummary::new(request, &known, &subspace, report);
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}
