//! What is wrong with a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use super::KeyPath;
use super::lines::Placed;

/// Something wrong, and the value or the table that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: KeyPath,
    pub message: String,
}

impl Problem {
    pub fn new(path: KeyPath, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { path, message }
    }
}

/// Everything wrong with a file: a line each, `FILE:LINE: what`.
#[derive(Debug, thiserror::Error)]
pub struct BadConfig {
    path: PathBuf,
    problems: Vec<Placed>,
}

impl BadConfig {
    pub fn new(path: &Path, mut problems: Vec<Placed>) -> Self {
        // Problems of the command line come last.
        problems.sort_by_key(|(line, _)| line.unwrap_or(usize::MAX));
        problems.dedup();
        let path = path.to_owned();
        Self { path, problems }
    }
}

impl fmt::Display for BadConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if let count @ 2.. = self.problems.len() {
            writeln!(formatter, "{count} mistakes in `{path}`")?;
        }
        for (number, (line, message)) in self.problems.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            match line {
                Some(line) => write!(formatter, "{separator}{path}:{line}: {message}")?,
                None => write!(formatter, "{separator}{path}: {message}")?,
            }
        }
        Ok(())
    }
}
