//! `eigenmix export`: a run or an adapter as plain LoRA, or merged into its base model.

use std::fmt;
use std::path::Path;

use eigenmix_adapter::{Adapter, Dialect, Provenance, SaveOptions, Style};
use eigenmix_experiment::merge_into_base::{
    BaseCheckpoint, BaseMergeReport, merge_into_base, quantised_training_note,
};
use eigenmix_experiment::{
    BadInput, Destination, OutputFormat, base_of_gguf, checked_gguf_base, without_copies,
};
use eigenmix_experiment::{OpenedAdapter, OptionNames};
use eigenmix_experiment::{Truncation, truncate};
use eigenmix_experiment::{style_of_copy, style_of_result};
use eigenmix_gguf::is_gguf_name;
use eigenmix_trainer::{BaseModel, LazyBase, has_only_coefficients, rebuild_adapter};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::cli::ExportArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &ExportArguments, console: &Console) -> anyhow::Result<()> {
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let base = arguments.base.as_deref().map(BaseModel::open_config);
    let base = base.transpose()?;
    let rebuilt = rebuilt(arguments, console)?;
    let source = match &rebuilt {
        Some(directory) => rebuilt_source(arguments, directory.path())?,
        None => open(arguments, base.as_ref())?,
    };
    source.require_whole(arguments.allow_partial, OptionNames::Flags, console)?;
    destination.keep_apart_from_input(&source)?;

    let (format, base) = format_of(arguments, &source, base)?;
    let style = match arguments.rank {
        None => style_of_copy(&source, format, &arguments.out)?,
        Some(_) => style_of_result(&[&source], format, Some(&arguments.out), OptionNames::Flags)?,
    };
    if arguments.merge_into_base.is_some() {
        source.file.require_one_model()?;
    }
    let adapter = source.file.load()?;
    let (mut adapter, truncation) = match arguments.rank {
        None => (adapter, None),
        Some(rank) => {
            let (adapter, truncation) = truncate(&adapter, rank.get())?;
            (adapter, Some(truncation))
        }
    };
    if let Some(base) = &base {
        let copies = without_copies(&mut adapter, base);
        if !copies.is_empty() {
            console.note(format_args!(
                "left out, as they are the base model's own: {}",
                copies.join(", ")
            ));
        }
    }
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
            if style.dialect().is_one_file() && !options.companions.is_empty() {
                let names = options.companions.iter().map(|file| file.name.as_str());
                let names: Vec<&str> = names.collect();
                console.note(format_args!(
                    "one file has no room for {} beside the adapter; they are left out",
                    names.join(", ")
                ));
            }
            note_server_limits(&adapter, &style, console);
            None
        }
        Some(directory) => {
            destination.keep_apart_from(directory)?;
            let base = BaseCheckpoint::open(directory, arguments.format.dtype.map(Into::into))?;
            let merged = merge_into_base(
                &adapter,
                &base,
                &provenance,
                &input.companions()?,
                &destination,
            )?;
            merged.notes.iter().for_each(|note| console.warn(note));
            let weights = trained_weights(&source)?;
            let config = source.file.config();
            if let Some(note) = quantised_training_note(config, weights.as_deref(), &base) {
                console.warn(note);
            }
            Some(merged)
        }
    };
    let result = ExportResult::new(arguments, &style, &adapter, truncation, merged);
    console.result(&result)
}

/// The adapter of a run that kept its coefficients alone, made again in a directory of its own.
fn rebuilt(arguments: &ExportArguments, console: &Console) -> anyhow::Result<Option<TempDir>> {
    let run = Path::new(&arguments.source);
    if !has_only_coefficients(run) {
        return Ok(None);
    }
    let directory = tempfile::tempdir()?;
    rebuild_adapter(run, &directory.path().join(REBUILT))?;
    console.note(format_args!(
        "`{}` has no adapter: it is made again from its coefficients",
        run.display()
    ));
    Ok(Some(directory))
}

/// Opens an adapter that was made again, under the name of its run.
fn rebuilt_source(arguments: &ExportArguments, directory: &Path) -> anyhow::Result<OpenedAdapter> {
    let path = directory.join(REBUILT);
    let opened = OpenedAdapter::open(&path.display().to_string())?;
    Ok(OpenedAdapter {
        file: opened.file.with_location(arguments.source.as_str()),
        ..opened
    })
}

/// The name of an adapter that was made again.
const REBUILT: &str = "adapter";

/// Opens the adapter; the base model of one that is merged is the one that it is merged into.
fn open(arguments: &ExportArguments, base: Option<&BaseModel>) -> anyhow::Result<OpenedAdapter> {
    let merged = arguments.merge_into_base.as_ref();
    let merged = merged.map(|path| path.display().to_string());
    let merged = LazyBase::new(merged.as_deref());
    let base = || match base {
        Some(base) => Ok(Some(base)),
        None => merged.get(),
    };
    Ok(OpenedAdapter::open_for(&arguments.source, base)?)
}

/// How the training that made the adapter quantised the weights of its base model, if it says so.
fn trained_weights(source: &OpenedAdapter) -> anyhow::Result<Option<String>> {
    let Some(directory) = source.directory() else {
        return Ok(None);
    };
    let made = Provenance::read_json(directory)?;
    let options = made.as_ref().and_then(|made| made.get("options"));
    let weights = options.and_then(|options| options.get("base_weights"));
    Ok(weights
        .and_then(|weights| weights.as_str())
        .map(str::to_owned))
}

/// The form that is asked for; of GGUF, with the base model for which it is written.
fn format_of(
    arguments: &ExportArguments,
    source: &OpenedAdapter,
    base: Option<BaseModel>,
) -> anyhow::Result<(OutputFormat, Option<BaseModel>)> {
    let mut format = OutputFormat::from(arguments.format);
    if arguments.merge_into_base.is_some() {
        // The dtype is that of the checkpoint.
        format.dtype = None;
    }
    let own = source.file.style().dialect();
    let names_gguf = is_gguf_name(&arguments.out);
    let is_gguf = match format.dialect {
        Some(dialect) => dialect == Dialect::Gguf,
        None => own == Dialect::Gguf && names_gguf,
    };
    if is_gguf {
        let base = base_of_gguf(source, base)?;
        format.gguf = Some(checked_gguf_base(source, &base)?);
        return Ok((format, Some(base)));
    }
    if base.is_some() && own != Dialect::Gguf {
        let problem = "--base is for adapters from or to GGUF; leave it out, or add --format gguf";
        return Err(BadInput(problem.to_owned()).into());
    }
    Ok((format, None))
}

/// The largest rank that vLLM takes unless it is told otherwise.
const RANK_IN_VLLM: usize = 16;

/// Says where a server has to be told of the rank.
fn note_server_limits(adapter: &Adapter, style: &Style, console: &Console) {
    let rank = adapter.modules.values().map(|module| module.rank()).max();
    let is_text = adapter.config.task_type() == Some("CAUSAL_LM");
    if let Some(rank) = rank.filter(|&rank| rank > RANK_IN_VLLM)
        && style.dialect() == Dialect::Peft
        && is_text
    {
        console.note(format_args!(
            "vLLM takes adapters of rank up to {RANK_IN_VLLM}; start it with --max-lora-rank {}, or export with --rank {RANK_IN_VLLM}",
            vllm_rank(rank)
        ));
    }
}

/// The least of vLLM's ranks that is enough.
fn vllm_rank(rank: usize) -> usize {
    let known = [8, 16, 32, 64, 128, 256, 320, 512];
    known
        .into_iter()
        .find(|&known| known >= rank)
        .unwrap_or(rank)
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
