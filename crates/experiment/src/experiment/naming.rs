//! Names that become directories.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Whether a directory can have this name on every system.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_allowed)
}

fn is_allowed(letter: char) -> bool {
    letter.is_alphanumeric() || "-_.+= ".contains(letter)
}

/// The name of a combination of values, as a directory name.
pub(super) fn as_directory_name(name: &str) -> String {
    let letter = |letter| match is_allowed(letter) || letter == ',' {
        true => letter,
        false => '_',
    };
    name.chars().map(letter).collect()
}

/// `name`, with a number if it is taken.
pub(super) fn free_name(taken: &mut BTreeSet<String>, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    // There is always a next number.
    let free = candidates.find(|candidate| !taken.contains(candidate));
    let free = free.unwrap_or_else(|| name.to_owned());
    taken.insert(free.clone());
    free
}

/// The default name of an arm: the adapter that it evaluates, or its method.
pub(super) fn default_name(own: &Table, table: &Table) -> String {
    let evaluated = own.get("evaluate").and_then(Value::as_str);
    let method = table
        .get("adapter")
        .and_then(|adapter| adapter.get("method"));
    match (evaluated, method.and_then(Value::as_str)) {
        (Some(adapter), _) => as_directory_name(adapter),
        (None, method) => method.unwrap_or("training").to_owned(),
    }
}
