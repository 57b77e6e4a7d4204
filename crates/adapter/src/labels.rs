//! Which output of a classification head stands for which label.

use std::path::Path;

use eigenmix_tensors::{FileError, write_file};
use serde_json::{Map, Value};

use crate::AdapterError;

/// The labels of a head in the order of its outputs; on disk `{"0": "first", "1": "second", …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub Vec<String>);

impl Labels {
    /// The name by which adapters carry their labels.
    pub const FILE_NAME: &str = "labels.json";

    /// Reads a labels file.
    ///
    /// # Errors
    /// If the file cannot be read, is not an object of strings, or its indices are not 0 to n − 1.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let text = std::fs::read(path).map_err(FileError::io("read", path))?;
        let entries: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|source| FileError::Json {
                path: path.to_owned(),
                source,
            })?;

        let last = entries.len().saturating_sub(1);
        let problem = |problem: String| AdapterError::Labels {
            path: path.to_owned(),
            last,
            problem,
        };
        let mut names: Vec<Option<String>> = vec![None; entries.len()];
        for (index, name) in entries {
            let Value::String(name) = name else {
                return Err(problem(format!("label {index} is {name}, not a string")));
            };
            let slot = index
                .parse()
                .ok()
                .and_then(|index: usize| names.get_mut(index));
            match slot {
                None => return Err(problem(format!("found index `{index}`"))),
                Some(Some(first)) => {
                    return Err(problem(format!(
                        "`{first}` and `{name}` share index {index}"
                    )));
                }
                Some(free) => *free = Some(name),
            }
        }
        Ok(Self(names.into_iter().flatten().collect()))
    }

    /// Writes the labels in the form in which [`Labels::read`] reads them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AdapterError> {
        let entries: Map<String, Value> = self
            .0
            .iter()
            .enumerate()
            .map(|(index, name)| (index.to_string(), Value::String(name.clone())))
            .collect();
        Ok(write_file(
            path,
            format!("{:#}\n", Value::Object(entries)).as_bytes(),
        )?)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The label of output `index`.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels, AdapterError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(Labels::FILE_NAME);
        std::fs::write(&path, text).unwrap();
        Labels::read(&path)
    }

    #[test]
    fn labels_come_in_the_order_of_their_indices() {
        let labels = read(r#"{"1": "no", "0": "yes", "2": "maybe"}"#).unwrap();
        assert_eq!(labels.0, ["yes", "no", "maybe"]);
        assert_eq!(labels.name(3), None);
    }

    #[test]
    fn labels_written_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(Labels::FILE_NAME);
        let labels = Labels((0..12).map(|index| format!("label \"{index}\"")).collect());
        labels.write(&path).unwrap();
        assert_eq!(Labels::read(&path).unwrap(), labels);
    }

    #[test]
    fn a_gap_between_indices_is_an_error() {
        let error = read(r#"{"0": "a", "2": "c"}"#).unwrap_err().to_string();
        assert!(error.contains("0 to 1") && error.contains("`2`"), "{error}");
    }

    #[test]
    fn an_index_that_is_written_twice_is_an_error() {
        let error = read(r#"{"0": "a", "00": "b"}"#).unwrap_err().to_string();
        assert!(error.contains("share index"), "{error}");
    }

    #[test]
    fn a_label_that_is_no_string_is_an_error() {
        let error = read(r#"{"0": 7}"#).unwrap_err().to_string();
        assert!(error.contains("not a string"), "{error}");
    }
}
