//! The JSON schema of experiment files, built from the schemas of their parts.

use eigenmix_trainer::TrainConfig;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::config_file::Schema;
use crate::extract::ExtractRequest;
use crate::merge::MergeRequest;

/// The tables of a training file.
pub(super) const TABLES: [&str; 6] = ["base", "data", "task", "adapter", "training", "diffusion"];

/// The schema of experiment files.
pub fn schema() -> Schema {
    let mut definitions = Map::new();
    let mut training = part::<TrainConfig>(&mut definitions);
    // A table that may be left out is a choice of it and of nothing.
    let diffusion = &mut training["properties"]["diffusion"];
    if let Some(reference) = diffusion["anyOf"][0].get("$ref").cloned() {
        *diffusion = json!({"$ref": reference, "description": diffusion["description"]});
    }
    let extract = part::<ExtractRequest>(&mut definitions);
    let merge = part::<MergeRequest>(&mut definitions);
    // A key that an arm leaves out is in the defaults, and the other way round.
    for table in TABLES {
        let name = training["properties"][table]["$ref"]
            .as_str()
            .unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        if let Some(Value::Object(definition)) = definitions.get_mut(name) {
            definition.remove("required");
        }
    }
    let seed = described(
        training["properties"]["seed"].clone(),
        "The seed of all random draws.",
    );
    let seeds = json!({
        "description": "The seeds; every arm is run once with each of them.",
        "type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}
    });
    let vary = described(
        lists_of(&training, &definitions),
        "Lists of values; every arm is run with every combination of them.",
    );
    let mut tables = Map::new();
    for table in TABLES {
        tables.insert(table.to_owned(), training["properties"][table].clone());
    }
    let named = |description: &str| json!({"type": "string", "description": description});
    let source = table_of(
        [
            ("name", named("The name, used as `train:NAME`.")),
            ("seed", seed.clone()),
        ],
        &tables,
    );
    let arm = table_of(
        [
            (
                "name",
                named("The name in the report and of the arm's directory."),
            ),
            ("seed", seed.clone()),
            ("seeds", seeds.clone()),
            ("vary", vary.clone()),
            (
                "evaluate",
                named("Evaluate this adapter (such as merge:NAME) instead of training one."),
            ),
            (
                "head",
                named("With `evaluate`: the adapter whose head to use."),
            ),
        ],
        &tables,
    );
    let list = |items: Value, description: &str| json!({"type": "array", "minItems": 1, "items": items, "description": description});
    let root = table_of(
        [
            ("output", named("The directory for runs and report.")),
            ("seed", seed),
            ("seeds", seeds),
            ("vary", vary),
            (
                "processes",
                json!({
                    "type": "string", "enum": ["cells", "steps"], "default": "cells",
                    "description": "What several processes (mpirun) share: the cells, each of which one process runs alone, or the steps of every cell, which all of them train together."
                }),
            ),
            (
                "controls",
                json!({
                    "anyOf": [
                        {"type": "boolean"},
                        {"type": "array", "minItems": 1, "items": {"type": "string"}}
                    ],
                    "description": "Run arms that recycle adapters also on a random basis of the same size, as the arm NAME-random, and report whether recycling helped: true for all such arms, or the names of some."
                }),
            ),
            (
                "train",
                list(
                    source,
                    "Adapters to train first, as sources for other stages and arms.",
                ),
            ),
            (
                "extract",
                list(
                    with_name(extract, "The name, used as `extract:NAME`."),
                    "Subspaces to extract first.",
                ),
            ),
            (
                "merge",
                list(
                    with_name(merge, "The name, used as `merge:NAME`."),
                    "Adapters to merge first.",
                ),
            ),
            ("arm", list(arm, "A variant to compare with the others.")),
        ],
        &tables,
    );
    let Value::Object(mut root) = root else {
        return Schema::new(root);
    };
    root.insert(
        "$schema".into(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".into(), json!("An experiment of Eigenmix"));
    root.insert("$defs".into(), Value::Object(definitions));
    Schema::new(Value::Object(root))
}

/// The schema of `T`; its definitions are added to the others.
fn part<T: JsonSchema>(definitions: &mut Map<String, Value>) -> Value {
    let mut root = schemars::schema_for!(T).to_value();
    if let Some(Value::Object(own)) = root.as_object_mut().and_then(|root| root.remove("$defs")) {
        definitions.extend(own);
    }
    root
}

fn table_of<const N: usize>(own: [(&str, Value); N], tables: &Map<String, Value>) -> Value {
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let properties: Map<String, Value> = own.chain(tables.clone()).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = json!(description);
    schema
}

fn with_name(mut stage: Value, description: &str) -> Value {
    stage["properties"]["name"] = json!({"type": "string", "description": description});
    if let Some(required) = stage["required"].as_array_mut() {
        required.insert(0, json!("name"));
    }
    stage
}

/// The tables of a training, each key of them a list of what it may be.
fn lists_of(training: &Value, definitions: &Map<String, Value>) -> Value {
    let tables = TABLES.iter().map(|table| {
        let lists = lists(&training["properties"][table], definitions);
        ((*table).to_owned(), lists)
    });
    let tables: Map<String, Value> = tables.collect();
    json!({"type": "object", "additionalProperties": false, "properties": tables})
}

fn lists(node: &Value, definitions: &Map<String, Value>) -> Value {
    let name = node["$ref"]
        .as_str()
        .and_then(|name| name.rsplit('/').next());
    let target = name.and_then(|name| definitions.get(name)).unwrap_or(node);
    let Some(properties) = target["properties"].as_object() else {
        return json!({"type": "array", "minItems": 1, "items": node});
    };
    let each = properties
        .iter()
        .map(|(key, node)| (key.clone(), lists(node, definitions)));
    let properties: Map<String, Value> = each.collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let table: toml::Table = text.parse().unwrap();
        let found = schema().check(&toml::Value::Table(table));
        found.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn arms_and_stages_and_lists_are_known_and_nothing_else_is() {
        let good = "output = 'o'\nseeds = [1]\nvary.adapter.rank = [1, 2]\n\
            vary.data.examples_per_class = ['all', 5]\nadapter.rank = 3\n\
            [[extract]]\nname = 'x'\nadapters = ['a']\ncomponents = 4\n\
            [[merge]]\nname = 'y'\nadapters = ['a', 'b']\nspace = 'core'\nmethod = 'dare-ties'\n\
            [[arm]]\nname = 'z'\nadapter.subspace = 'extract:x'\n";
        assert!(problems(good).is_empty(), "{:?}", problems(good));
        for (text, expected) in [
            (
                "vary.adapter.rnk = [1]",
                "`vary.adapter.rnk` is unknown; did you mean `rank`?",
            ),
            (
                "vary.adapter.rank = ['x']",
                "`vary.adapter.rank[0]` must be a whole number, found \"x\"",
            ),
            (
                "arm = [{ adapter.rank = 'x' }]",
                "`arm[0].adapter.rank` must be a whole number, found \"x\"",
            ),
            (
                "[[merge]]\nname = 'y'\nadapters = ['a']\nspace = 'cor'\nmethod = 'sum'",
                "`merge[0].space` cannot be \"cor\"; did you mean `core`?",
            ),
            (
                "[[extract]]\nadapters = ['a']",
                "`extract[0].name` is missing",
            ),
            (
                "[[merge]]\nname = 'y'\nadapters = ['a']\nspace = 'core'\nmethod = 'sum'\nsearch = { data = ['d'] }",
                "`merge[0].search.base` is missing",
            ),
            ("sedes = [1]", "`sedes` is unknown; did you mean `seeds`?"),
        ] {
            assert_eq!(problems(text), [expected]);
        }
    }

    #[test]
    fn every_schema_demands_only_what_is_checked() {
        for schema in [
            schema(),
            Schema::of::<TrainConfig>(),
            Schema::of::<ExtractRequest>(),
            Schema::of::<MergeRequest>(),
            Schema::of::<super::super::EvaluationConfig>(),
        ] {
            let unknown = schema.unknown_keywords();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn a_list_without_values_is_a_mistake() {
        assert_eq!(
            problems("seeds = []"),
            ["`seeds` must have at least 1 value, found 0"]
        );
        assert_eq!(
            problems("arm = [{ name = 'a', seeds = [] }]"),
            ["`arm[0].seeds` must have at least 1 value, found 0"]
        );
    }
}
