//! `data.files`: which files are a split, where their names do not say so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::split::Split;

/// The `files` table of `[data]`: names or patterns by split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSelection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<FilePatterns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<FilePatterns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<FilePatterns>,
}

/// One name or several, relative to the data's directory; `*` stands for part of a name, `**` for any
/// folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FilePatterns {
    One(String),
    Many(Vec<String>),
}

impl FileSelection {
    /// Whether names alone decide.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A selection of exactly these files for one split.
    pub fn exactly(split: Split, names: Vec<String>) -> Self {
        let mut selection = Self::default();
        let patterns = Some(FilePatterns::Many(names));
        match split {
            Split::Train => selection.train = patterns,
            Split::Validation => selection.validation = patterns,
            Split::Test => selection.test = patterns,
        }
        selection
    }

    /// What is said of a split.
    pub(crate) fn patterns(&self, split: Split) -> Option<&[String]> {
        let patterns = match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        };
        Some(match patterns.as_ref()? {
            FilePatterns::One(pattern) => std::slice::from_ref(pattern),
            FilePatterns::Many(patterns) => patterns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_one_pattern_or_several() {
        let written = "train = \"part-*.jsonl\"\ntest = [\"a.csv\", \"b.csv\"]\n";
        let selection: FileSelection = toml::from_str(written).unwrap();
        let one: &[String] = &["part-*.jsonl".to_owned()];
        assert_eq!(selection.patterns(Split::Train), Some(one));
        assert_eq!(selection.patterns(Split::Validation), None);
        assert_eq!(selection.patterns(Split::Test).unwrap().len(), 2);
        assert_eq!(toml::to_string(&selection).unwrap(), written);
        assert!(toml::from_str::<FileSelection>("dev = \"a.csv\"").is_err());
    }
}
