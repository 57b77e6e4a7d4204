//! From several adapters to one.

mod request;
mod search;
mod summary;

use std::collections::BTreeSet;
use std::time::Instant;

use eigenmix_adapter::{AdapterFile, Provenance, SaveOptions};
use eigenmix_merging::{Merge, MergeError, MergeOptions, MergeReport};
use eigenmix_tensors::write_file;
use eigenmix_trainer::{DeviceChoice, LazyBase};
use serde_json::{Value, json};

pub use self::request::MergeRequest;
use self::search::{SearchPlan, search};
pub use self::search::{SearchReport, SearchRequest};
pub use self::summary::MergeSummary;
use crate::ExperimentError;
use crate::destination::Destination;
use crate::known_input::KnownInput;
use crate::listener::Listener;
use crate::opened_adapter::OpenedAdapter;
use crate::output_style::style_of_result;

/// Merges, writes the adapter to `request.out` and returns the result to print.
///
/// - device: where a search runs the base model
///
/// # Errors
/// If the adapters do not fit together, or the output cannot be written.
pub fn merge(
    request: &MergeRequest,
    device: DeviceChoice,
    listener: &dyn Listener,
) -> Result<MergeSummary, ExperimentError> {
    let options = request.options()?;
    let plan = SearchPlan::of(request, &options, device)?;
    let destination = Destination::new(&request.out, request.force)?;
    let adapters = open(request, &destination, listener)?;
    let sources: Vec<&OpenedAdapter> = adapters.iter().collect();
    let style = style_of_result(&sources, request.format, Some(&request.out), request.names)?;
    let started = Instant::now();
    let (options, Merge { adapter, report }, search) = match plan {
        Some(plan) => {
            let found = search(&adapters, &options, plan, listener)?;
            (found.options, found.merge, Some(found.report))
        }
        None => {
            let merge = merge_all(&adapters, &options, listener)?;
            (options, merge, None)
        }
    };
    let input = common_input(&adapters, listener)?;
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: format!("merge/{}", options.method.name()),
        sources: report
            .adapters
            .iter()
            .map(|adapter| adapter.source.clone())
            .collect(),
        options: recorded(&options, search.as_ref()),
        input: input.to_json(),
    };
    let save = SaveOptions {
        force: destination.force(),
        provenance: Some(provenance),
        companions: input.companions()?,
    };
    adapter.save_as(destination.path(), &style, &save)?;
    // A single file has no room for a page.
    if let Some(search) = &search
        && destination.path().is_dir()
    {
        let title = format!("Merge {}", request.out.display());
        let path = destination.path().join("report.html");
        write_file(&path, search.page(&title).render().as_bytes())?;
    }
    report_notes(&report, listener);
    Ok(MergeSummary {
        out: request.out.display().to_string(),
        options,
        parameters: adapter.parameter_count(),
        report,
        seconds: started.elapsed().as_secs_f64(),
        search,
    })
}

/// Opens the adapters; a search has a base model whatever they are.
fn open(
    request: &MergeRequest,
    destination: &Destination,
    listener: &dyn Listener,
) -> Result<Vec<OpenedAdapter>, ExperimentError> {
    let (adapters, is_partial, names) = (&request.adapters, request.allow_partial, request.names);
    let base = request.base.as_deref();
    let Some(search) = request.search.as_ref().filter(|_| base.is_none()) else {
        return destination.open_inputs(adapters, base, is_partial, names, listener);
    };
    let base = LazyBase::new(Some(&search.base));
    let opened = OpenedAdapter::open_all_for(adapters, &base, is_partial, names, listener)?;
    for adapter in &opened {
        destination.keep_apart_from_input(adapter)?;
    }
    Ok(opened)
}

/// What all of the adapters were trained on in the same way; nothing, and a note, where they were not.
fn common_input(
    adapters: &[OpenedAdapter],
    listener: &dyn Listener,
) -> Result<KnownInput, ExperimentError> {
    let mut known = adapters.iter().map(OpenedAdapter::input);
    let mut common = known.next().transpose()?.unwrap_or_default();
    for (other, adapter) in known.zip(&adapters[1..]) {
        let Some(found) = common.common(&other?)? else {
            listener.note(&format_args!(
                "`{}` and `{}` were trained on different input (columns or templates), so \
                 the merged adapter does not say what its input is; name it where you evaluate or \
                 predict",
                adapters[0].file.location(),
                adapter.file.location()
            ));
            return Ok(KnownInput::default());
        };
        common = found;
    }
    Ok(common)
}

fn merge_all(
    adapters: &[OpenedAdapter],
    options: &MergeOptions,
    listener: &dyn Listener,
) -> Result<Merge, MergeError> {
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let modules = files.iter().map(|file| file.module_paths().count()).max();
    let progress = listener.progress("merging", modules.unwrap_or(0), "modules");
    eigenmix_merging::merge(&files, options, &|_, _| progress.advance())
}

/// The options of the merge, and the search that chose them.
fn recorded(options: &MergeOptions, search: Option<&SearchReport>) -> Value {
    let mut recorded = json!(options);
    if let (Some(fields), Some(search)) = (recorded.as_object_mut(), search) {
        fields.insert("search".to_owned(), json!(search));
    }
    recorded
}

fn report_notes(report: &MergeReport, listener: &dyn Listener) {
    let partial: Vec<&str> = report.partial().map(|(path, _)| path).collect();
    if let Some(path) = partial.first() {
        listener.warn(&format_args!(
            "{} modules are missing from some adapters and were merged from the others, such as `{path}`",
            partial.len()
        ));
    }
    let left_out: Vec<&str> = report.left_out().collect();
    if let Some(path) = left_out.first() {
        listener.warn(&format_args!(
            "{} modules are left out because their merged update is zero, such as `{path}`",
            left_out.len()
        ));
    }
    let ranks = report.modules.values().map(|module| module.rank);
    let ranks: BTreeSet<usize> = ranks.filter(|&rank| rank > 0).collect();
    if let (Some(lowest), Some(highest)) = (ranks.first(), ranks.last())
        && lowest < highest
    {
        listener.note(&format_args!(
            "the ranks of the modules differ ({lowest} to {highest}): PEFT reads rank_pattern and alpha_pattern, but a program that keeps lora_alpha alone, as llama.cpp's converter to GGUF does, scales those of another rank than r wrongly; for such a program bring them to one rank with `eigenmix export OUT --rank {lowest}`"
        ));
    }
    let with_heads: Vec<_> = report
        .adapters
        .iter()
        .filter(|adapter| !adapter.whole_tensors.is_empty())
        .collect();
    match (report.heads_of, with_heads.as_slice()) {
        (Some(index), _) => listener.note(&format_args!(
            "heads are taken from `{}`, the only adapter with any",
            report.adapters[index].source.location
        )),
        (None, []) => {}
        (None, several) => listener.note(&format_args!(
            "{} adapters have heads ({}); heads are task-specific and not merged; choose one with --head ADAPTER in evaluate, predict and forward",
            several.len(),
            several[0].whole_tensors.join(", ")
        )),
    }
}
