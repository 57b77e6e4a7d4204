//! From adapters to a store on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use eigenmix_adapter::{LoadedAdapter, Provenance};
use eigenmix_store::{PackInput, PackOptions, pack};
use eigenmix_tensors::FileError;

use super::PackSummary;
use crate::destination::Destination;
use crate::error::message;
use crate::listener::Listener;
use crate::opened_adapter::{OpenedAdapter, distinct_names};
use crate::option_names::OptionNames;
use crate::{BadInput, ExperimentError};

/// The request for a store.
#[derive(Clone, Debug)]
pub struct PackRequest {
    pub adapters: Vec<String>,
    /// The base model of adapters in GGUF, if it is not the one that they name.
    pub base: Option<String>,
    /// Where to write the store: a new directory.
    pub out: PathBuf,
    pub options: PackOptions,
    /// Continue even if an adapter has tensors that are not used.
    pub allow_partial: bool,
    /// How messages name these options.
    pub names: OptionNames,
    /// Overwrite the directory if it exists.
    pub force: bool,
}

/// Packs the adapters, writes the store to `request.out` and returns the result to print.
///
/// # Errors
/// If the adapters do not fit together, or the output cannot be written.
pub fn pack_adapters(
    request: &PackRequest,
    listener: &dyn Listener,
) -> Result<PackSummary, ExperimentError> {
    let start = Instant::now();
    let checked = request.options.components.check();
    checked.map_err(|error| BadInput(message(&error)))?;
    let destination = Destination::new(&request.out, request.force)?;
    let adapters = destination.open_inputs(
        &request.adapters,
        request.base.as_deref(),
        request.allow_partial,
        request.names,
        listener,
    )?;
    for adapter in &adapters {
        // Paths of a pipeline have no place in what comes out, PEFT's directory.
        adapter.file.require_one_model()?;
    }
    let names = distinct_names(&adapters)?;
    let inputs = names
        .iter()
        .zip(&adapters)
        .map(|(name, adapter)| input(name, adapter))
        .collect::<Result<Vec<_>, ExperimentError>>()?;
    let (store, report) = {
        let modules = adapters
            .iter()
            .map(|adapter| adapter.file.module_paths().count());
        let progress = listener.progress("packing", modules.max().unwrap_or(0), "modules");
        pack(&inputs, &request.options, &|_, _| progress.advance())?
    };
    store.save(destination.path(), destination.force())?;
    Ok(PackSummary {
        out: request.out.display().to_string(),
        base_model: store.base_model.clone(),
        options: request.options,
        report,
        source_bytes: adapters.iter().map(OpenedAdapter::bytes).sum(),
        bytes: directory_bytes(destination.path())?,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn input(name: &str, adapter: &OpenedAdapter) -> Result<PackInput, ExperimentError> {
    let made = match adapter.directory() {
        Some(directory) => Provenance::read_json(directory)?,
        None => None,
    };
    Ok(PackInput {
        name: name.to_owned(),
        adapter: LoadedAdapter::read(&adapter.file)?,
        made,
        companions: adapter.input()?.companions()?,
    })
}

/// The bytes of all files in a directory and below.
pub(super) fn directory_bytes(directory: &Path) -> Result<u64, FileError> {
    let failed = || FileError::io("read", directory);
    let mut bytes = 0;
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let metadata = entry.metadata().map_err(failed())?;
        bytes += match metadata.is_dir() {
            true => directory_bytes(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
