//! Lists of values: a variant of an arm for every combination.

use toml::{Table, Value};

use crate::config_file::{KeyPath, Problem};

/// One combination of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Combination(Vec<Setting>);

/// A key with the value that it has in a combination.
#[derive(Clone, Debug, PartialEq)]
struct Setting {
    path: KeyPath,
    /// Where in its list the value stands.
    place: usize,
    value: Value,
}

/// Every combination of the values that a `[vary]` table lists; of an empty table the one that
/// changes nothing.
///
/// # Errors
/// If something in it is not a list of values.
pub(super) fn combinations(vary: &Table) -> Result<Vec<Combination>, Vec<Problem>> {
    let mut lists = Vec::new();
    let mut problems = Vec::new();
    collect(vary, &KeyPath::default(), &mut lists, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let start = vec![Combination::default()];
    Ok(lists.into_iter().fold(start, |before, (path, values)| {
        let extend = |combination: &Combination| -> Vec<Combination> {
            let with = |(place, value): (usize, &Value)| {
                let mut settings = combination.0.clone();
                settings.push(Setting {
                    path: path.clone(),
                    place,
                    value: value.clone(),
                });
                Combination(settings)
            };
            values.iter().enumerate().map(with).collect()
        };
        before.iter().flat_map(extend).collect()
    }))
}

fn collect(
    table: &Table,
    path: &KeyPath,
    lists: &mut Vec<(KeyPath, Vec<Value>)>,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let path = path.key(key);
        match value {
            Value::Table(table) => collect(table, &path, lists, problems),
            Value::Array(values) if !values.is_empty() => lists.push((path, values.clone())),
            _ => {
                let message = format!("`vary.{path}` must be a list of values to try");
                problems.push(Problem::new(path.below(&KeyPath::dotted("vary")), message));
            }
        }
    }
}

impl Combination {
    /// Sets the values in a configuration.
    pub(super) fn apply(&self, table: Table) -> Table {
        let mut root = Value::Table(table);
        for setting in &self.0 {
            setting.path.insert(&mut root, setting.value.clone());
        }
        match root {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    }

    /// Where below `vary` the value of `path` stands, if this sets it.
    pub(super) fn place_of(&self, path: &KeyPath) -> Option<KeyPath> {
        let setting = self
            .0
            .iter()
            .find(|setting| path.starts_with(&setting.path))?;
        let list = setting.path.below(&KeyPath::dotted("vary"));
        Some(list.index(setting.place))
    }

    /// `key=value` for every key, without the tables that it is in; `None` if nothing varies.
    pub(super) fn name(&self) -> Option<String> {
        let part = |setting: &Setting| {
            let path = setting.path.to_string();
            let key = path.rsplit('.').next().unwrap_or_default();
            format!("{key}={}", value_name(&setting.value))
        };
        let parts: Vec<String> = self.0.iter().map(part).collect();
        (!parts.is_empty()).then(|| parts.join(","))
    }
}

/// A value in a name.
fn value_name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(value_name).collect::<Vec<_>>().join("+"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_comes_once_with_its_name_and_its_values() {
        let vary = "adapter.rank = [2, 4]\ndata.examples_per_class = ['all', 5]";
        let found = combinations(&vary.parse().unwrap()).unwrap();
        let names: Vec<_> = found.iter().filter_map(Combination::name).collect();
        assert_eq!(
            names,
            [
                "rank=2,examples_per_class=all",
                "rank=2,examples_per_class=5",
                "rank=4,examples_per_class=all",
                "rank=4,examples_per_class=5"
            ]
        );
        let table = found[1].apply("adapter = { rank = 9, alpha = 1 }".parse().unwrap());
        let expected = "adapter = { rank = 2, alpha = 1 }\ndata.examples_per_class = 5";
        assert_eq!(table, expected.parse::<Table>().unwrap());
        let place = found[1].place_of(&KeyPath::dotted("data.examples_per_class"));
        assert_eq!(
            place.unwrap().to_string(),
            "vary.data.examples_per_class[1]"
        );
    }

    #[test]
    fn without_lists_there_is_one_combination_that_changes_nothing() {
        let found = combinations(&Table::new()).unwrap();
        assert_eq!(found, [Combination::default()]);
        assert_eq!(found[0].name(), None);
    }

    #[test]
    fn a_single_value_is_no_list() {
        let problems = combinations(&"adapter.rank = 2".parse().unwrap()).unwrap_err();
        assert_eq!(problems[0].path.to_string(), "vary.adapter.rank");
    }
}
