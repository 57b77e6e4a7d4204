//! Checks that the models, data and adapters that a file names exist, before anything runs.

use std::path::Path;

use eigenmix_hub::Location;
use toml::Value;

use crate::config_file::{KeyPath, Problem};

/// Whether the models, data and adapters that a file names have to exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputCheck {
    Required,
    /// For a plan alone, the inputs need not exist.
    Skipped,
}

/// The keys by which a configuration names a model, data, adapters or a subspace.
const PLACES: [&str; 8] = [
    "base.model",
    "data.path",
    "adapter.subspace",
    "adapter.adapters",
    "adapter.init",
    "adapters",
    "evaluate",
    "head",
];

/// The inputs of a resolved table that exist neither locally nor on the Hub and that no stage below
/// `output` makes.
pub(super) fn missing_inputs(root: &Value, output: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |path: KeyPath, text: &str| {
        let place = text.strip_prefix("project:").unwrap_or(text);
        if let Err(error) = Location::parse(place)
            && !Path::new(place).starts_with(output)
        {
            problems.push(Problem::new(path.clone(), format!("`{path}`: {error}")));
        }
    };
    for key in PLACES {
        let path = KeyPath::dotted(key);
        match path.find(root) {
            // The values of `init` that do not name an adapter.
            Some(Value::String(text)) if key == "adapter.init" && !text.contains(':') => {}
            Some(Value::String(text)) => check(path, text),
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(text) = item.as_str() {
                        check(path.index(index), text);
                    }
                }
            }
            _ => {}
        }
    }
    problems
}
