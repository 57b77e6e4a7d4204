//! `eigenmix merge`: several adapters in, one out.

use std::fmt;
use std::time::Instant;

use eigenmix_adapter::{AdapterFile, Provenance, SaveOptions};
use eigenmix_merging::{Merge, MergeError, MergeOptions, MergeReport};
use eigenmix_tensors::write_file;
use eigenmix_trainer::DeviceChoice;
use serde::Serialize;
use serde_json::{Value, json};

use super::merge_search;
use crate::adapter_argument::OpenedAdapter;
use crate::cli::MergeArguments;
use crate::console::Console;
use crate::destination::Destination;
use crate::failure::BadInput;
use crate::merge_search::{SearchReport, search};
use crate::output_style::style_of_result;
use crate::table::Table;

pub(crate) fn run(
    arguments: &MergeArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    console.result(&perform(arguments, device, console)?)
}

/// Merges, and gives what there is to tell of it.
///
/// # Errors
/// If the adapters do not go together, or the output cannot be written.
pub(crate) fn perform(
    arguments: &MergeArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<impl Serialize + fmt::Display + use<>> {
    let options = options(arguments)?;
    let request = merge_search::request(arguments, &options, device)?;
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let adapters = OpenedAdapter::open_all(&arguments.adapters, arguments.allow_partial, console)?;
    for adapter in &adapters {
        destination.keep_apart_from(&adapter.path)?;
    }
    let sources: Vec<&OpenedAdapter> = adapters.iter().collect();
    let style = style_of_result(&sources, arguments.format, Some(&arguments.out))?;
    let started = Instant::now();
    let (options, Merge { adapter, report }, search) = match request {
        Some(request) => {
            let found = search(&adapters, &options, request, console)?;
            (found.options, found.merge, Some(found.report))
        }
        None => {
            let merge = merge(&adapters, &options, console)?;
            (options, merge, None)
        }
    };
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: format!("merge/{}", options.method.name()),
        sources: report
            .adapters
            .iter()
            .map(|adapter| adapter.source.clone())
            .collect(),
        options: recorded(&options, search.as_ref()),
    };
    let save = SaveOptions {
        force: destination.force(),
        provenance: Some(provenance),
    };
    adapter.save_as(destination.path(), &style, &save)?;
    // A single file has no room for a page.
    if let Some(search) = &search
        && destination.path().is_dir()
    {
        let title = format!("Merge {}", arguments.out.display());
        let path = destination.path().join("report.html");
        write_file(&path, search.page(&title).render().as_bytes())?;
    }
    tell_what_is_special(&report, console);
    Ok(MergeResult {
        out: arguments.out.display().to_string(),
        options,
        parameters: adapter.parameter_count(),
        report,
        seconds: started.elapsed().as_secs_f64(),
        search,
        explain: arguments.explain || console.is_verbose(),
    })
}

fn merge(
    adapters: &[OpenedAdapter],
    options: &MergeOptions,
    console: &Console,
) -> Result<Merge, MergeError> {
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let modules = files.iter().map(|file| file.module_paths().count()).max();
    let progress = console.progress("merging", modules.unwrap_or(0), "modules");
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

/// The options that the flags stand for.
///
/// # Errors
/// If a flag does not belong to the method or the space.
pub(crate) fn options(arguments: &MergeArguments) -> Result<MergeOptions, BadInput> {
    let options = arguments.request().options();
    options.map_err(|error| match error {
        MergeError::OptionOfOthers { option, owners } => BadInput(format!(
            "--{} is for {owners} only",
            option.replace('_', "-")
        )),
        other => BadInput(other.to_string()),
    })
}

fn tell_what_is_special(report: &MergeReport, console: &Console) {
    let partial: Vec<&str> = report.partial().map(|(path, _)| path).collect();
    if let Some(path) = partial.first() {
        console.warn(format_args!(
            "{} modules are not in every adapter and were merged from those that have them, such as `{path}`",
            partial.len()
        ));
    }
    let left_out: Vec<&str> = report.left_out().collect();
    if let Some(path) = left_out.first() {
        console.warn(format_args!(
            "{} modules are left out because their merged update is zero, such as `{path}`",
            left_out.len()
        ));
    }
    let with_heads: Vec<_> = report
        .adapters
        .iter()
        .filter(|adapter| !adapter.whole_tensors.is_empty())
        .collect();
    match (report.heads_of, with_heads.as_slice()) {
        (Some(index), _) => console.note(format_args!(
            "the heads are those of `{}`, the only adapter that has any",
            report.adapters[index].source.location
        )),
        (None, []) => {}
        (None, several) => console.note(format_args!(
            "{} adapters have heads of their own ({}); heads belong to their task and are not merged; evaluate, predict and forward take one with --head ADAPTER",
            several.len(),
            several[0].whole_tensors.join(", ")
        )),
    }
}

#[derive(Serialize)]
struct MergeResult {
    out: String,
    options: MergeOptions,
    /// Numbers of the merged adapter.
    parameters: usize,
    #[serde(flatten)]
    report: MergeReport,
    /// Of merging, or of the whole search.
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<SearchReport>,
    #[serde(skip)]
    explain: bool,
}

impl fmt::Display for MergeResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranks = self.report.modules.values().map(|module| module.rank);
        let (low, high) = (
            ranks.clone().filter(|rank| *rank > 0).min().unwrap_or(0),
            ranks.max().unwrap_or(0),
        );
        let rank = match low == high {
            true => low.to_string(),
            false => format!("{low} to {high}"),
        };
        write!(
            formatter,
            "`{}`: {} adapters merged with {}\n  modules  {}\n  rank     {rank}\n  energy   {:.4} % kept",
            self.out,
            self.report.adapters.len(),
            self.options.method.name(),
            self.report.modules.len(),
            100.0 * self.report.energy_kept
        )?;
        if let Some(search) = &self.search {
            write!(formatter, "\n{search}")?;
        }
        if !self.explain {
            return Ok(());
        }
        let mut table = Table::with_header([
            "module",
            "adapters",
            "Σr",
            "rank",
            "energy",
            "‖ΔW_t‖",
            "‖ΔW‖",
        ]);
        for (path, module) in &self.report.modules {
            let norms: Vec<String> = module
                .input_norms
                .iter()
                .map(|norm| format!("{norm:.3}"))
                .collect();
            table.push([
                path.clone(),
                module.adapters.len().to_string(),
                module.columns.to_string(),
                module.rank.to_string(),
                format!("{:.4}", module.energy_kept),
                norms.join(" "),
                format!("{:.3}", module.norm),
            ]);
        }
        write!(formatter, "\n\n{table}")
    }
}
