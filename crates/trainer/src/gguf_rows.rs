//! What the base model of an adapter says of its file: the names of modules, and in which order rows lie.

use std::error::Error;
use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_hub::{HubFile, HubId};
use eigenmix_models::gguf_base;

use crate::TrainerError;
use crate::base_model::BaseModel;

/// The same file with what its base model says of it. Of a vision-language model, modules have the names
/// of transformers 5. Of a GGUF file, the order of its rows, where that matters: the model
/// that is given, else the one that the file names, if it is at hand. Without one, reading a module
/// whose rows lie in another order is refused, with the reason.
///
/// - path: where the file is
/// - base: gives the model; only asked where something depends on it, which a file's name does not tell
///
/// # Errors
/// If the given model cannot be opened or is not one of such adapters, or the adapter does not go with it.
pub fn with_rows_in_order<'b>(
    file: AdapterFile,
    path: &Path,
    base: impl FnOnce() -> Result<Option<&'b BaseModel>, TrainerError>,
) -> Result<AdapterFile, TrainerError> {
    let has_earlier_names = file.has_earlier_names();
    if !has_earlier_names && !file.needs_base() {
        return Ok(file);
    }
    let given = base()?;
    if has_earlier_names {
        let beside = || local_base(&file, path).and_then(|path| BaseModel::open_config(&path).ok());
        let named = if given.is_none() { beside() } else { None };
        let architecture = given.or(named.as_ref()).map(|base| &base.architecture);
        if architecture.is_some_and(|found| found.image_tokens().is_some()) {
            return Ok(file.with_current_names()?);
        }
    }
    if !file.needs_base() {
        return Ok(file);
    }
    if let Some(base) = given {
        return Ok(file.with_base(&gguf_base(&base.checkpoint)?)?);
    }
    match named_base(&file, path) {
        Ok(Some(base)) => Ok(file.with_base(&gguf_base(&base.checkpoint)?)?),
        Ok(None) => Ok(file.without_base("the file names no base model")),
        Err(error) => {
            let name = file.config().base_model().unwrap_or_default();
            let reason = format!("the file names `{name}`, but {}", with_causes(&error));
            Ok(file.without_base(reason))
        }
    }
}

/// An error in one line, with the causes that it does not quote itself.
fn with_causes(error: &TrainerError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// The description of the base model that an adapter names: a path as it is or from the adapter's place, a
/// Hub id, or a GGUF file on the Hub; nothing if it names none.
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
    let id = match HubFile::parse(name)? {
        Some(file) => file.id,
        None => HubId::parse(name)?,
    };
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn golden(name: &str) -> (PathBuf, AdapterFile) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/gguf_adapters")
            .join(name);
        let file = AdapterFile::open(&path).unwrap();
        (path, file)
    }

    #[test]
    fn no_base_model_is_asked_for_unless_the_order_of_rows_depends_on_it() {
        let (path, file) = golden("qwen2-lora-F32.gguf");
        with_rows_in_order(file, &path, || panic!("its rows lie in order")).unwrap();
        let (path, file) = golden("llama-lora-F32.gguf");
        let problem = || Err(TrainerError::NoHead);
        let error = with_rows_in_order(file, &path, problem).unwrap_err();
        assert!(matches!(error, TrainerError::NoHead), "{error}");
    }
}
