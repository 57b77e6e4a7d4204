//! `eigenmix inspect`: the content of a path.

mod adapter;
mod listing;
mod model;
mod pages;
mod pipeline;
mod run;
mod several;
mod shapes;
mod subspace;
mod tensors;
use std::path::Path;

use eigenmix_adapter::{AdapterError, Dialect, PeftConfig};
use eigenmix_charts::Page;
use eigenmix_eigenlorax::Subspace;
use eigenmix_experiment::{BadInput, OpenedAdapter, StoreSummary, is_pipeline};
use eigenmix_gguf::is_gguf_name;
use eigenmix_store::Store;
use eigenmix_tensors::TensorFile;
use eigenmix_trainer::{BaseModel, Run, RunHistory, is_base_model, locate_adapter};

use crate::cli::InspectArguments;
use crate::console::Console;
use crate::page_file::PageFile;

pub(crate) fn run(arguments: &InspectArguments, console: &Console) -> anyhow::Result<()> {
    let page = arguments.html.as_deref();
    let page = page.map(|path| PageFile::new(path, arguments.force));
    let page = page.transpose()?;
    let write = |content: &dyn Fn() -> anyhow::Result<Page>| match &page {
        Some(page) => page.write(&content()?),
        None => Ok(()),
    };
    let [argument] = arguments.paths.as_slice() else {
        let adapters = several::SeveralAdapters::read(&arguments.paths)?;
        write(&|| Ok(pages::several(&adapters)))?;
        return console.result(&adapters);
    };
    let given = Path::new(argument);
    if is_pipeline(argument) {
        write(&|| Err(BadInput(NO_CHARTS.to_owned()).into()))?;
        return console.result(&pipeline::InspectedPipeline::read(argument)?);
    }
    let is_other = ["subspace.json", Store::FILE_NAME]
        .iter()
        .any(|name| given.join(name).is_file());
    let is_stored = argument.contains('#') && !given.exists();
    if !is_other && !is_stored && !is_run(given) && is_base_model(argument)? {
        write(&|| Err(BadInput(NO_CHARTS.to_owned()).into()))?;
        let base = BaseModel::open(argument)?;
        return console.result(&model::ModelSummary::read(&base)?);
    }
    if given.is_file() && !is_gguf_name(given) {
        if !has_extension(given, "safetensors") {
            return Err(AdapterError::NotAnAdapter(given.to_owned()).into());
        }
        let file = TensorFile::open(given)?;
        if !Dialect::of(&file).is_one_file() {
            write(&|| Err(BadInput(NO_CHARTS.to_owned()).into()))?;
            return console.result(&tensors::TensorListing::read(&file)?);
        }
    }
    if given.join("subspace.json").is_file() {
        let subspace = Subspace::load(given)?;
        write(&|| Ok(pages::subspace(given, &subspace)))?;
        return console.result(&subspace::SubspaceSummary::new(given, &subspace));
    }
    if given.join(Store::FILE_NAME).is_file() {
        write(&|| Err(BadInput(NO_CHARTS.to_owned()).into()))?;
        return console.result(&StoreSummary::read(given)?);
    }
    if is_run(given) {
        let summary = run::RunSummary(RunHistory::read(&Run::at(given))?);
        write(&|| pages::run(&summary.0, &summary.to_string()))?;
        return console.result(&summary);
    }
    if given.is_dir() && !has_adapter_file(&locate_adapter(argument)?) {
        let problem = format!(
            "`{argument}` is nothing that inspect can show: expected an adapter (adapter_config.json), a subspace (subspace.json), a store (store.json), a run (config.toml, metrics.jsonl), a base model (config.json or .gguf), a diffusion model (model_index.json) or a .safetensors file"
        );
        return Err(BadInput(problem).into());
    }
    // Sizes and norms do not depend on the order of rows, which only a base model tells.
    let adapter = OpenedAdapter::open_in_any_order(argument)?;
    let summary = adapter::AdapterSummary::read(&adapter)?;
    write(&|| Ok(pages::adapter(&summary)))?;
    console.result(&summary)
}

/// A run's adapter is no more than a part of it.
fn is_run(path: &Path) -> bool {
    path.is_dir() && !path.join(PeftConfig::FILE_NAME).exists() && Run::is_at(path)
}

const NO_CHARTS: &str = "--html draws adapters, subspaces and runs, not base models, stores or the tensors of a single file";

/// Whether the path looks like an adapter; opening it reports what is wrong.
fn has_adapter_file(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| name.starts_with("adapter_") || name.ends_with(".safetensors"))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
