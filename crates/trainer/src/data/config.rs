use serde::{Deserialize, Serialize};

/// The `[data]` table of a training file: which data, which columns, how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A directory that holds the splits, or the id of a Hub dataset.
    pub path: String,
    /// The most tokens an example may have, special tokens included.
    #[serde(default = "default_max_length")]
    pub max_length: usize,
    /// The column of the (first) text.
    #[serde(default = "default_text")]
    pub text: String,
    /// The column of the second text, for tasks on pairs of sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// The column of the label.
    #[serde(default = "default_label")]
    pub label: String,
    /// Few-shot: train on this many examples of each class, drawn by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples_per_class: Option<usize>,
    /// Train on at most this many examples, drawn by the seed (after `examples_per_class`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_examples: Option<usize>,
}

fn default_max_length() -> usize {
    128
}

fn default_text() -> String {
    "text".to_owned()
}

fn default_label() -> String {
    "label".to_owned()
}

impl DataConfig {
    /// The configuration that `path` alone stands for.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            max_length: default_max_length(),
            text: default_text(),
            text_pair: None,
            label: default_label(),
            examples_per_class: None,
            max_examples: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_gives_the_defaults() {
        let config: DataConfig = toml::from_str(r#"path = "datasets/travel""#).unwrap();
        assert_eq!(config, DataConfig::new("datasets/travel"));
        assert_eq!(config.max_length, 128);
        assert_eq!(
            (config.text.as_str(), config.label.as_str()),
            ("text", "label")
        );
    }

    #[test]
    fn every_key_survives_writing_and_reading() {
        let config = DataConfig {
            max_length: 64,
            text: "premise".to_owned(),
            text_pair: Some("hypothesis".to_owned()),
            label: "gold".to_owned(),
            examples_per_class: Some(5),
            max_examples: Some(70),
            ..DataConfig::new("datasets/nli")
        };
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let error = toml::from_str::<DataConfig>("path = \"d\"\nmax_lenght = 64").unwrap_err();
        assert!(error.to_string().contains("max_lenght"), "{error}");
    }
}
