//! `eigenmix extract`: adapters in, the subspace that they share out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{
    AdapterReport, Components, ExtractOptions, ExtractReport, Extraction, Factors, ModuleReport,
    SideReport, Subspace,
};
use serde::Serialize;

use crate::adapter_argument::OpenedAdapter;
use crate::byte_count::ByteCount;
use crate::cli::ExtractArguments;
use crate::console::Console;
use crate::destination::Destination;

pub(crate) fn run(arguments: &ExtractArguments, console: &Console) -> anyhow::Result<()> {
    console.result(&perform(arguments, console)?)
}

/// Extracts, and gives what there is to tell of it.
///
/// # Errors
/// If the adapters do not go together, or the output cannot be written.
pub(crate) fn perform(
    arguments: &ExtractArguments,
    console: &Console,
) -> anyhow::Result<impl Serialize + fmt::Display + use<>> {
    let start = Instant::now();
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let adapters = OpenedAdapter::open_all(&arguments.adapters, arguments.allow_partial, console)?;
    for adapter in &adapters {
        destination.keep_apart_from(&adapter.path)?;
    }

    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let options = options(arguments);
    let Extraction { subspace, report } = {
        let modules = files.iter().map(|file| file.module_paths().count()).max();
        let progress = console.progress("extracting", modules.unwrap_or(0), "modules");
        eigenmix_eigenlorax::extract(&files, &options, &|_, _| progress.advance())?
    };
    subspace.save(destination.path(), destination.force())?;

    tell_what_is_special(&report, console);
    let source_bytes = adapters.iter().map(OpenedAdapter::bytes).sum();
    let mut result = ExtractResult::new(arguments, &subspace, report, source_bytes);
    result.seconds = start.elapsed().as_secs_f64();
    Ok(result)
}

fn options(arguments: &ExtractArguments) -> ExtractOptions {
    let components = match (arguments.components, arguments.variance) {
        (Some(count), _) => Components::Count(count.get()),
        (None, Some(share)) => Components::Variance(share),
        (None, None) => Components::All,
    };
    ExtractOptions {
        components,
        factors: if arguments.raw_factors {
            Factors::Raw
        } else {
            Factors::Balanced
        },
        center: arguments.center,
        augment: arguments.augment,
        seed: arguments.seed,
        allow_base_mismatch: arguments.allow_base_mismatch,
    }
}

/// What made it into the subspace differently from what one may expect.
fn tell_what_is_special(report: &ExtractReport, console: &Console) {
    for adapter in &report.adapters {
        let location = &adapter.source.location;
        match adapter.without_effect.len() {
            0 => {}
            all if all == adapter.modules => {
                console.warn(format_args!(
                    "adapter `{location}` changes nothing: its update is zero in every module"
                ));
            }
            some => console.warn(format_args!(
                "adapter `{location}` does not change {some} of its {} modules, such as `{}`",
                adapter.modules, adapter.without_effect[0]
            )),
        }
        if let Some(module) = adapter.biased.first() {
            console.warn(format_args!(
                "adapter `{location}` has biases of B in {} modules, such as `{module}`, which a subspace does not describe",
                adapter.biased.len()
            ));
        }
        if !adapter.whole_tensors.is_empty() {
            console.detail(format_args!(
                "adapter `{location}`: its own {} belong to its task and are not decomposed",
                adapter.whole_tensors.join(", ")
            ));
        }
    }
    if let Some(module) = report.left_out.first() {
        console.warn(format_args!(
            "{} modules are left out because no adapter changes them, such as `{module}`",
            report.left_out.len()
        ));
    }
    let available = |module: &ModuleReport| module.left.available.min(module.right.available);
    let short: Vec<(&str, &ModuleReport)> = report.short().collect();
    if let Some((path, module)) = short.iter().min_by_key(|(_, module)| available(module)) {
        let available = available(module);
        let asked = module.left.asked.unwrap_or(available);
        console.warn(format_args!(
            "{asked} components were asked for, but the adapters have fewer directions in {} of {} modules, only {available} in `{path}`; --augment {} fills up with random ones",
            short.len(),
            report.modules.len(),
            asked.saturating_sub(available)
        ));
    }
}

#[derive(Serialize)]
struct ExtractResult {
    out: String,
    base_model: Option<String>,
    options: ExtractOptions,
    adapters: Vec<AdapterReport>,
    module_count: usize,
    left: SideSummary,
    right: SideSummary,
    short: Vec<String>,
    left_out: Vec<String>,
    bytes: u64,
    source_bytes: u64,
    modules: BTreeMap<String, ModuleReport>,
    seconds: f64,
}

/// One side over all modules.
#[derive(Serialize)]
struct SideSummary {
    /// The columns of every kind: the fewest and the most of a module.
    columns: [usize; 2],
    /// The share of all variance that the principal components carry.
    variance_kept: f64,
    /// The mean of the shares of the modules.
    variance_kept_mean: f64,
    /// The smallest share of a module.
    variance_kept_min: f64,
}

impl SideSummary {
    fn of<'a>(sides: impl Iterator<Item = &'a SideReport> + Clone, variance_kept: f64) -> Self {
        let columns = sides
            .clone()
            .map(|side| side.principal + usize::from(side.has_mean) + side.augmented);
        let kept = sides.map(|side| side.kept);
        Self {
            columns: [
                columns.clone().min().unwrap_or(0),
                columns.clone().max().unwrap_or(0),
            ],
            variance_kept,
            variance_kept_mean: kept.clone().sum::<f64>() / columns.count().max(1) as f64,
            variance_kept_min: kept.fold(1.0, f64::min),
        }
    }
}

impl ExtractResult {
    fn new(
        arguments: &ExtractArguments,
        subspace: &Subspace,
        report: ExtractReport,
        source_bytes: u64,
    ) -> Self {
        let short = report
            .short()
            .map(|(module, _)| module.to_owned())
            .collect();
        let left = report.modules.values().map(|module| &module.left);
        let right = report.modules.values().map(|module| &module.right);
        Self {
            out: arguments.out.display().to_string(),
            base_model: subspace.base_model.clone(),
            options: subspace.options.clone(),
            module_count: report.modules.len(),
            left: SideSummary::of(left, report.left_kept),
            right: SideSummary::of(right, report.right_kept),
            short,
            left_out: report.left_out,
            bytes: subspace.bytes() as u64,
            source_bytes,
            adapters: report.adapters,
            modules: report.modules,
            seconds: 0.0,
        }
    }
}

impl fmt::Display for ExtractResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "`{}`: the subspace of {} adapters of {}",
            self.out,
            self.adapters.len(),
            self.base_model
                .as_deref()
                .unwrap_or("an unnamed base model")
        )?;
        let known = self.module_count + self.left_out.len();
        let partial: Vec<String> = self
            .adapters
            .iter()
            .filter(|adapter| adapter.modules != known)
            .map(|adapter| format!("{} in `{}`", adapter.modules, adapter.source.location))
            .collect();
        let coverage = match partial.len() {
            0 => "in every adapter".to_owned(),
            _ => format!("only {}", partial.join(", ")),
        };
        writeln!(formatter, "  modules     {}, {coverage}", self.module_count)?;
        writeln!(
            formatter,
            "  components  left {}, right {}",
            range(self.left.columns),
            range(self.right.columns)
        )?;
        for (name, side) in [("left ", &self.left), ("right", &self.right)] {
            writeln!(
                formatter,
                "  variance    {name} {:.2} % kept, a module {:.2} % on average and at least {:.2} %",
                100.0 * side.variance_kept,
                100.0 * side.variance_kept_mean,
                100.0 * side.variance_kept_min
            )?;
        }
        write!(
            formatter,
            "  size        {}, the adapters {}",
            ByteCount(self.bytes),
            ByteCount(self.source_bytes)
        )
    }
}

fn range([low, high]: [usize; 2]) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low} to {high}")
    }
}
