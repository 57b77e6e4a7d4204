//! The results of packing and unpacking, for display and as JSON.

use std::fmt;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_store::{AdapterError, PackOptions, PackReport, Store};
use serde::Serialize;

use super::pack::directory_bytes;
use crate::ExperimentError;
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

/// What a store holds, for `inspect`.
#[derive(Debug, Serialize)]
pub struct StoreSummary {
    kind: &'static str,
    location: String,
    base_model: Option<String>,
    /// The release of Eigenmix that packed it.
    version: String,
    options: PackOptions,
    #[serde(flatten)]
    report: PackReport,
    /// The bytes of all files of the store.
    bytes: u64,
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
        let of_sources = format!(
            ", {:.1} % of the adapters' {}",
            100.0 * self.bytes as f64 / self.source_bytes.max(1) as f64,
            ByteCount(self.source_bytes)
        );
        Contents {
            location: &self.out,
            base_model: self.base_model.as_deref(),
            report: &self.report,
            bytes: self.bytes,
            of_sources: &of_sources,
        }
        .fmt(formatter)
    }
}

impl StoreSummary {
    /// What a store holds.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn read(directory: &Path) -> Result<Self, ExperimentError> {
        let store = Store::load(directory)?;
        Ok(Self {
            kind: "store",
            location: directory.display().to_string(),
            base_model: store.base_model.clone(),
            version: store.version.clone(),
            options: store.options,
            report: store.report(),
            bytes: directory_bytes(directory)?,
        })
    }
}

impl fmt::Display for StoreSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Contents {
            location: &self.location,
            base_model: self.base_model.as_deref(),
            report: &self.report,
            bytes: self.bytes,
            of_sources: "",
        }
        .fmt(formatter)?;
        write!(
            formatter,
            "\n`{}#NAME` names one of them wherever an adapter is asked for",
            self.location
        )
    }
}

/// What a store holds, as both summaries say it.
struct Contents<'a> {
    location: &'a str,
    base_model: Option<&'a str>,
    report: &'a PackReport,
    bytes: u64,
    /// How much that is of the adapters that were packed, if that is known.
    of_sources: &'a str,
}

impl fmt::Display for Contents<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "`{}`: {} adapters of {}",
            self.location,
            self.report.adapters.len(),
            self.base_model.unwrap_or("an unnamed base model")
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
            "  size        {}{}: bases {}, coefficients {}, heads {}\n",
            ByteCount(self.bytes),
            self.of_sources,
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
