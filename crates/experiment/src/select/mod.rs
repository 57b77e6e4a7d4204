//! Which of many adapters are worth recycling for a task.

mod page;
mod pool;
mod summary;

use std::time::Instant;

use eigenmix_trainer::{Device, NetworkTraining, SelectionOptions};
use toml::{Table, Value};

use self::pool::FoundPool;
pub use self::summary::{AdapterSelection, LossSummary, SelectSummary, UnusedAdapter};
use crate::config_file::{ConfigFile, train_config};
use crate::listener::Listener;
use crate::{BadInput, ExperimentError};

/// The request for a selection.
pub struct SelectRequest {
    /// Adapters, and directories of adapters or runs.
    pub adapters: Vec<String>,
    /// The training file of the task, of which `[adapter]` is not read.
    pub task: ConfigFile,
    pub options: SelectionOptions,
    /// Use adapters even if they name another base model.
    pub allow_base_mismatch: bool,
}

/// Compares the adapters with the gradient of the task, measures the loss under the best, and orders them.
///
/// - device: without autodiff
///
/// # Errors
/// If the task cannot be read, or none of the adapters can be recycled for it.
pub fn select(
    request: &SelectRequest,
    device: &Device,
    listener: &dyn Listener,
) -> Result<SelectSummary, ExperimentError> {
    let start = Instant::now();
    let config = train_config(&task_alone(request)?)
        .map_err(|problems| ExperimentError::Config(request.task.error(problems).into()))?;
    let pool = FoundPool::open(&request.adapters, &config.base.model)?;
    let mut training = NetworkTraining::prepare(config)?;
    let pool = pool.sorted(&training);
    if pool.usable.is_empty() {
        return Err(none_usable(&pool.unused).into());
    }
    training.notes().for_each(|note| listener.note(note));
    if let Some(note) = training.whole_modules_note(&pool.usable) {
        listener.note(&note);
    }
    let found = {
        let work = training.selection_work(&request.options, pool.usable.len());
        let progress = listener.progress("comparing", work, "examples");
        let advance = |count| (0..count).for_each(|_| progress.advance());
        training.select(&pool.usable, &request.options, device, &advance)?
    };
    let locations = pool.usable.iter().map(|adapter| adapter.file.location());
    let named: Vec<(String, String)> = { pool.names.into_iter() }
        .zip(locations.map(str::to_owned))
        .collect();
    Ok(SelectSummary::new(
        &found,
        &named,
        pool.unused,
        start.elapsed(),
    ))
}

/// The training file with an adapter that adapts everything and asks for no files: which modules count is
/// said by the adapters that are compared.
fn task_alone(request: &SelectRequest) -> Result<Table, BadInput> {
    let mut table = request.task.table().clone();
    let given = table.remove("adapter");
    let allows = given
        .as_ref()
        .and_then(|given| given.get("allow_base_mismatch"));
    let allows = allows.and_then(Value::as_bool).unwrap_or(false);
    let adapter = Table::from_iter([
        ("method".to_owned(), Value::from("lora")),
        ("rank".to_owned(), Value::from(1)),
        ("target_modules".to_owned(), Value::from("all-linear")),
        (
            "allow_base_mismatch".to_owned(),
            Value::from(allows || request.allow_base_mismatch),
        ),
    ]);
    table.insert("adapter".to_owned(), Value::Table(adapter));
    Ok(table)
}

fn none_usable(unused: &[UnusedAdapter]) -> BadInput {
    let reasons = unused.iter().take(SHOWN);
    let reasons: Vec<String> = reasons
        .map(|adapter| format!("`{}` ({})", adapter.location, adapter.reason))
        .collect();
    let more = match unused.len() {
        ..=SHOWN => String::new(),
        count => format!("; and {} more", count - SHOWN),
    };
    BadInput(format!(
        "none of the {} adapters can be recycled for this task: {}{more}",
        unused.len(),
        reasons.join("; ")
    ))
}

/// How many adapters an error lists.
const SHOWN: usize = 10;
