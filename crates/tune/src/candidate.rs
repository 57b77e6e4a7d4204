//! A training file with some of its keys changed.

use std::fmt;

use eigenmix_experiment::KeyPath;
use toml::{Table, Value};

/// Changes of a training file; none for the file itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    changes: Vec<Change>,
}

/// One key changed.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    key: &'static str,
    /// `None` to leave the key out.
    value: Option<Value>,
}

impl Candidate {
    /// The same with another key set.
    pub(crate) fn set(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.put(key, Some(value.into()));
        self
    }

    /// The same without a key.
    pub(crate) fn without(mut self, key: &'static str) -> Self {
        self.put(key, None);
        self
    }

    fn put(&mut self, key: &'static str, value: Option<Value>) {
        self.changes.retain(|change| change.key != key);
        self.changes.push(Change { key, value });
    }

    /// The changes of both; those of `other` go first where both change a key.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for change in &other.changes {
            self.put(change.key, change.value.clone());
        }
        self
    }

    /// The file with the changes.
    pub fn apply(&self, file: &Table) -> Table {
        let mut root = Value::Table(file.clone());
        for change in &self.changes {
            let path = KeyPath::dotted(change.key);
            match &change.value {
                Some(value) => path.insert(&mut root, value.clone()),
                None => {
                    path.remove(&mut root);
                }
            }
        }
        match root {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    }
}

/// What of the file is changed.
impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return formatter.write_str("the file as it is");
        }
        for (number, change) in self.changes.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            match &change.value {
                Some(value) => write!(formatter, "{separator}{}={value}", change.key)?,
                None => write!(formatter, "{separator}no {}", change.key)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Table {
        "adapter = { method = 'eigenmix', components = 8 }\ntraining.epochs = 3"
            .parse()
            .unwrap()
    }

    #[test]
    fn changes_are_applied_to_the_file_and_said() {
        let candidate = Candidate::default()
            .set("training.learning_rate", 0.004)
            .without("adapter.components");
        let expected: Table =
            "adapter = { method = 'eigenmix' }\ntraining = { epochs = 3, learning_rate = 0.004 }"
                .parse()
                .unwrap();
        assert_eq!(candidate.apply(&file()), expected);
        assert_eq!(
            candidate.to_string(),
            "training.learning_rate=0.004, no adapter.components"
        );
        assert_eq!(Candidate::default().apply(&file()), file());
    }

    #[test]
    fn the_later_change_of_a_key_counts() {
        let both = Candidate::default()
            .set("training.epochs", 1)
            .and(&Candidate::default().set("training.epochs", 6));
        assert_eq!(both, Candidate::default().set("training.epochs", 6));
    }
}
