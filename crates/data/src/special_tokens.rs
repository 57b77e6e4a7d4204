//! Which tokens begin, end and fill up a sequence: four files of a model may say so, and not all
//! do; a GGUF file is all of them.

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::error::DataError;
use crate::model_files::ModelFiles;
use crate::tokenizer_config::{TokenName, TokenizerConfig};

/// The tokens that begin, end and fill up a sequence, as far as a model's files name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpecialTokens {
    pub begin: Option<u32>,
    /// The one that training appends.
    pub end: Option<u32>,
    pub padding: Option<u32>,
    /// All those that end a generated text, ascending.
    pub stops: Vec<u32>,
}

impl SpecialTokens {
    /// The tokenizer's own settings go before `generation_config.json`, that before `config.json`.
    ///
    /// Ids that the tokenizer does not have are passed over: configurations are copied between models
    /// of different vocabularies.
    ///
    /// # Errors
    /// When a file cannot be read or is not JSON.
    pub(crate) fn read(
        files: &ModelFiles,
        config: &TokenizerConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self, DataError> {
        let [generation, model] = files.special_ids()?.map(NamedIds);
        let named = |name: &Option<TokenName>| {
            name.as_ref()
                .and_then(|name| tokenizer.token_to_id(name.as_str()))
        };
        let configured = |key: &str| {
            let of_generation = generation.ids(key, tokenizer);
            match of_generation.is_empty() {
                true => model.ids(key, tokenizer),
                false => of_generation,
            }
        };
        let first = |key: &str| configured(key).first().copied();

        let end = named(&config.eos_token);
        let mut stops = configured("eos_token_id");
        let configured_end = stops.first().copied();
        stops.extend(end);
        stops.sort_unstable();
        stops.dedup();
        Ok(Self {
            begin: named(&config.bos_token).or_else(|| first("bos_token_id")),
            end: end.or(configured_end),
            padding: named(&config.pad_token)
                .or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))
                .or_else(|| first("pad_token_id")),
            stops,
        })
    }
}

/// What names tokens by id.
struct NamedIds(Map<String, Value>);

impl NamedIds {
    /// The ids under a key, which may hold one or a list.
    fn ids(&self, key: &str, tokenizer: &Tokenizer) -> Vec<u32> {
        let values = match self.0.get(key) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        values
            .iter()
            .filter_map(|value| u32::try_from(value.as_u64()?).ok())
            .filter(|id| tokenizer.id_to_token(*id).is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{TextTokenizer, small_tokenizer};

    /// The special tokens of the small tokenizer (277 to 280) under these files.
    fn with(files: &[(&str, &str)]) -> TextTokenizer {
        let dir = tempfile::tempdir().unwrap();
        small_tokenizer::write(dir.path(), true);
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        TextTokenizer::from_dir(dir.path()).unwrap()
    }

    #[test]
    fn the_tokenizers_own_names_go_first() {
        let tokenizer = with(&[(
            "config.json",
            r#"{"bos_token_id": 279, "eos_token_id": 280, "pad_token_id": 0}"#,
        )]);
        assert_eq!(tokenizer.bos_id(), Some(277));
        assert_eq!(tokenizer.eos_id(), Some(278));
        assert_eq!(tokenizer.pad_id(), Some(278));
        assert_eq!(tokenizer.stop_ids(), [278, 280]);
    }

    #[test]
    fn the_map_and_the_models_files_fill_gaps() {
        let tokenizer = with(&[
            ("tokenizer_config.json", r#"{"eos_token": null}"#),
            (
                "special_tokens_map.json",
                r#"{"bos_token": {"content": "<|im_start|>"}}"#,
            ),
            (
                "generation_config.json",
                r#"{"eos_token_id": [280, 278, 999]}"#,
            ),
            ("config.json", r#"{"eos_token_id": 5, "pad_token_id": 6}"#),
        ]);
        assert_eq!(tokenizer.bos_id(), Some(279));
        assert_eq!(
            tokenizer.eos_id(),
            Some(280),
            "the first of generation_config.json"
        );
        assert_eq!(
            tokenizer.stop_ids(),
            [278, 280],
            "999 is no token, config.json comes after"
        );
        assert_eq!(tokenizer.pad_id(), Some(6));
    }

    #[test]
    fn tokens_that_nothing_names_are_none() {
        let tokenizer = with(&[
            ("tokenizer_config.json", "{}"),
            (
                "config.json",
                r#"{"eos_token_id": null, "bos_token_id": -1}"#,
            ),
        ]);
        assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (None, None));
        assert_eq!(tokenizer.pad_id(), None);
        assert!(tokenizer.stop_ids().is_empty());
    }
}
