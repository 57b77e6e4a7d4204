//! A JSON schema, and a configuration's violations of it.

use std::collections::{BTreeMap, BTreeSet};

use eigenmix_data::closest_name;
use schemars::JsonSchema;
use serde_json::{Map, Value as Json};
use toml::Value;

use super::keywords::collect_unknown;
use super::{KeyPath, Problem};

/// The schema of a kind of file.
#[derive(Clone, Debug)]
pub struct Schema {
    root: Json,
    /// The keywords that would not be checked.
    unknown: BTreeSet<String>,
}

impl Schema {
    /// The schema of what `T` is read from.
    pub fn of<T: JsonSchema>() -> Self {
        Self::new(schemars::schema_for!(T).to_value())
    }

    /// - root: a JSON schema
    pub fn new(root: Json) -> Self {
        let mut unknown = BTreeSet::new();
        collect_unknown(&root, &mut unknown);
        Self { root, unknown }
    }

    /// The keywords of it that are not checked.
    #[cfg(test)]
    pub(crate) fn unknown_keywords(&self) -> &BTreeSet<String> {
        &self.unknown
    }

    /// As JSON.
    pub fn root(&self) -> &Json {
        &self.root
    }

    /// Everything in `value` that the schema does not allow. A schema with a keyword that is not
    /// checked allows nothing: refusing a file is better than passing it unchecked.
    pub fn check(&self, value: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        for keyword in &self.unknown {
            let message = format!(
                "the schema of this file demands `{keyword}`, which is not checked; this is a fault in Eigenmix"
            );
            problems.push(Problem::new(KeyPath::default(), message));
        }
        self.walk(&self.root, value, &KeyPath::default(), &mut problems);
        problems
    }

    /// A value that the schema at `path` allows, to stand in for one that is missing.
    pub fn example(&self, path: &KeyPath) -> Option<Value> {
        let mut node = &self.root;
        for key in path.to_string().split('.') {
            node = self.resolve(node).get("properties")?.get(key)?;
        }
        self.example_of(self.resolve(node))
    }

    fn example_of(&self, node: &Json) -> Option<Value> {
        if let Some(choice) = choices(self.alternatives(node).as_slice()).first() {
            return Some(Value::String(choice.clone()));
        }
        match node.get("type").and_then(Json::as_str)? {
            "string" => Some(Value::String("?".to_owned())),
            "integer" => Some(Value::Integer(1)),
            "number" => Some(Value::Float(0.5)),
            "boolean" => Some(Value::Boolean(false)),
            "array" => {
                let item = node.get("items").map(|items| self.resolve(items));
                let item = item.and_then(|items| self.example_of(items));
                let count = count_in(node, "minItems").unwrap_or(0);
                let items = item.into_iter().cycle().take(count);
                Some(Value::Array(items.collect()))
            }
            _ => None,
        }
    }

    /// What a `$ref` stands for.
    fn resolve<'s>(&'s self, node: &'s Json) -> &'s Json {
        let reference = node.get("$ref").and_then(Json::as_str);
        let target = reference.and_then(|name| name.strip_prefix('#'));
        let target = target.and_then(|pointer| self.root.pointer(pointer));
        target.map_or(node, |target| self.resolve(target))
    }

    /// The schemas of which a value has to follow one.
    fn alternatives<'s>(&'s self, node: &'s Json) -> Vec<&'s Json> {
        let several = ["anyOf", "oneOf"].iter().find_map(|word| node.get(*word));
        let Some(several) = several.and_then(Json::as_array) else {
            return vec![node];
        };
        let each = several.iter().map(|node| self.resolve(node));
        each.flat_map(|node| self.alternatives(node)).collect()
    }

    fn walk(&self, node: &Json, value: &Value, path: &KeyPath, problems: &mut Vec<Problem>) {
        let node = self.resolve(node);
        let alternatives = self.alternatives(node);
        let [single] = alternatives.as_slice() else {
            return self.walk_one_of(&alternatives, value, path, problems);
        };
        if !is_of_type(single, value) {
            let message = format!(
                "`{path}` must be {}, found {}",
                wanted(&[*single]),
                shown(value)
            );
            return problems.push(Problem::new(path.clone(), message));
        }
        if let Some(message) = wrong_choice(&alternatives, value, path) {
            return problems.push(Problem::new(path.clone(), message));
        }
        if let Some(message) = wrong_length(single, value, path) {
            return problems.push(Problem::new(path.clone(), message));
        }
        if let Some(bound) = broken_bound(single, value) {
            let message = format!("`{path}` must be {bound}, found {}", shown(value));
            return problems.push(Problem::new(path.clone(), message));
        }
        match value {
            Value::Table(table) => self.walk_table(single, table, path, problems),
            Value::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    if let Some(node) = single.get("items") {
                        self.walk(node, item, &path.index(index), problems);
                    }
                }
            }
            _ => {}
        }
    }

    fn walk_one_of(
        &self,
        alternatives: &[&Json],
        value: &Value,
        path: &KeyPath,
        problems: &mut Vec<Problem>,
    ) {
        let mut nearest: Option<Vec<Problem>> = None;
        for node in alternatives.iter().filter(|node| is_of_type(node, value)) {
            let mut found = Vec::new();
            self.walk(node, value, path, &mut found);
            if found.is_empty() {
                return;
            }
            nearest.get_or_insert(found);
        }
        let message = wrong_choice(alternatives, value, path);
        match (message, nearest) {
            (Some(message), _) => problems.push(Problem::new(path.clone(), message)),
            (None, Some(found)) => problems.extend(found),
            (None, None) => {
                let wanted = wanted(alternatives);
                let message = format!("`{path}` must be {wanted}, found {}", shown(value));
                problems.push(Problem::new(path.clone(), message));
            }
        }
    }

    fn walk_table(
        &self,
        node: &Json,
        table: &toml::Table,
        path: &KeyPath,
        problems: &mut Vec<Problem>,
    ) {
        let empty = Map::new();
        let properties = node.get("properties").and_then(Json::as_object);
        let properties = properties.unwrap_or(&empty);
        let mut misspelt = Vec::new();
        for (key, value) in table {
            let path = path.key(key);
            match (properties.get(key), node.get("additionalProperties")) {
                (Some(node), _) => self.walk(node, value, &path, problems),
                (None, Some(Json::Bool(false))) => {
                    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                    misspelt.extend(closest_name(key, &names));
                    let message = format!("`{path}` is unknown{}", advice(key, &names));
                    problems.push(Problem::new(path, message));
                }
                (None, Some(node @ Json::Object(_))) => self.walk(node, value, &path, problems),
                (None, _) => {}
            }
        }
        let required = node.get("required").and_then(Json::as_array);
        for key in required.into_iter().flatten().filter_map(Json::as_str) {
            // A misspelt key is reported as such.
            if !table.contains_key(key) && !misspelt.contains(&key) {
                let path = path.key(key);
                problems.push(Problem::new(path.clone(), format!("`{path}` is missing")));
            }
        }
    }
}

/// `; did you mean …`, or what there is to choose from.
fn advice(found: &str, names: &[&str]) -> String {
    match closest_name(found, names) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are {}", names.join(", ")),
    }
}

fn is_of_type(node: &Json, value: &Value) -> bool {
    let is = |name: &str| match value {
        Value::String(_) | Value::Datetime(_) => name == "string",
        Value::Integer(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::Boolean(_) => name == "boolean",
        Value::Array(_) => name == "array",
        Value::Table(_) => name == "object",
    };
    match node.get("type") {
        Some(Json::String(name)) => is(name),
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).any(is),
        // A constant says its type itself.
        _ => value.is_str() || !is_choice(node),
    }
}

fn is_choice(node: &Json) -> bool {
    node.get("const").is_some() || node.get("enum").is_some()
}

/// The allowed words, if only certain ones are allowed.
fn choices(alternatives: &[&Json]) -> Vec<String> {
    let word = |value: &Json| value.as_str().map(str::to_owned);
    let of = |node: &&Json| -> Vec<String> {
        let several = node.get("enum").and_then(Json::as_array);
        let single = node.get("const").into_iter();
        single
            .chain(several.into_iter().flatten())
            .filter_map(word)
            .collect()
    };
    alternatives.iter().flat_map(of).collect()
}

fn wrong_choice(alternatives: &[&Json], value: &Value, path: &KeyPath) -> Option<String> {
    let choices = choices(alternatives);
    let found = value.as_str()?;
    // If any text is allowed, the words are only examples.
    let is_free = alternatives
        .iter()
        .any(|node| !is_choice(node) && is_of_type(node, value));
    if is_free || choices.is_empty() || choices.iter().any(|choice| choice == found) {
        return None;
    }
    let names: Vec<&str> = choices.iter().map(String::as_str).collect();
    Some(format!(
        "`{path}` cannot be {found:?}{}",
        advice(found, &names)
    ))
}

fn count_in(node: &Json, keyword: &str) -> Option<usize> {
    usize::try_from(node.get(keyword)?.as_u64()?).ok()
}

/// The message about a list that is too short or too long.
fn wrong_length(node: &Json, value: &Value, path: &KeyPath) -> Option<String> {
    let found = value.as_array()?.len();
    let (least, most) = (count_in(node, "minItems"), count_in(node, "maxItems"));
    let (bound, wanted) = match (least, most) {
        (Some(least), Some(most)) if least == most && found != least => ("", least),
        (Some(least), _) if found < least => ("at least ", least),
        (_, Some(most)) if found > most => ("at most ", most),
        _ => return None,
    };
    let values = if wanted == 1 { "value" } else { "values" };
    Some(format!(
        "`{path}` must have {bound}{wanted} {values}, found {found}"
    ))
}

/// The bound that a number violates.
fn broken_bound(node: &Json, value: &Value) -> Option<String> {
    let number = value
        .as_float()
        .or(value.as_integer().map(|value| value as f64))?;
    type Keeps = fn(f64, f64) -> bool;
    let bounds: [(&str, &str, Keeps); 4] = [
        ("minimum", "at least", |number, bound| number >= bound),
        ("exclusiveMinimum", "above", |number, bound| number > bound),
        ("maximum", "at most", |number, bound| number <= bound),
        ("exclusiveMaximum", "below", |number, bound| number < bound),
    ];
    bounds.into_iter().find_map(|(word, said, keeps)| {
        let bound = node.get(word)?.as_f64()?;
        (!keeps(number, bound)).then(|| format!("{said} {bound}"))
    })
}

/// The allowed values, as text.
fn wanted(alternatives: &[&Json]) -> String {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for node in alternatives {
        let names = match node.get("type") {
            Some(Json::String(name)) => vec![name.as_str()],
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        for name in names {
            let kind = match name {
                "string" => "text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "true or false",
                "array" => "a list",
                "object" => "a table",
                // TOML has no null: the key is left out instead.
                _ => continue,
            };
            kinds.insert(name, kind);
        }
    }
    let words: Vec<String> = choices(alternatives)
        .iter()
        .map(|word| format!("{word:?}"))
        .collect();
    if !words.is_empty() {
        kinds.remove("string");
    }
    let kinds = kinds.into_values().map(str::to_owned);
    kinds.chain(words).collect::<Vec<_>>().join(" or ")
}

/// A value as it is written in the file; for a table or a list only its kind.
fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_trainer::TrainConfig;
    use serde_json::json;

    fn problems(text: &str) -> Vec<String> {
        let table: toml::Table = text.parse().unwrap();
        let found = Schema::of::<TrainConfig>().check(&Value::Table(table));
        found.into_iter().map(|problem| problem.message).collect()
    }

    const FILE: &str = "output = 'o'\nbase.model = 'm'\ndata.path = 'd'\n\
        adapter = { method = 'lora', rank = 2 }\n\
        training = { epochs = 1, batch_size = 2, learning_rate = 1e-3 }\n";

    #[test]
    fn a_good_file_has_no_problem() {
        assert!(problems(FILE).is_empty(), "{:?}", problems(FILE));
        let more = "task.metrics = ['f1', 'matthews']\nadapter.target_modules = ['q', 'v']\n\
            data.examples_per_class = 'all'\ndata.crop_scale = [0.1, 1]\n\
            data.columns.prompt = 'p'\n";
        let dotted = FILE.replace(
            "adapter = { method = 'lora', rank = 2 }\n",
            "adapter.method = 'lora'\n",
        ) + more;
        assert!(problems(&dotted).is_empty(), "{:?}", problems(&dotted));
    }

    #[test]
    fn every_kind_of_mistake_is_reported_with_the_remedy() {
        for (from, to, expected) in [
            (
                "epochs",
                "epoch",
                vec!["`training.epoch` is unknown; did you mean `epochs`?"],
            ),
            (
                "'lora'",
                "'lore'",
                vec!["`adapter.method` cannot be \"lore\"; did you mean `lora`?"],
            ),
            (
                "rank = 2",
                "rank = '2'",
                vec!["`adapter.rank` must be a whole number, found \"2\""],
            ),
            (
                "rank = 2",
                "rank = -2",
                vec!["`adapter.rank` must be at least 1, found -2"],
            ),
            (
                "batch_size = 2",
                "batch_size = 0",
                vec!["`training.batch_size` must be at least 1, found 0"],
            ),
            (
                "base.model = 'm'",
                "base = 'm'",
                vec!["`base` must be a table, found \"m\""],
            ),
            (
                "rank = 2",
                "rank = 2, target_modules = 3",
                vec!["`adapter.target_modules` must be a list or text, found 3"],
            ),
            (
                "data.path = 'd'",
                "data = { path = 'd', examples_per_class = 'some' }",
                vec!["`data.examples_per_class` cannot be \"some\"; there are all"],
            ),
        ] {
            assert_eq!(problems(&FILE.replace(from, to)), expected, "{to}");
        }
    }

    #[test]
    fn a_list_that_is_too_short_or_too_long_is_a_mistake() {
        for (list, expected) in [
            ("[]", "`data.crop_scale` must have 2 values, found 0"),
            (
                "[0.1, 0.5, 1]",
                "`data.crop_scale` must have 2 values, found 3",
            ),
        ] {
            let text = format!("{FILE}data.crop_scale = {list}\n");
            assert_eq!(problems(&text), [expected]);
        }
        let schema = Schema::new(json!({"type": "array", "minItems": 1}));
        let found = schema.check(&Value::Array(Vec::new()));
        assert_eq!(found[0].message, "`` must have at least 1 value, found 0");
    }

    #[test]
    fn a_keyword_that_nobody_checks_is_refused_wherever_it_stands() {
        let schema = Schema::new(json!({
            "type": "object",
            "properties": {"pattern": {"type": "array", "items": {"type": "string", "pattern": "a+"}}}
        }));
        let found = schema.check(&Value::Table(toml::Table::new()));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("`pattern`"), "{found:?}");
    }
}
