//! `eigenmix inspect`: what a path holds.

mod adapter;
mod listing;
mod run;
mod shapes;
mod subspace;
mod tensors;

use std::path::Path;

use ::adapter::{AdapterError, AdapterFile, PeftConfig, TensorFile};
use eigenlorax::Subspace;

use crate::adapter_argument::locate;
use crate::cli::InspectArguments;
use crate::console::Console;
use crate::failure::BadInput;
use crate::run_directory::RunDirectory;

pub(crate) fn run(arguments: &InspectArguments, console: &Console) -> anyhow::Result<()> {
    let argument = &arguments.path;
    let given = Path::new(argument);
    if given.is_file() {
        if !has_extension(given, "safetensors") {
            return Err(AdapterError::NotAnAdapter(given.to_owned()).into());
        }
        return console.result(&tensors::TensorListing::read(&TensorFile::open(given)?)?);
    }
    if given.join("subspace.json").is_file() {
        let subspace = Subspace::load(given)?;
        return console.result(&subspace::SubspaceSummary::new(given, &subspace));
    }
    // A run's adapter is no more than a part of it.
    if given.is_dir() && !given.join(PeftConfig::FILE_NAME).exists() && RunDirectory::is_at(given) {
        return console.result(&run::RunSummary(RunDirectory::read(given)?));
    }
    let path = locate(argument)?;
    if given.is_dir() && !has_adapter_file(&path) {
        let problem = format!(
            "`{argument}` is none of what inspect knows: an adapter (adapter_config.json), a subspace (subspace.json), a run (config.toml, metrics.jsonl) or a .safetensors file"
        );
        return Err(BadInput(problem).into());
    }
    let file = AdapterFile::open(&path)?.with_location(argument.as_str());
    console.result(&adapter::AdapterSummary::read(&file)?)
}

/// Whether there is anything by which an adapter is known; what is wrong with it, opening it tells.
fn has_adapter_file(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with("adapter_"))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
