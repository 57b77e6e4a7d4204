//! `--set KEY=VALUE`: a key of a configuration replaced from the command line.

use std::fmt;
use std::str::FromStr;

use toml::{Table, Value};

use super::KeyPath;

/// `a.b.c=VALUE`: VALUE is TOML where it reads as such (`3`, `4e-3`, `true`, `[1, 2]`), else text.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    path: Vec<String>,
    value: Value,
    /// The key that it takes the place of.
    replaced: Option<KeyPath>,
}

/// Why an override cannot be understood or applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("expected KEY=VALUE, such as training.epochs=3")]
    NoValue,
    #[error("`{0}` is not a key: expected names separated by dots, such as training.epochs")]
    Key(String),
    #[error("--set {key}: `{part}` is not a table in the configuration")]
    NotATable { key: String, part: String },
}

/// As it was typed.
impl fmt::Display for Override {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.path.join("."), self.value)
    }
}

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(argument: &str) -> Result<Self, OverrideError> {
        let (key, text) = argument.split_once('=').ok_or(OverrideError::NoValue)?;
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(OverrideError::Key(key.to_owned()));
        }
        let text = text.trim();
        let value = text
            .parse::<Value>()
            .unwrap_or_else(|_| Value::String(text.to_owned()));
        Ok(Self {
            path,
            value,
            replaced: None,
        })
    }
}

impl Override {
    /// A whole number for the key `path`, whose parts are joined by dots.
    pub fn of(path: &str, number: usize) -> Self {
        Self {
            path: path.split('.').map(str::to_owned).collect(),
            value: Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
            replaced: None,
        }
    }

    /// The same, which also takes the key `path` out of the configuration.
    pub fn instead_of(self, path: &str) -> Self {
        let replaced = Some(KeyPath::dotted(path));
        Self { replaced, ..self }
    }

    /// Whether `path` is the key that it sets, or lies below it.
    pub fn sets(&self, path: &KeyPath) -> bool {
        path.starts_with(&KeyPath::dotted(&self.path.join(".")))
    }

    /// Sets the key in `configuration`, creating the tables on the way to it.
    ///
    /// # Errors
    /// If something on the way exists and is not a table.
    pub fn apply(&self, configuration: &mut Table) -> Result<(), OverrideError> {
        let Some((name, parents)) = self.path.split_last() else {
            return Err(OverrideError::Key(String::new()));
        };
        if let Some(replaced) = &self.replaced {
            let mut root = Value::Table(std::mem::take(configuration));
            replaced.remove(&mut root);
            if let Value::Table(kept) = root {
                *configuration = kept;
            }
        }
        let mut table = configuration;
        for part in parents {
            let entry = table
                .entry(part.as_str())
                .or_insert_with(|| Value::Table(Table::new()));
            table = entry
                .as_table_mut()
                .ok_or_else(|| OverrideError::NotATable {
                    key: self.path.join("."),
                    part: part.clone(),
                })?;
        }
        table.insert(name.clone(), self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(configuration: &str, argument: &str) -> Result<String, OverrideError> {
        let mut table: Table = configuration.parse().expect("TOML");
        argument.parse::<Override>()?.apply(&mut table)?;
        Ok(toml::to_string(&table).expect("a table"))
    }

    #[test]
    fn a_value_keeps_the_type_that_it_has_in_toml() {
        for (argument, expected) in [
            ("training.epochs=3", "[training]\nepochs = 3\n"),
            ("training.rate = 4e-3", "[training]\nrate = 0.004\n"),
            ("seeds=[1, 2]", "seeds = [1, 2]\n"),
            ("on=true", "on = true\n"),
            ("output=runs/a=b", "output = \"runs/a=b\"\n"),
            ("name=\"3\"", "name = \"3\"\n"),
        ] {
            assert_eq!(applied("", argument).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn only_the_named_key_changes() {
        let configuration = "[training]\nepochs = 8\nbatch_size = 32\n";
        let expected = "[training]\nepochs = 3\nbatch_size = 32\n";
        let mut table: Table = configuration.parse().expect("TOML");
        let change: Override = "training.epochs=3".parse().expect("an override");
        change.apply(&mut table).expect("a key");
        assert_eq!(table, expected.parse::<Table>().expect("TOML"));
    }

    #[test]
    fn an_override_takes_the_place_of_another_key() {
        let mut table: Table = "[training]\nepochs = 8\nbatch_size = 32\n"
            .parse()
            .expect("TOML");
        let change = Override::of("training.tokens_per_batch", 4096);
        let change = change.instead_of("training.batch_size");
        change.apply(&mut table).expect("a key");
        let expected = "[training]\nepochs = 8\ntokens_per_batch = 4096\n";
        assert_eq!(table, expected.parse::<Table>().expect("TOML"));
        // Without the key that it would replace it is a plain override.
        change.apply(&mut table).expect("a key");
        assert_eq!(table, expected.parse::<Table>().expect("TOML"));
    }

    #[test]
    fn what_is_not_an_override_is_refused() {
        assert_eq!(applied("", "epochs"), Err(OverrideError::NoValue));
        assert!(matches!(
            applied("", "training..epochs=1"),
            Err(OverrideError::Key(_))
        ));
        assert!(matches!(
            applied("training = 1", "training.epochs=1"),
            Err(OverrideError::NotATable { .. })
        ));
    }
}
