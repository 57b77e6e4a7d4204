//! What a model's files say about its tokenizer beside the tokenizer itself.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::byte_order_mark::without_mark;
use crate::error::DataError;

/// What `tokenizer_config.json` and `special_tokens_map.json` say beside the tokenizer itself.
///
/// Both files are other people's: keys we do not know are theirs to have.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct TokenizerConfig {
    pub tokenizer_class: Option<String>,
    pub do_lower_case: Option<bool>,
    pub strip_accents: Option<bool>,
    pub tokenize_chinese_chars: Option<bool>,
    pub truncation_side: Option<String>,
    pub add_bos_token: Option<bool>,
    pub add_prefix_space: Option<bool>,
    pub chat_template: Option<ChatTemplates>,
    pub bos_token: Option<TokenName>,
    pub eos_token: Option<TokenName>,
    pub pad_token: Option<TokenName>,
    pub unk_token: Option<TokenName>,
    pub cls_token: Option<TokenName>,
    pub sep_token: Option<TokenName>,
    pub mask_token: Option<TokenName>,
}

/// A token's text, alone or in an `AddedToken` object.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenName {
    Plain(String),
    Added { content: String },
}

/// The chat template, or several by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ChatTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NamedTemplate {
    pub name: String,
    pub template: String,
}

impl TokenName {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Added { content } => content,
        }
    }
}

impl TokenizerConfig {
    /// Reads both files, either of which may be absent; the configuration goes before the map.
    pub(crate) fn read(dir: &Path) -> Result<Self, DataError> {
        let config: Self = read_if_present(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let map: Self = read_if_present(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        Ok(Self {
            bos_token: config.bos_token.or(map.bos_token),
            eos_token: config.eos_token.or(map.eos_token),
            pad_token: config.pad_token.or(map.pad_token),
            unk_token: config.unk_token.or(map.unk_token),
            cls_token: config.cls_token.or(map.cls_token),
            sep_token: config.sep_token.or(map.sep_token),
            mask_token: config.mask_token.or(map.mask_token),
            ..config
        })
    }
}

/// The JSON in a file, or `None` where there is no such file.
pub(crate) fn read_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DataError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(DataError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let parsed = serde_json::from_slice(without_mark(&content)).map_err(|source| {
        DataError::MalformedJson {
            path: path.to_owned(),
            source,
        }
    })?;
    Ok(Some(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_in_both_spellings_and_the_map_fills_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let config = r#"{"pad_token": {"content": "<pad>", "lstrip": false}, "unk_token": null,
                         "model_max_length": 1e30, "do_lower_case": false}"#;
        let map =
            r#"{"pad_token": "[PAD]", "unk_token": "<unk>", "additional_special_tokens": []}"#;
        fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        fs::write(dir.path().join("special_tokens_map.json"), map).unwrap();
        let config = TokenizerConfig::read(dir.path()).unwrap();
        assert_eq!(config.pad_token.unwrap().as_str(), "<pad>");
        assert_eq!(config.unk_token.unwrap().as_str(), "<unk>");
        assert_eq!(config.do_lower_case, Some(false));
    }

    #[test]
    fn absent_files_say_nothing_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            TokenizerConfig::read(dir.path())
                .unwrap()
                .pad_token
                .is_none()
        );
        fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
        let error = TokenizerConfig::read(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("tokenizer_config.json"),
            "{error}"
        );
    }
}
