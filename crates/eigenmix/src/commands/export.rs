//! `eigenmix export`: a run or an adapter as plain LoRA, or merged into its base model.

use std::fmt;

use eigenmix_adapter::{Adapter, Provenance, SaveOptions, Style};
use eigenmix_experiment::Destination;
use eigenmix_experiment::merge_into_base::{BaseCheckpoint, BaseMergeReport, merge_into_base};
use eigenmix_experiment::{OpenedAdapter, OptionNames};
use eigenmix_experiment::{Truncation, truncate};
use eigenmix_experiment::{style_of_copy, style_of_result};
use serde::Serialize;
use serde_json::json;

use crate::cli::ExportArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &ExportArguments, console: &Console) -> anyhow::Result<()> {
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let source = OpenedAdapter::open(&arguments.source)?;
    source.require_whole(arguments.allow_partial, OptionNames::Flags, console)?;
    destination.keep_apart_from_input(&source)?;

    let style = match arguments.rank {
        None => style_of_copy(&source, arguments.format.into(), &arguments.out)?,
        Some(_) => style_of_result(
            &[&source],
            arguments.format.into(),
            Some(&arguments.out),
            OptionNames::Flags,
        )?,
    };
    if arguments.merge_into_base.is_some() {
        source.file.require_one_model()?;
    }
    let adapter = source.file.load()?;
    let (adapter, truncation) = match arguments.rank {
        None => (adapter, None),
        Some(rank) => {
            let (adapter, truncation) = truncate(&adapter, rank.get())?;
            (adapter, Some(truncation))
        }
    };
    let input = source.input()?;
    let provenance = Provenance {
        input: input.to_json(),
        ..provenance(arguments, &source, truncation.as_ref())
    };
    let merged = match &arguments.merge_into_base {
        None => {
            let options = SaveOptions {
                force: destination.force(),
                provenance: Some(provenance),
                companions: input.companions()?,
            };
            adapter.save_as(destination.path(), &style, &options)?;
            None
        }
        Some(directory) => {
            destination.keep_apart_from(directory)?;
            let base = BaseCheckpoint::open(directory)?;
            let merged = merge_into_base(
                &adapter,
                &base,
                &provenance,
                &input.companions()?,
                &destination,
            )?;
            merged.notes.iter().for_each(|note| console.warn(note));
            Some(merged)
        }
    };
    let result = ExportResult::new(arguments, &style, &adapter, truncation, merged);
    console.result(&result)
}

fn provenance(
    arguments: &ExportArguments,
    source: &OpenedAdapter,
    truncation: Option<&Truncation>,
) -> Provenance {
    let base = arguments.merge_into_base.as_ref();
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: "export".to_owned(),
        sources: vec![source.file.source()],
        options: json!({
            "rank": arguments.rank,
            "energy_kept": truncation.map(|truncation| truncation.energy_kept),
            "merge_into_base": base.map(|base| base.display().to_string()),
        }),
        input: None,
    }
}

#[derive(Serialize)]
struct ExportResult {
    out: String,
    source: String,
    /// The dialect in which the adapter is written.
    format: &'static str,
    modules: usize,
    /// The smallest and the largest.
    ranks: [usize; 2],
    heads: Vec<String>,
    truncation: Option<Truncation>,
    merged: Option<BaseMergeReport>,
}

impl ExportResult {
    fn new(
        arguments: &ExportArguments,
        style: &Style,
        adapter: &Adapter,
        truncation: Option<Truncation>,
        merged: Option<BaseMergeReport>,
    ) -> Self {
        let ranks = adapter.modules.values().map(|module| module.rank());
        Self {
            out: arguments.out.display().to_string(),
            source: arguments.source.clone(),
            format: style.dialect().name(),
            modules: adapter.modules.len(),
            ranks: [ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0)],
            heads: adapter.heads.keys().cloned().collect(),
            truncation,
            merged,
        }
    }
}

impl fmt::Display for ExportResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(truncation) = &self.truncation {
            writeln!(
                formatter,
                "truncated to rank {}: {:.4} % of ‖ΔW‖² kept",
                truncation.rank,
                100.0 * truncation.energy_kept
            )?;
        }
        match &self.merged {
            None => self.describe_adapter(formatter),
            Some(merged) => self.describe_checkpoint(merged, formatter),
        }
    }
}

impl ExportResult {
    fn describe_adapter(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.ranks;
        let rank = if low == high {
            format!("rank {low}")
        } else {
            format!("ranks {low} to {high}")
        };
        write!(
            formatter,
            "`{}`: plain LoRA ({}), {} modules, {rank}",
            self.out, self.format, self.modules
        )?;
        if !self.heads.is_empty() {
            write!(formatter, ", with {}", self.heads.join(", "))?;
        }
        Ok(())
    }

    fn describe_checkpoint(
        &self,
        merged: &BaseMergeReport,
        formatter: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(
            formatter,
            "`{}`: `{}` with {} weights merged and {} tensors as they were",
            self.out, merged.base, merged.merged, merged.copied
        )?;
        for (action, names) in [("replaced", &merged.replaced), ("added", &merged.added)] {
            if !names.is_empty() {
                write!(formatter, "\n  {action}: {}", names.join(", "))?;
            }
        }
        if let Some(prefix) = &merged.prefix {
            write!(
                formatter,
                "\n  the base model's tensors are now named `{prefix}.…`, as the heads need it"
            )?;
        }
        Ok(())
    }
}
