//! What of an adapter file would be left out, here or by PEFT.

use std::fmt;

/// What an adapter file holds besides what is used of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Tensors that are not understood or not supported, and would be left out.
    pub unexpected: Vec<UnexpectedTensor>,
    /// Modules that have factors although `target_modules` does not name them: PEFT would ignore
    /// them, Eigenmix uses them.
    pub untargeted: Vec<String>,
    /// Tensors that only repeat others, or are as the base model has them: they are not needed, and
    /// PEFT leaves them out as well.
    pub copies: Vec<String>,
}

/// A tensor that would be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnexpectedTensor {
    /// Its name in the file.
    pub name: String,
    /// Why it cannot be used.
    pub reason: &'static str,
}

impl fmt::Display for UnexpectedTensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ({})", self.name, self.reason)
    }
}

impl FileReport {
    /// Whether nothing that has an effect would be left out.
    pub fn is_clean(&self) -> bool {
        self.unexpected.is_empty() && self.untargeted.is_empty()
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unexpected = self.unexpected.iter().map(ToString::to_string);
        let untargeted = self
            .untargeted
            .iter()
            .map(|module| format!("`{module}` (not in target_modules)"));
        let all: Vec<String> = unexpected.chain(untargeted).collect();
        let shown = all.len().min(5);
        write!(formatter, "{}", all[..shown].join(", "))?;
        match all.len() - shown {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}
