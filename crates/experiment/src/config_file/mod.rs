//! A TOML file from its writer's point of view: all mistakes are reported at once, each with its
//! line and the nearest valid key.

mod config_error;
mod key_path;
mod keywords;
mod lines;
mod overrides;
mod problem;
mod repair;
mod schema;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use eigenmix_trainer::TrainConfig;
use toml::{Table, Value};

pub use config_error::ConfigError;
pub use key_path::KeyPath;
use lines::Lines;
pub use overrides::{Override, OverrideError};
pub use problem::{BadConfig, Problem};
pub use schema::Schema;

/// A configuration that was read, with the overrides of the command line.
pub struct ConfigFile {
    path: PathBuf,
    /// A table.
    root: Value,
    lines: Lines,
    overrides: Vec<Override>,
}

impl ConfigFile {
    /// Reads the file at `path` and applies the overrides.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or an override goes through something that is not a
    /// table.
    pub fn read(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::of_text(path, &text, overrides)
    }

    /// The configuration in `text`, which is or will be that of the file at `path`.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn of_text(path: &Path, text: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        let (lines, mistakes) = Lines::of(text);
        if !mistakes.is_empty() {
            return Err(BadConfig::new(path, mistakes).into());
        }
        let mut table: Table = text.parse().map_err(|source| ConfigError::NotToml {
            path: path.to_owned(),
            source,
        })?;
        for change in overrides {
            change.apply(&mut table)?;
        }
        Ok(Self {
            path: path.to_owned(),
            root: Value::Table(table),
            lines,
            overrides: overrides.to_vec(),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    pub fn table(&self) -> &Table {
        static EMPTY: LazyLock<Table> = LazyLock::new(Table::new);
        self.root.as_table().unwrap_or(&EMPTY)
    }

    /// Whether the file, with the overrides of the command line, has a value at this path.
    pub fn has(&self, path: &KeyPath) -> bool {
        path.find(&self.root).is_some()
    }

    /// The training that the file describes.
    ///
    /// # Errors
    /// [`BadConfig`] with everything that is wrong with it.
    pub fn train_config(&self) -> Result<TrainConfig, ConfigError> {
        let found = repair::train_config(self.table());
        found.map_err(|problems| self.error(problems).into())
    }

    /// The error that lists `problems`, each with its place in the file or on the command line.
    pub fn error(&self, problems: Vec<Problem>) -> BadConfig {
        let placed = problems.into_iter().map(|problem| {
            let change = self
                .overrides
                .iter()
                .find(|change| change.sets(&problem.path));
            match change {
                Some(change) => (None, format!("--set {change}: {}", problem.message)),
                None => (self.lines.of_path(&problem.path), problem.message),
            }
        });
        BadConfig::new(&self.path, placed.collect())
    }
}

/// The training that a table describes.
///
/// # Errors
/// All of its problems.
pub fn train_config(table: &Table) -> Result<TrainConfig, Vec<Problem>> {
    repair::train_config(table)
}
