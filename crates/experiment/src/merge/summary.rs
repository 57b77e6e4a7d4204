//! The result of a merge.

use std::fmt;

use eigenmix_merging::{MergeOptions, MergeReport};
use serde::Serialize;

use super::SearchReport;
use crate::table::Table;

/// The result of a merge, for display and as JSON.
#[derive(Debug, Serialize)]
pub struct MergeSummary {
    pub out: String,
    pub options: MergeOptions,
    /// Parameters of the merged adapter.
    pub parameters: usize,
    #[serde(flatten)]
    pub report: MergeReport,
    /// Of merging, or of the whole search.
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
}

impl MergeSummary {
    /// The result for each module.
    pub fn modules(&self) -> Table {
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
        table
    }
}

impl fmt::Display for MergeSummary {
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
        if let Some(rank) = self.options.compress {
            write!(formatter, "\n  compressed to rank {rank}, which keeps")?;
            for adapter in &self.report.adapters {
                let kept = 100.0 * adapter.kept.unwrap_or(1.0);
                write!(
                    formatter,
                    "\n    {kept:.1} % of {}",
                    adapter.source.location
                )?;
            }
        }
        if let Some(search) = &self.search {
            write!(formatter, "\n{search}")?;
        }
        Ok(())
    }
}
