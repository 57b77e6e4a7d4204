//! Keys of an arm that nothing would read.

use toml::Table;

use crate::config_file::{ConfigFile, KeyPath, Problem};

/// What only a training reads. An arm that evaluates may have them in the defaults, which are those
/// of other arms as well, but not in its own tables.
const OF_TRAINING: [&str; 10] = [
    "adapter",
    "training",
    "base.from_scratch",
    "base.dropout",
    "task.kind",
    "task.target",
    "task.class_weights",
    "data.examples_per_class",
    "data.max_examples",
    "data.fold",
];

/// What an evaluation does not depend on: it draws nothing.
const SEEDS: [&str; 2] = ["seed", "seeds"];

/// The keys of the arm at `place` itself that have no effect.
pub(super) fn unread_keys(file: &ConfigFile, place: &KeyPath, is_evaluation: bool) -> Vec<Problem> {
    let unread = match is_evaluation {
        true => OF_TRAINING
            .iter()
            .chain(&SEEDS)
            .flat_map(|key| [(*key).to_owned(), format!("vary.{key}")])
            .collect(),
        false => vec!["head".to_owned()],
    };
    let reason = match is_evaluation {
        true => "has no effect beside `evaluate`, which trains nothing; remove it",
        false => "has no effect without `evaluate`; remove it",
    };
    let paths = unread.iter().map(|key| KeyPath::dotted(key).below(place));
    paths
        .filter(|path| file.has(path))
        .map(|path| Problem::new(path.clone(), format!("`{path}` {reason}")))
        .collect()
}

/// Takes the lists of a file that only trainings read out of those of an arm that evaluates: they
/// would make arms that differ in nothing.
pub(super) fn remove_unread_lists(vary: &mut Table) {
    let mut root = toml::Value::Table(std::mem::take(vary));
    for key in OF_TRAINING {
        KeyPath::dotted(key).remove(&mut root);
    }
    if let toml::Value::Table(table) = root {
        *vary = table;
    }
}
