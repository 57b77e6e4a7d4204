//! `eigenmix project`: how much of an adapter a subspace can express.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{LoadedAdapter, Provenance, SaveOptions};
use eigenmix_eigenlorax::{ProjectOptions, Projection, Subspace};
use eigenmix_experiment::BadInput;
use eigenmix_experiment::Destination;
use eigenmix_experiment::Table;
use eigenmix_experiment::style_of_result;
use eigenmix_experiment::{OpenedAdapter, OptionNames, distinct_names};
use eigenmix_tensors::write_directory;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::cli::ProjectArguments;
use crate::console::Console;
use crate::layer_table::LayerTable;

pub(crate) fn run(arguments: &ProjectArguments, console: &Console) -> anyhow::Result<()> {
    let destination = arguments
        .out
        .as_deref()
        .map(|out| Destination::new(out, arguments.force))
        .transpose()?;
    let adapters = OpenedAdapter::open_all(
        &arguments.adapters,
        arguments.base.as_deref(),
        arguments.allow_partial,
        OptionNames::Flags,
        console,
    )?;
    if let Some(destination) = &destination {
        destination.keep_apart_from(&arguments.subspace)?;
        for adapter in &adapters {
            destination.keep_apart_from_input(adapter)?;
        }
    }
    let names = distinct_names(&adapters)?;
    if let Some(out) = &arguments.out {
        if adapters.len() > 1 && out.extension().is_some_and(|found| found == "safetensors") {
            let problem = "with several adapters --out is a directory; leave out .safetensors";
            return Err(BadInput(problem.to_owned()).into());
        }
        for adapter in &adapters {
            style_of_result(
                &[adapter],
                arguments.format.into(),
                Some(out),
                OptionNames::Flags,
            )?;
        }
    }
    let task = Task {
        arguments,
        adapters: names.iter().zip(&adapters).collect(),
        subspace: &Subspace::load(&arguments.subspace)?,
        console,
    };
    let projected = match &destination {
        None => task.project_all(|_| None)?,
        Some(destination) if adapters.len() == 1 => {
            task.project_all(|_| Some(destination.path().to_owned()))?
        }
        Some(destination) => task.project_below(destination)?,
    };
    console.result(&ProjectResult {
        subspace: arguments.subspace.display().to_string(),
        out: arguments.out.as_ref().map(|out| out.display().to_string()),
        adapters: projected,
        is_verbose: console.is_verbose(),
    })
}

/// The adapters to project, and the subspace.
struct Task<'a> {
    arguments: &'a ProjectArguments,
    /// With their names.
    adapters: Vec<(&'a String, &'a OpenedAdapter)>,
    subspace: &'a Subspace,
    console: &'a Console,
}

impl Task<'_> {
    /// Projects every adapter, and writes it to the directory that `place` returns for its name.
    fn project_all(
        &self,
        place: impl Fn(&str) -> Option<PathBuf> + Sync,
    ) -> anyhow::Result<Vec<ProjectedAdapter>> {
        let progress = self
            .console
            .progress("projecting", self.adapters.len(), "adapters");
        let projected: Vec<anyhow::Result<ProjectedAdapter>> = self
            .adapters
            .par_iter()
            .map(|&(name, adapter)| {
                let projection = self.project(adapter, place(name).as_deref())?;
                progress.advance();
                Ok(ProjectedAdapter::new(name, adapter, projection))
            })
            .collect();
        // In their order, so that the first of several failures is reported.
        projected.into_iter().collect()
    }

    /// Writes every adapter to a directory of its name below the destination: all or none.
    fn project_below(&self, destination: &Destination) -> anyhow::Result<Vec<ProjectedAdapter>> {
        let mut projected = Vec::new();
        write_directory(destination.path(), destination.force(), |staging| {
            projected = self.project_all(|name| Some(staging.join(name)))?;
            anyhow::Ok(())
        })?;
        Ok(projected)
    }

    fn project(&self, adapter: &OpenedAdapter, place: Option<&Path>) -> anyhow::Result<Projection> {
        let loaded = LoadedAdapter::read(&adapter.file)?;
        let options = ProjectOptions {
            allow_base_mismatch: self.arguments.allow_base_mismatch,
        };
        let projection = eigenmix_eigenlorax::project(&loaded, self.subspace, &options)?;
        if let Some(module) = projection.skipped.first() {
            self.console.warn(format_args!(
                "adapter `{}`: {} of its {} modules are missing from the subspace, such as `{module}`; they count as lost",
                adapter.file.location(),
                projection.skipped.len(),
                loaded.adapter.modules.len()
            ));
        }
        if let Some(place) = place {
            let provenance = Provenance {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                method: "project".to_owned(),
                sources: vec![loaded.source],
                options: json!({
                    "subspace": self.arguments.subspace.display().to_string(),
                    "relative_error": projection.overall,
                    "skipped": projection.skipped,
                }),
                input: adapter.input()?.to_json(),
            };
            let options = SaveOptions {
                force: self.arguments.force,
                provenance: Some(provenance),
                companions: adapter.input()?.companions()?,
            };
            let style = style_of_result(
                &[adapter],
                self.arguments.format.into(),
                Some(place),
                OptionNames::Flags,
            )?;
            projection.adapter.save_as(place, &style, &options)?;
        }
        Ok(projection)
    }
}

#[derive(Serialize)]
struct ProjectResult {
    subspace: String,
    out: Option<String>,
    adapters: Vec<ProjectedAdapter>,
    #[serde(skip)]
    is_verbose: bool,
}

/// The relative errors ‖ΔW − ΔŴ‖ / ‖ΔW‖ of one adapter.
#[derive(Serialize)]
struct ProjectedAdapter {
    adapter: String,
    /// The name of its directory below `out`, if there are several.
    name: String,
    relative_error: f64,
    largest_module_error: f64,
    modules: BTreeMap<String, f64>,
    skipped: Vec<String>,
}

impl ProjectedAdapter {
    fn new(name: &str, adapter: &OpenedAdapter, projection: Projection) -> Self {
        Self {
            adapter: adapter.file.location().to_owned(),
            name: name.to_owned(),
            relative_error: projection.overall,
            largest_module_error: projection.modules.values().copied().fold(0.0, f64::max),
            modules: projection.modules,
            skipped: projection.skipped,
        }
    }
}

impl fmt::Display for ProjectResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_verbose || self.adapters.len() == 1 {
            for adapter in &self.adapters {
                writeln!(
                    formatter,
                    "relative error of `{}`, by layer:\n{}\n",
                    adapter.adapter,
                    LayerTable::new(&adapter.modules, show_error)
                )?;
            }
        }
        let header = ["relative error", "total", "worst module", "modules", "lost"];
        let mut table = Table::with_header(header);
        for adapter in &self.adapters {
            table.push([
                adapter.name.clone(),
                show_error(adapter.relative_error),
                show_error(adapter.largest_module_error),
                adapter.modules.len().to_string(),
                adapter.skipped.len().to_string(),
            ]);
        }
        write!(formatter, "{table}")?;
        match &self.out {
            Some(out) => write!(formatter, "\nwritten to `{out}`"),
            None => Ok(()),
        }
    }
}

/// Errors range from rounding to 1.
fn show_error(error: f64) -> String {
    if error < 1e-3 {
        format!("{error:.1e}")
    } else {
        format!("{error:.4}")
    }
}
