//! The supported keywords of JSON schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

/// The keywords that [`super::Schema::check`] obeys.
const CHECKED: [&str; 16] = [
    "$ref",
    "type",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "minItems",
    "maxItems",
    "anyOf",
    "oneOf",
    "const",
    "enum",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
];

/// The keywords that demand nothing beyond the others: `format` names the Rust type of a number,
/// whose bounds are there as well.
const NOTES: [&str; 6] = [
    "$schema",
    "$defs",
    "title",
    "description",
    "default",
    "format",
];

/// Puts the keywords of a schema, and of all below it, that are neither checked nor mere notes.
pub(super) fn collect_unknown(node: &Json, unknown: &mut BTreeSet<String>) {
    let Some(keywords) = node.as_object() else {
        return;
    };
    for (keyword, value) in keywords {
        match keyword.as_str() {
            // Names of properties and of definitions are not keywords.
            "properties" | "$defs" => {
                let inner = value.as_object().into_iter().flat_map(Map::values);
                inner.for_each(|node| collect_unknown(node, unknown));
            }
            "items" | "additionalProperties" => collect_unknown(value, unknown),
            "anyOf" | "oneOf" => {
                let several = value.as_array().into_iter().flatten();
                several.for_each(|node| collect_unknown(node, unknown));
            }
            known if CHECKED.contains(&known) || NOTES.contains(&known) => {}
            other => {
                unknown.insert(other.to_owned());
            }
        }
    }
}
