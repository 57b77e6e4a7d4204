//! Reading single fields of a JSON object, with errors that name the file, the field and the value.

use std::path::Path;

use serde_json::{Map, Value};

use crate::AdapterError;

/// The fields of one object; an absent field and `null` are the same, as in PEFT.
pub(crate) struct ConfigFields<'a> {
    pub(crate) map: &'a Map<String, Value>,
    pub(crate) path: &'a Path,
}

impl<'a> ConfigFields<'a> {
    pub(crate) fn value(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn error(&self, field: &str, expected: &'static str, found: &Value) -> AdapterError {
        AdapterError::ConfigField {
            path: self.path.to_owned(),
            field: field.to_owned(),
            expected,
            found: found.to_string(),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<String>, AdapterError> {
        self.read(field, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn flag(&self, field: &str) -> Result<bool, AdapterError> {
        Ok(self
            .read(field, "true or false", Value::as_bool)?
            .unwrap_or(false))
    }

    pub(crate) fn number(&self, field: &str, default: f64) -> Result<f64, AdapterError> {
        Ok(self
            .read(field, "a number", Value::as_f64)?
            .unwrap_or(default))
    }

    pub(crate) fn positive(&self, field: &str, default: usize) -> Result<usize, AdapterError> {
        Ok(self
            .read(field, "a positive integer", as_positive)?
            .unwrap_or(default))
    }

    /// A list of strings, or one string as a list of one.
    pub(crate) fn names(&self, field: &str) -> Result<Vec<String>, AdapterError> {
        let read = |value: &Value| match value {
            Value::String(name) => Some(vec![name.clone()]),
            _ => as_names(value),
        };
        Ok(self
            .read(field, "a list of strings", read)?
            .unwrap_or_default())
    }

    /// A list of indices, or one index as a list of one.
    pub(crate) fn indices(&self, field: &str) -> Result<Vec<usize>, AdapterError> {
        let read = |value: &Value| match value {
            Value::Array(items) => items.iter().map(as_index).collect(),
            _ => as_index(value).map(|index| vec![index]),
        };
        Ok(self
            .read(field, "a layer index or a list of them", read)?
            .unwrap_or_default())
    }

    /// The entries of an object of positive integers, in the order of the file.
    pub(crate) fn ranks(&self, field: &str) -> Result<Vec<(String, usize)>, AdapterError> {
        let read = |value: &Value| as_entries(value, as_positive);
        Ok(self
            .read(field, "an object of positive integers", read)?
            .unwrap_or_default())
    }

    /// The entries of an object of numbers, in the order of the file.
    pub(crate) fn numbers(&self, field: &str) -> Result<Vec<(String, f64)>, AdapterError> {
        let read = |value: &Value| as_entries(value, Value::as_f64);
        Ok(self
            .read(field, "an object of numbers", read)?
            .unwrap_or_default())
    }

    fn read<T>(
        &self,
        field: &str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, AdapterError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.error(field, expected, value))
    }
}

pub(crate) fn as_names(value: &Value) -> Option<Vec<String>> {
    value
        .as_array()?
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn as_index(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn as_positive(value: &Value) -> Option<usize> {
    as_index(value).filter(|&number| number > 0)
}

fn as_entries<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<(String, T)>> {
    value
        .as_object()?
        .iter()
        .map(|(key, item)| Some((key.clone(), read(item)?)))
        .collect()
}
