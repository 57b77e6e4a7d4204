//! The base model of an adapter in a GGUF file, which says in which order its rows lie.

use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_hub::HubId;
use eigenmix_models::gguf_base;

use crate::TrainerError;
use crate::base_model::BaseModel;

/// The same file with what its base model says of the order of its rows, where that matters: the model
/// that is given, else the one that the file names, if it is at hand. Without one, reading a module
/// whose rows lie in another order is refused.
///
/// - path: where the file is
///
/// # Errors
/// If the base model is not one of such adapters, or the adapter does not go with it.
pub fn with_rows_in_order(
    file: AdapterFile,
    path: &Path,
    base: Option<&BaseModel>,
) -> Result<AdapterFile, TrainerError> {
    if !file.needs_base() {
        return Ok(file);
    }
    let named = match base {
        Some(_) => None,
        None => named_base(&file, path).ok().flatten(),
    };
    match base.or(named.as_ref()) {
        Some(base) => Ok(file.with_base(&gguf_base(&base.checkpoint)?)?),
        None => Ok(file),
    }
}

/// The description of the base model that an adapter names: a path as it is or from the adapter's place,
/// or a Hub id; nothing if it names none.
///
/// - path: where the adapter is
///
/// # Errors
/// If the name is no path that exists and the Hub does not have it, or what is there is no model.
pub fn named_base(file: &AdapterFile, path: &Path) -> Result<Option<BaseModel>, TrainerError> {
    let config = file.config();
    let Some(name) = config.base_model().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if Path::new(name).exists() {
        return BaseModel::open_config(name).map(Some);
    }
    let place = match path.is_dir() {
        true => Some(path),
        false => path.parent(),
    };
    if let Some(beside) = place.map(|place| place.join(name))
        && beside.exists()
    {
        return BaseModel::open_config(&beside.to_string_lossy()).map(Some);
    }
    let id = HubId::parse(name)?;
    let name = match (id.revision(), config.revision()) {
        (None, Some(revision)) => format!("{name}@{revision}"),
        _ => name.to_owned(),
    };
    BaseModel::open_config(&name).map(Some)
}
