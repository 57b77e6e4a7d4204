//! The path of a key.

use std::fmt;

use toml::Value;

/// The keys and places in lists that lead to a value, such as `arm[1].adapter.rank`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

impl KeyPath {
    /// Keys with dots between them.
    pub fn dotted(keys: &str) -> Self {
        Self(
            keys.split('.')
                .map(|key| Step::Key(key.to_owned()))
                .collect(),
        )
    }

    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// This path below `parent`.
    pub fn below(&self, parent: &Self) -> Self {
        Self([&parent.0[..], &self.0].concat())
    }

    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// The first key of it, which is a table of the configuration or a key beside the tables.
    pub fn first(&self) -> Option<&str> {
        match self.0.first()? {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        }
    }

    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The value at this path.
    pub fn find<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.as_table()?.get(key),
            Step::Index(index) => value.as_array()?.get(*index),
        })
    }

    /// Removes the value at this path; returns whether there was one.
    pub fn remove(&self, root: &mut Value) -> bool {
        let Some((last, parents)) = self.0.split_last() else {
            return false;
        };
        let parent = parents.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.as_table_mut()?.get_mut(key),
            Step::Index(index) => value.as_array_mut()?.get_mut(*index),
        });
        match (parent, last) {
            (Some(Value::Table(table)), Step::Key(key)) => table.remove(key).is_some(),
            (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                true
            }
            _ => false,
        }
    }

    /// Sets the value at this path, creating the tables on the way to it.
    pub fn insert(&self, root: &mut Value, value: Value) {
        let Some((Step::Key(last), parents)) = self.0.split_last() else {
            return;
        };
        let parent = parents.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => {
                let table = value.as_table_mut()?;
                let empty = || Value::Table(toml::Table::new());
                Some(table.entry(key.as_str()).or_insert_with(empty))
            }
            Step::Index(index) => value.as_array_mut()?.get_mut(*index),
        });
        if let Some(Value::Table(table)) = parent {
            table.insert(last.clone(), value);
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => formatter.write_str(key)?,
                Step::Key(key) => write!(formatter, ".{key}")?,
                Step::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}
