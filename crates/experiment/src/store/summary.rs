//! The results of packing and unpacking, for display and as JSON.

use std::fmt;

use eigenmix_adapter::Source;
use eigenmix_store::{AdapterError, PackOptions, PackReport};
use serde::Serialize;

use crate::byte_count::ByteCount;
use crate::table::Table;

/// The result of packing.
#[derive(Debug, Serialize)]
pub struct PackSummary {
    pub(super) out: String,
    pub(super) base_model: Option<String>,
    pub(super) options: PackOptions,
    #[serde(flatten)]
    pub(super) report: PackReport,
    /// The bytes of the adapters' tensors on disk.
    pub(super) source_bytes: u64,
    /// The bytes of all files of the store.
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

/// The result of unpacking.
#[derive(Debug, Serialize)]
pub struct UnpackSummary {
    pub(super) store: String,
    pub(super) out: String,
    pub(super) adapters: Vec<UnpackedAdapter>,
}

/// One adapter that was written.
#[derive(Debug, Serialize)]
pub struct UnpackedAdapter {
    pub(super) name: String,
    pub(super) source: Source,
    #[serde(flatten)]
    pub(super) error: AdapterError,
}

impl fmt::Display for PackSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base_model.as_deref();
        writeln!(
            formatter,
            "`{}`: {} adapters of {}",
            self.out,
            self.report.adapters.len(),
            base.unwrap_or("an unnamed base model")
        )?;
        let counts = self.report.directions.values().flatten();
        let (fewest, most) = (counts.clone().min(), counts.max());
        writeln!(
            formatter,
            "  directions  {} to {} a side, in {} modules",
            fewest.unwrap_or(&0),
            most.unwrap_or(&0),
            self.report.directions.len()
        )?;
        writeln!(
            formatter,
            "  size        {}, {:.1} % of the adapters' {}: bases {}, coefficients {}, heads {}\n",
            ByteCount(self.bytes),
            100.0 * self.bytes as f64 / self.source_bytes.max(1) as f64,
            ByteCount(self.source_bytes),
            ByteCount(self.report.basis_bytes),
            ByteCount(self.report.coefficient_bytes),
            ByteCount(self.report.whole_bytes)
        )?;
        let adapters = self.report.adapters.iter();
        let rows = adapters.map(|(name, error)| (name.as_str(), error));
        write!(formatter, "{}", error_table(rows))
    }
}

impl fmt::Display for UnpackSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adapters = self.adapters.iter();
        let rows = adapters.map(|adapter| (adapter.name.as_str(), &adapter.error));
        write!(
            formatter,
            "{}\nwritten to `{}`",
            error_table(rows),
            self.out
        )
    }
}

fn error_table<'a>(adapters: impl Iterator<Item = (&'a str, &'a AdapterError)>) -> Table {
    let header = ["relative error", "total", "heads", "worst", "module"];
    let mut table = Table::with_header(header).with_text_in([4]);
    for (name, error) in adapters {
        table.push([
            name.to_owned(),
            shown(error.relative_error),
            shown(error.whole_error),
            shown(error.worst_error),
            error.worst_module.clone(),
        ]);
    }
    table
}

/// Errors range from rounding to 1.
fn shown(error: f64) -> String {
    match error < 1e-3 {
        true => format!("{error:.1e}"),
        false => format!("{error:.4}"),
    }
}
