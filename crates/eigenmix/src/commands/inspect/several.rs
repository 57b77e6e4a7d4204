//! Several adapters: each summarised, and what they have in common.

use std::fmt;

use eigenmix_adapter::Dialect;
use eigenmix_experiment::Table;
use eigenmix_experiment::charts::Comparison;
use eigenmix_experiment::{ExperimentError, OpenedAdapter};
use rayon::prelude::*;
use serde::Serialize;

use super::adapter::AdapterSummary;

#[derive(Serialize)]
pub(super) struct SeveralAdapters {
    kind: &'static str,
    pub(super) adapters: Vec<AdapterSummary>,
    pub(super) comparison: Comparison,
}

impl SeveralAdapters {
    /// Reads and compares all of `paths`.
    ///
    /// # Errors
    /// If one is not an adapter, or they are for different base models.
    pub(super) fn read(paths: &[String]) -> anyhow::Result<Self> {
        let opened = open(paths)?;
        let summaries = opened.iter();
        Ok(Self {
            kind: "adapters",
            adapters: summaries
                .map(AdapterSummary::read)
                .collect::<anyhow::Result<_>>()?,
            comparison: Comparison::of(&opened)?,
        })
    }
}

/// Opens the adapters. The order of rows changes neither norms nor the cosines of files that all have the
/// same one; only beside others, a GGUF file has to be brought into theirs.
fn open(paths: &[String]) -> Result<Vec<OpenedAdapter>, ExperimentError> {
    let opened = paths
        .par_iter()
        .map(|path| OpenedAdapter::open_in_any_order(path));
    let opened: Vec<Result<OpenedAdapter, ExperimentError>> = opened.collect();
    let opened = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    let is_gguf = |adapter: &OpenedAdapter| adapter.file.style().dialect() == Dialect::Gguf;
    if opened.iter().all(is_gguf) {
        return Ok(opened);
    }
    let in_order = |(adapter, path): (OpenedAdapter, &String)| match adapter.file.needs_base() {
        true => OpenedAdapter::open(path),
        false => Ok(adapter),
    };
    opened.into_iter().zip(paths).map(in_order).collect()
}

impl fmt::Display for SeveralAdapters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::with_header(["adapter", "modules", "parameters", "‖ΔW‖"]);
        for adapter in &self.adapters {
            table.push([
                adapter.location().to_owned(),
                adapter.module_count().to_string(),
                adapter.parameters().to_string(),
                format!("{:.4}", adapter.norm()),
            ]);
        }
        let names = &self.comparison.adapters;
        let header = std::iter::once("cosine of ΔW".to_owned());
        let numbers = (1..=names.len()).map(|number| number.to_string());
        let mut cosines = Table::with_header(header.chain(numbers));
        for (number, (name, row)) in names
            .iter()
            .zip(&self.comparison.similarity.cosine)
            .enumerate()
        {
            let name = format!("{} {name}", number + 1);
            let row = row.iter().map(|cosine| {
                cosine.map_or_else(|| "—".to_owned(), |cosine| format!("{cosine:.3}"))
            });
            cosines.push(std::iter::once(name).chain(row));
        }
        write!(formatter, "{table}\n\n{cosines}")?;
        match self.comparison.note(self.adapters.len()) {
            Some(note) => write!(formatter, "\n{note}"),
            None => Ok(()),
        }
    }
}
