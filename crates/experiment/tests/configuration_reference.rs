//! `docs/configuration.md` is the reference of configuration files, made from their schemas.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use eigenmix_experiment::{Schema, schema};
use eigenmix_trainer::TrainConfig;
use serde_json::{Map, Value};

/// Set to regenerate the file.
const WRITE: &str = "EIGENMIX_WRITE_DOCS";

const INTRODUCTION: &str = "\
# Configuration files

Every table and every key of training and experiment files. This page is generated from their JSON schemas,
which `eigenmix schema training` and `eigenmix schema experiment` print: change the doc comments in the code
and regenerate it with

    EIGENMIX_WRITE_DOCS=1 cargo test --release -p eigenmix -p eigenmix-experiment --test configuration_reference

A key that is not required and has no default is optional. `--set KEY=VALUE` overrides a key by its full
name, such as `training.epochs`.
";

const EXPERIMENT: &str = "
## Experiment files

An experiment file has the tables of a training file, as defaults, and the keys and tables below. Wherever an
adapter or a subspace can be given, `train:NAME`, `extract:NAME` and `merge:NAME` stand for the result of that
stage.
";

#[test]
fn the_reference_of_configuration_files_is_that_of_the_schemas() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = reference();
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &expected).expect("a file");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md is stale; regenerate it with\n    {WRITE}=1 cargo test --release -p eigenmix -p eigenmix-experiment --test configuration_reference"
    );
}

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let training = Schema::of::<TrainConfig>();
    let mut pages = Reference {
        definitions: &training.root()["$defs"],
        text: &mut text,
    };
    pages.text.push_str("\n## Training files\n");
    pages.table("", "", training.root(), &[]);
    let experiment = schema();
    let mut pages = Reference {
        definitions: &experiment.root()["$defs"],
        text: &mut text,
    };
    pages.text.push_str(EXPERIMENT);
    let tables: Vec<&str> = ["base", "data", "task", "adapter", "training"].to_vec();
    pages.table("", "", experiment.root(), &tables);
    text
}

struct Reference<'a> {
    definitions: &'a Value,
    text: &'a mut String,
}

impl Reference<'_> {
    /// A table of keys, and below it the tables in it.
    ///
    /// - name: its full name, such as `training.plateau`; empty for the keys above all tables
    /// - left_out: keys that are described elsewhere
    fn table(&mut self, name: &str, heading: &str, node: &Value, left_out: &[&str]) {
        let node = self.resolve(node).clone();
        let empty = Map::new();
        let properties = node["properties"].as_object().unwrap_or(&empty);
        let required: Vec<&str> = node["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if !heading.is_empty() {
            let _ = write!(self.text, "\n### {heading}\n");
            if let Some(words) = node["description"].as_str() {
                let _ = write!(self.text, "\n{words}\n");
            }
        }
        let keys: Vec<(&String, &Value)> = properties
            .iter()
            .filter(|(key, _)| !left_out.contains(&key.as_str()))
            .collect();
        let (tables, plain): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|(_, node)| self.is_table(node));
        if !plain.is_empty() {
            self.text
                .push_str("\n| key | type | default | |\n|---|---|---|---|\n");
        }
        let in_words = plain.iter();
        let in_words = in_words.filter_map(|(key, node)| Some((*key, self.table_among(node)?)));
        let tables: Vec<(&String, Value)> = tables
            .into_iter()
            .map(|(key, node)| (key, node.clone()))
            .chain(in_words)
            .collect();
        for (key, node) in plain {
            let default = match required.contains(&key.as_str()) {
                true => "required".to_owned(),
                false => default(node),
            };
            let kind = self.kind(node);
            let words = cell(&self.described(node));
            let _ = writeln!(self.text, "| `{key}` | {kind} | {default} | {words} |");
        }
        for (key, node) in &tables {
            let below = match name.is_empty() {
                true => (*key).clone(),
                false => format!("{name}.{key}"),
            };
            // What varies is every key of a training, as a list.
            if *key == "vary" {
                let words = node["description"].as_str().unwrap_or_default();
                let _ = write!(
                    self.text,
                    "\n### `[{below}]`\n\n{words} Its keys are those of the tables of a training, such as `{below}.adapter.rank = [2, 8]`.\n"
                );
                continue;
            }
            match node["type"] == "array" {
                true => {
                    let mut items = self.resolve(&node["items"]).clone();
                    let own = items["description"].as_str().map(str::to_owned);
                    let words = node["description"].as_str().unwrap_or_default();
                    items["description"] = match own {
                        Some(own) => format!("{words}\n\n{own}").into(),
                        None => words.into(),
                    };
                    let heading = format!("`[[{below}]]`");
                    let inherited: &[&str] = match key.as_str() {
                        "train" | "arm" => &["base", "data", "task", "adapter", "training"],
                        _ => &[],
                    };
                    self.table(&below, &heading, &items, inherited);
                    if !inherited.is_empty() {
                        let _ = write!(
                            self.text,
                            "\nThe tables of a training, such as `{below}.adapter`, change the defaults.\n"
                        );
                    }
                }
                false => self.table(&below, &format!("`[{below}]`"), node, &[]),
            }
        }
    }

    fn resolve<'n>(&'n self, node: &'n Value) -> &'n Value {
        let reference = node["$ref"].as_str();
        let name = reference.and_then(|reference| reference.strip_prefix("#/$defs/"));
        match name {
            Some(name) => self.resolve(&self.definitions[name]),
            None => node,
        }
    }

    /// Whether it is a table or a list of tables.
    fn is_table(&self, node: &Value) -> bool {
        let target = self.resolve(node);
        match target["type"].as_str() {
            Some("object") => target.get("properties").is_some(),
            Some("array") => self.is_table(&target["items"]),
            _ => false,
        }
    }

    /// The table among the things that a key may be.
    fn table_among(&self, node: &Value) -> Option<Value> {
        let node = self.resolve(node);
        let several = node["anyOf"].as_array()?;
        let is_same = |choice: &&Value| self.resolve(choice) != node;
        let mut choices = several.iter().filter(is_same);
        choices.find_map(|choice| match self.is_table(choice) {
            true => Some(self.resolve(choice).clone()),
            false => self.table_among(choice),
        })
    }

    /// What may stand there, in words.
    fn kind(&self, node: &Value) -> String {
        let node = self.resolve(node);
        for several in ["anyOf", "oneOf"] {
            if let Some(several) = node[several].as_array() {
                let kinds = several.iter().map(|node| self.kind(node));
                let mut kinds: Vec<String> = kinds.filter(|kind| !kind.is_empty()).collect();
                kinds.dedup();
                return kinds.join(" or ");
            }
        }
        if let Some(word) = node.get("const") {
            return format!("`{word}`");
        }
        if let Some(words) = node["enum"].as_array() {
            let words = words.iter().filter(|word| !word.is_null());
            let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
            return words.join(" or ");
        }
        let names: Vec<&str> = match &node["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => return "anything".to_owned(),
        };
        let kinds: Vec<String> = names
            .into_iter()
            .filter_map(|name| {
                Some(match name {
                    "string" => "text".to_owned(),
                    "integer" => format!("whole number{}", bounds(node)),
                    "number" => format!("number{}", bounds(node)),
                    "boolean" => "true or false".to_owned(),
                    "array" => format!("list of {}", self.kind(&node["items"])),
                    "object" => "table".to_owned(),
                    _ => return None,
                })
            })
            .collect();
        kinds.join(" or ")
    }

    /// What a key means, and each of the words that it may be.
    fn described(&self, node: &Value) -> String {
        let target = self.resolve(node);
        let own = node["description"].as_str();
        let words = own.or(target["description"].as_str()).unwrap_or_default();
        let mut lines = vec![words.to_owned()];
        let several = target["oneOf"].as_array().or(target["anyOf"].as_array());
        for choice in several.into_iter().flatten() {
            let choice = self.resolve(choice);
            let inner = choice["oneOf"].as_array();
            for choice in inner.unwrap_or(&vec![choice.clone()]) {
                if let (Some(word), Some(words)) =
                    (choice.get("const"), choice["description"].as_str())
                {
                    lines.push(format!("`{word}`: {words}"));
                }
            }
        }
        lines.join("<br>")
    }
}

fn bounds(node: &Value) -> String {
    let bounds = [
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    ];
    let kept: Vec<String> = bounds
        .into_iter()
        .filter_map(|(keyword, sign)| Some(format!("{sign} {}", node.get(keyword)?)))
        .collect();
    match kept.is_empty() {
        true => String::new(),
        false => format!(" {}", kept.join(", ")),
    }
}

/// A default as it would stand in the file.
fn default(node: &Value) -> String {
    match &node["default"] {
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Object(keys) if keys.is_empty() => String::new(),
        value => format!("`{value}`"),
    }
}

/// Words in a cell of a Markdown table.
fn cell(words: &str) -> String {
    words
        .replace('|', "\\|")
        .replace("\n\n", "<br>")
        .replace('\n', " ")
}
