//! Checks that the models, data and adapters that a file names exist, before anything runs.

use std::path::Path;

use eigenmix_trainer::{AdapterPlace, Init};
use toml::Value;

use crate::config_file::{KeyPath, Problem};
use crate::error::message;

/// Whether the models, data and adapters that a file names have to exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputCheck {
    Required,
    /// For a plan alone, the inputs need not exist.
    Skipped,
}

/// The keys by which a configuration names a model, data, adapters or a subspace.
const PLACES: [&str; 10] = [
    "base.model",
    "data.path",
    "adapter.subspace",
    "adapter.adapters",
    "adapter.init",
    "adapters",
    "evaluate",
    "head",
    "search.base",
    SEARCH_DATA,
];

/// The data of a search, `[NAME=]DIR`.
const SEARCH_DATA: &str = "search.data";

/// The inputs of a resolved table that exist neither locally nor on the Hub and that no stage below
/// `output` makes.
pub(super) fn missing_inputs(root: &Value, output: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |path: KeyPath, text: &str| {
        if let Err(error) = AdapterPlace::parse(text)
            && !Path::new(text).starts_with(output)
        {
            problems.push(Problem::new(
                path.clone(),
                format!("`{path}`: {}", message(&error)),
            ));
        }
    };
    for key in PLACES {
        let path = KeyPath::dotted(key);
        match path.find(root) {
            // What names no adapter is a keyword, or reported with the configuration.
            Some(Value::String(text)) if key == "adapter.init" => {
                let init = Init::try_from(text.clone());
                if let Some(adapter) = init.as_ref().ok().and_then(Init::adapter) {
                    check(path, adapter);
                }
            }
            Some(Value::String(text)) => check(path, text),
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let Some(text) = item.as_str() else {
                        continue;
                    };
                    // The name of a directory may contain `=`.
                    let directory = match text.split_once('=') {
                        Some((_, directory)) if key == SEARCH_DATA && !Path::new(text).exists() => {
                            directory
                        }
                        _ => text,
                    };
                    check(path.index(index), directory);
                }
            }
            _ => {}
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_to_start_from_is_an_input_and_a_keyword_is_none() {
        for (init, is_missing) in [
            ("zero", false),
            ("merge", false),
            ("org/adapter", false),
            ("out/train/gym/adapter", false),
            ("no/such/adapter", true),
            ("project:no/such/adapter", true),
        ] {
            let table = format!("adapter.init = '{init}'");
            let root = Value::Table(table.parse().expect("TOML"));
            let found = missing_inputs(&root, Path::new("out"));
            assert_eq!(!found.is_empty(), is_missing, "{init}");
        }
    }

    #[test]
    fn the_base_model_and_the_data_of_a_search_are_inputs() {
        let place = tempfile::tempdir().expect("a directory");
        let here = place.path().display();
        let table = format!(
            "search.base = '{here}/no base'\nsearch.data = ['gym={here}', 'library={here}/no data']"
        );
        let root = Value::Table(table.parse().expect("TOML"));
        let found = missing_inputs(&root, Path::new("out"));
        let paths: Vec<String> = found
            .iter()
            .map(|problem| problem.path.to_string())
            .collect();
        assert_eq!(paths, ["search.base", "search.data[1]"]);
        assert!(found[1].message.contains("no data"), "{}", found[1].message);
    }
}
