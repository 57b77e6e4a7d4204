//! Typed access to the metadata of an open file.

use crate::error::GgufError;
use crate::file::GgufFile;
use crate::value::{GgufArray, GgufValue};

impl GgufFile {
    /// All metadata, sorted by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// A value of whatever type, if the file has it.
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// An integer that is not negative, of whatever width.
    ///
    /// # Errors
    /// If it is something else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.read(key, "an integer of at least 0", |value| {
            value.as_integer().and_then(|value| value.try_into().ok())
        })
    }

    /// A number. One of single precision becomes the shortest decimal number that rounds to it, as a
    /// person would have written it: 1e-5, not 9.999999747378752e-6.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.read(key, "a number", |value| match *value {
            GgufValue::F32(value) => Some(as_written(value)),
            GgufValue::F64(value) => Some(value),
            _ => value.as_integer().map(|value| value as f64),
        })
    }

    /// A Boolean.
    ///
    /// # Errors
    /// If it is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key, "a Boolean", |value| match *value {
            GgufValue::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// If it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key, "a text", |value| match value {
            GgufValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Texts.
    ///
    /// # Errors
    /// If it is something else.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.read(key, "an array of texts", |value| match value {
            GgufValue::Array(GgufArray::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// Numbers of single precision.
    ///
    /// # Errors
    /// If it is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.read(key, "an array of numbers (f32)", |value| match value {
            GgufValue::Array(GgufArray::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// Integers of whatever width.
    ///
    /// # Errors
    /// If it is something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i128>>, GgufError> {
        self.read(key, "an array of integers", |value| match value {
            GgufValue::Array(array) => array.integers(),
            _ => None,
        })
    }

    /// The value of a key that has to be there: `file.required(key, file.text(key)?)`.
    ///
    /// # Errors
    /// If it is not there.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| GgufError::MissingKey {
            path: self.path().to_owned(),
            key: key.to_owned(),
        })
    }

    /// The error that a value is not what was expected of it.
    pub fn unexpected(&self, key: &str, expected: &'static str) -> GgufError {
        let found = self.metadata.get(key).map(GgufValue::describe);
        GgufError::ValueType {
            path: self.path().to_owned(),
            key: key.to_owned(),
            expected,
            found: found.unwrap_or_else(|| "missing".to_owned()),
        }
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.unexpected(key, expected)),
        }
    }
}

fn as_written(value: f32) -> f64 {
    // Every f32 prints as a number that parses; infinities too.
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
