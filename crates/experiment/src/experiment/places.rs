//! Models, data and adapters that a file names and that are not there: better said before anything is
//! run than after hours of the arms before.

use std::path::Path;

use eigenmix_hub::Location;
use toml::Value;

use crate::config_file::{KeyPath, Problem};

/// Whether the models, data and adapters that a file names have to be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    Checked,
    /// The plan is wanted where its parts need not be.
    Unchecked,
}

/// Where a configuration names a model, data, adapters or a subspace.
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

/// What a resolved table names that is neither here nor on the Hub, nor made by a stage below
/// `output`.
pub(super) fn missing(root: &Value, output: &Path) -> Vec<Problem> {
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
            // The words of `init` that are no adapter.
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
