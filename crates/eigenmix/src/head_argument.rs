//! `--head ADAPTER`: the head and labels of one adapter over the updates of another.
//!
//! A merge of several tasks has no head of its own, as heads belong to their task.

use trainer::{BaseModel, DeviceChoice, LoadedModel, TaskHead};

use crate::adapter_argument::OpenedAdapter;
use crate::failure::BadInput;

/// Loads `base` with `adapter`, under the head of `--head` if there is one.
///
/// # Errors
/// If the adapter or the head does not fit the base model, or `--head` names an adapter that has
/// none.
pub(crate) fn load_model(
    base: &BaseModel,
    adapter: Option<&OpenedAdapter>,
    head: Option<&str>,
    allow_partial: bool,
    device: DeviceChoice,
) -> anyhow::Result<LoadedModel> {
    let device = device.open()?;
    let file = adapter.map(|adapter| &adapter.file);
    let Some(argument) = head else {
        return Ok(LoadedModel::load(base, file, allow_partial, &device)?);
    };
    let owner = OpenedAdapter::open(argument)?;
    if owner.file.head_names().next().is_none() {
        let problem = format!(
            "--head: adapter `{argument}` has no head, it saves no module whole; name the adapter that was trained on the task"
        );
        return Err(BadInput(problem).into());
    }
    let head = TaskHead::of(base, &owner.file)?;
    if let Some(file) = file
        && !allow_partial
    {
        file.require_clean()?;
    }
    let adapter = file.map(|file| file.load()).transpose()?;
    let model = LoadedModel::assemble(base, adapter.as_ref(), Some(&head), allow_partial, &device)?;
    Ok(model)
}
