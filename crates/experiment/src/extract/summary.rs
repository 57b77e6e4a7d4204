//! The result of an extraction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use eigenmix_eigenlorax::{
    AdapterReport, ExtractOptions, ExtractReport, ModuleReport, SideReport, Subspace,
};
use serde::Serialize;

use crate::byte_count::ByteCount;

/// The result of an extraction, for display and as JSON.
#[derive(Debug, Serialize)]
pub struct ExtractionSummary {
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
    pub seconds: f64,
}

/// One side over all modules.
#[derive(Debug, Serialize)]
struct SideSummary {
    /// The columns of each kind: the fewest and the most per module.
    columns: [usize; 2],
    /// The share of all variance that the principal components explain.
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

impl ExtractionSummary {
    pub(super) fn new(
        out: &Path,
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
            out: out.display().to_string(),
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

impl fmt::Display for ExtractionSummary {
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
                "  variance    {name} {:.2} % kept; per module {:.2} % on average, {:.2} % at least",
                100.0 * side.variance_kept,
                100.0 * side.variance_kept_mean,
                100.0 * side.variance_kept_min
            )?;
        }
        write!(
            formatter,
            "  size        {} (the adapters: {})",
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
