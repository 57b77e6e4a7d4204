//! A configuration inside another one.

use serde_json::Value;

/// The object under `key` of a `config.json`, completed with what transformers leaves out where it is
/// the default of the configuration's class.
pub(crate) fn nested_config(json: &Value, key: &str, defaults: Value) -> Value {
    let mut all = defaults;
    if let (Some(all), Some(found)) = (
        all.as_object_mut(),
        json.get(key).and_then(Value::as_object),
    ) {
        all.extend(found.clone());
    }
    all
}
