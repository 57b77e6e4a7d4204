//! Available adapters, and whether they fit the base model.

use std::fs;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, PeftConfig};
use eigenmix_models::Description;
use eigenmix_store::Store;

use crate::error::message;
use crate::opened_adapter::OpenedAdapter;

/// An adapter that was examined.
pub struct FoundAdapter {
    /// Its name in a configuration.
    pub name: String,
    pub base_model: Option<String>,
    pub rank: usize,
    pub modules: usize,
    /// Why it cannot be recycled.
    pub problem: Option<String>,
}

impl FoundAdapter {
    /// Examines an adapter; if it cannot be read, that is its problem.
    ///
    /// - base: the base model that it should fit; anything fits an unknown one
    pub fn look(name: &str, base: Option<&Description>) -> Self {
        match OpenedAdapter::open(name) {
            Ok(opened) => Self {
                name: name.to_owned(),
                base_model: opened.file.config().base_model().map(str::to_owned),
                rank: opened.file.config().rank(),
                modules: opened.file.module_paths().count(),
                problem: problem(&opened.file, base),
            },
            Err(error) => Self {
                name: name.to_owned(),
                base_model: None,
                rank: 0,
                modules: 0,
                problem: Some(message(&error)),
            },
        }
    }
}

fn problem(file: &AdapterFile, base: Option<&Description>) -> Option<String> {
    if let Err(error) = file.require_clean() {
        return Some(message(&error));
    }
    let base = base?;
    for module in file.module_paths() {
        let Some(layer) = base.layer(module) else {
            return Some(format!("the base model has no layer `{module}`"));
        };
        let (_, d_in, d_out) = file.shape(module).ok()?;
        if (d_in, d_out) != (layer.d_in, layer.d_out) {
            return Some(format!(
                "`{module}` is {d_out} × {d_in} there and {} × {} in the base model",
                layer.d_out, layer.d_in
            ));
        }
    }
    None
}

/// The adapters that an argument stands for: itself, those of a store, or those in a directory of adapters,
/// runs or stores. What cannot be read is left for whoever opens it to report.
pub fn adapters_in(argument: &str) -> Vec<String> {
    let path = Path::new(argument);
    let is_adapter = |path: &Path| {
        let names = [PeftConfig::FILE_NAME, "adapter/adapter_config.json"];
        names.iter().any(|name| path.join(name).is_file())
    };
    if !path.is_dir() || is_adapter(path) {
        return vec![argument.to_owned()];
    }
    if is_store(path) {
        return stored_in(path);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<String> = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if is_store(&path) {
            found.extend(stored_in(&path));
        } else if is_adapter(&path) {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

fn is_store(path: &Path) -> bool {
    path.join(Store::FILE_NAME).is_file()
}

/// The adapters of a store as `STORE#NAME`; the store itself if it is damaged.
fn stored_in(path: &Path) -> Vec<String> {
    let place = path.to_string_lossy();
    match Store::names(path) {
        Ok(names) => {
            let names = names.iter();
            names.map(|name| format!("{place}#{name}")).collect()
        }
        Err(_) => vec![place.into_owned()],
    }
}
