//! The result of an update of a subspace.

use std::fmt;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::{AdapterGrowth, GrowOptions, GrowthReport, SideGrowth, Subspace};
use serde::Serialize;

use super::UpdateRequest;
use crate::byte_count::ByteCount;
use crate::opened_adapter::adapter_name;
use crate::table::Table;

/// The result of an update, for display and as JSON.
#[derive(Debug, Serialize)]
pub struct UpdateSummary {
    out: String,
    /// The subspace that grew.
    subspace: String,
    base_model: Option<String>,
    options: GrowOptions,
    sources: Vec<Source>,
    module_count: usize,
    new_modules: Vec<String>,
    left_out: Vec<String>,
    adapters: Vec<AdapterUpdate>,
    bytes_before: u64,
    bytes: u64,
    pub seconds: f64,
}

/// One adapter: totals over its modules, then each of them.
#[derive(Debug, Serialize)]
struct AdapterUpdate {
    name: String,
    /// How many modules grew on a side.
    grown: usize,
    left: SideGrowth,
    right: SideGrowth,
    #[serde(flatten)]
    growth: AdapterGrowth,
}

impl UpdateSummary {
    pub(super) fn new(
        request: &UpdateRequest,
        known: &Subspace,
        grown: &Subspace,
        report: GrowthReport,
    ) -> Self {
        let adapters = report.adapters.into_iter();
        let adapters = adapters.map(|growth| AdapterUpdate {
            name: adapter_name(&growth.adapter.source.location, 1),
            grown: growth.grown(),
            left: growth.left(),
            right: growth.right(),
            growth,
        });
        Self {
            out: request.out.display().to_string(),
            subspace: request.subspace.display().to_string(),
            base_model: grown.base_model.clone(),
            options: request.options,
            sources: grown.sources.clone(),
            module_count: grown.modules.len(),
            new_modules: report.new_modules,
            left_out: report.left_out,
            adapters: adapters.collect(),
            bytes_before: known.bytes() as u64,
            bytes: grown.bytes() as u64,
            seconds: 0.0,
        }
    }
}

impl fmt::Display for UpdateSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "`{}`: the subspace `{}` of {}, grown",
            self.out,
            self.subspace,
            self.base_model
                .as_deref()
                .unwrap_or("an unnamed base model")
        )?;
        writeln!(
            formatter,
            "  adapters    {} (before: {})",
            self.sources.len(),
            self.sources.len() - self.adapters.len()
        )?;
        writeln!(
            formatter,
            "  modules     {} (before: {})",
            self.module_count,
            self.module_count - self.new_modules.len()
        )?;
        writeln!(
            formatter,
            "  size        {} (before: {})\n",
            ByteCount(self.bytes),
            ByteCount(self.bytes_before)
        )?;
        let header = [
            "adapter",
            "modules",
            "grown",
            "directions (left, right)",
            "outside before",
            "after",
        ];
        let mut table = Table::with_header(header);
        let percent =
            |left: f64, right: f64| format!("{:.1} %, {:.1} %", 100.0 * left, 100.0 * right);
        for adapter in &self.adapters {
            let (left, right) = (&adapter.left, &adapter.right);
            table.push([
                adapter.name.clone(),
                adapter.growth.growth.len().to_string(),
                adapter.grown.to_string(),
                format!("+{}, +{}", left.added, right.added),
                percent(left.residual_before(), right.residual_before()),
                percent(left.residual_after(), right.residual_after()),
            ]);
        }
        write!(formatter, "{table}")
    }
}
