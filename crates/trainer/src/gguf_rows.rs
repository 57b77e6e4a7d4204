//! The base model of an adapter in a GGUF file, which says in which order its rows lie.

use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_hub::HubId;
use eigenmix_models::gguf_base;

use crate::TrainerError;
use crate::base_model::BaseModel;

/// The same file with what its base model says of it. Of a vision-language model, modules have the names
/// of transformers 5. Of a GGUF file, the order of its rows, where that matters: the model
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
    if file.has_earlier_names() {
        let beside = || local_base(&file, path).and_then(|path| BaseModel::open_config(&path).ok());
        let named = if base.is_none() { beside() } else { None };
        let architecture = base.or(named.as_ref()).map(|base| &base.architecture);
        if architecture.is_some_and(|found| found.image_tokens().is_some()) {
            return Ok(file.with_current_names()?);
        }
    }
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
    if let Some(found) = local_base(file, path) {
        return BaseModel::open_config(&found).map(Some);
    }
    let id = HubId::parse(name)?;
    let name = match (id.revision(), config.revision()) {
        (None, Some(revision)) => format!("{name}@{revision}"),
        _ => name.to_owned(),
    };
    BaseModel::open_config(&name).map(Some)
}

/// The path that an adapter names as its base model, if there is something: as it is, or from the
/// adapter's place.
fn local_base(file: &AdapterFile, path: &Path) -> Option<String> {
    let name = file.config().base_model()?;
    if Path::new(name).exists() {
        return Some(name.to_owned());
    }
    let place = match path.is_dir() {
        true => Some(path),
        false => path.parent(),
    };
    let beside = place?.join(name);
    beside
        .exists()
        .then(|| beside.to_string_lossy().into_owned())
}
