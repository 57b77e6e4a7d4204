//! GPT-2's tokenizer from its two vocabulary files, for checkpoints that have no `tokenizer.json`.

use std::path::Path;

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::DataError;
use crate::tokenizer_config::{TokenName, TokenizerConfig, read_if_present};

/// The tokenizers whose `vocab.json` and `merges.txt` are GPT-2's byte-level BPE (`…Fast` aside).
const CLASSES: [&str; 2] = ["GPT2Tokenizer", "CodeGenTokenizer"];

/// The models that use it where nobody names the tokenizer's class.
const MODEL_TYPES: [&str; 5] = ["gpt2", "gpt_neo", "gptj", "codegen", "opt"];

const END_OF_TEXT: &str = "<|endoftext|>";

/// Whether `vocab.json` and `merges.txt` in a model directory are GPT-2's, or nothing says otherwise.
pub(crate) fn is_gpt2(model_dir: &Path, config: &TokenizerConfig) -> Result<bool, DataError> {
    #[derive(Deserialize)]
    struct ModelConfig {
        model_type: Option<String>,
    }

    if let Some(class) = &config.tokenizer_class {
        let class = class.strip_suffix("Fast").unwrap_or(class);
        return Ok(CLASSES.contains(&class));
    }
    let model: Option<ModelConfig> = read_if_present(&model_dir.join("config.json"))?;
    let model_type = model.and_then(|model| model.model_type);
    Ok(model_type.is_none_or(|model_type| MODEL_TYPES.contains(&model_type.as_str())))
}

/// Builds GPT-2's tokenizer from `vocab.json` and `merges.txt`: split at words and spaces, write each
/// byte as a character, join pairs of tokens in the order of the merges.
///
/// Settings and defaults are those of transformers' `GPT2Tokenizer`.
pub(crate) fn build(model_dir: &Path, config: &TokenizerConfig) -> Result<Tokenizer, DataError> {
    let vocabulary = model_dir.join("vocab.json");
    let malformed = |source| DataError::MalformedTokenizer {
        path: vocabulary.clone(),
        source,
    };
    let merges = model_dir.join("merges.txt");
    let model = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy())
        .build()
        .map_err(malformed)?;
    let mut tokenizer = Tokenizer::new(model);
    let name = |token: &Option<TokenName>| {
        token
            .as_ref()
            .map_or(END_OF_TEXT, TokenName::as_str)
            .to_owned()
    };
    let begin = name(&config.bos_token);
    let padding = config
        .pad_token
        .as_ref()
        .map(|token| token.as_str().to_owned());
    let special = [
        Some(begin.clone()),
        Some(name(&config.eos_token)),
        Some(name(&config.unk_token)),
        padding,
    ];
    // A special token that the vocabulary lacks would get an id past the embedding's last row.
    let special_tokens: Vec<AddedToken> = special
        .iter()
        .flatten()
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token.as_str(), true))
        .collect();
    tokenizer
        .add_special_tokens(special_tokens)
        .map_err(malformed)?;

    let byte_level = ByteLevel::new(config.add_prefix_space.unwrap_or(false), false, true);
    tokenizer.with_pre_tokenizer(Some(byte_level));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    if config.add_bos_token == Some(true) {
        let id = tokenizer.token_to_id(&begin).ok_or_else(|| {
            let problem = format!("no token `{begin}`, which `add_bos_token` asks for");
            malformed(problem.into())
        })?;
        let framing = TemplateProcessing::builder()
            .try_single(format!("{begin} $A"))
            .and_then(|builder| builder.try_pair(format!("{begin} $A {begin} $B:1")))
            .map_err(|problem| malformed(problem.into()))?
            .special_tokens(vec![(begin, id)])
            .build()
            .map_err(|problem| malformed(problem.into()))?;
        tokenizer.with_post_processor(Some(PostProcessorWrapper::Template(framing)));
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{TextTokenizer, small_tokenizer};

    /// `vocab.json` and `merges.txt` as `language_encoder_reference.py` writes them: `<|endoftext|>` is
    /// 277.
    fn model(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut tokens = small_tokenizer::vocabulary();
        tokens.push(END_OF_TEXT.to_owned());
        let vocabulary: serde_json::Map<String, serde_json::Value> = tokens
            .into_iter()
            .zip(0_u32..)
            .map(|(token, id)| (token, id.into()))
            .collect();
        let vocabulary = serde_json::Value::Object(vocabulary).to_string();
        fs::write(dir.path().join("vocab.json"), vocabulary).unwrap();
        let merges = small_tokenizer::MERGES.map(|(left, right)| format!("{left} {right}\n"));
        let merges = format!("#version: 0.2\n{}", merges.concat());
        fs::write(dir.path().join("merges.txt"), merges).unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    fn ids(dir: &tempfile::TempDir, text: &str) -> Vec<u32> {
        let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
        tokenizer.encode(text, None, 99).unwrap().ids
    }

    /// Expected: `GPT2TokenizerFast` of transformers, by `language_encoder_reference.py`.
    #[test]
    fn vocabulary_and_merges_give_the_ids_that_transformers_gives() {
        let plain = model(&[]);
        assert_eq!(ids(&plain, "The sky is blue"), [84, 257, 273, 276, 266]);
        let text = "the red 😀 sky's<|endoftext|>  a";
        let expected = [
            116, 257, 32, 260, 100, 32, 269, 152, 128, 273, 39, 115, 277, 32, 261,
        ];
        assert_eq!(ids(&plain, text), expected);
        let tokenizer = TextTokenizer::from_dir(plain.path()).unwrap();
        assert_eq!(tokenizer.decode(&expected, false).unwrap(), text);

        let config = r#"{"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true}"#;
        let framed = model(&[("tokenizer_config.json", config)]);
        assert_eq!(
            ids(&framed, "The sky is blue"),
            [277, 84, 257, 273, 276, 266]
        );
    }

    #[test]
    fn other_tokenizers_of_the_same_files_are_refused() {
        for (name, content) in [
            (
                "tokenizer_config.json",
                r#"{"tokenizer_class": "RobertaTokenizer"}"#,
            ),
            ("config.json", r#"{"model_type": "roberta"}"#),
        ] {
            let dir = model(&[(name, content)]);
            let error = TextTokenizer::from_dir(dir.path())
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("no tokenizer this build can load"),
                "{error}"
            );
        }
        let named = model(&[("config.json", r#"{"model_type": "gpt2"}"#)]);
        assert!(TextTokenizer::from_dir(named.path()).is_ok());
    }

    #[test]
    fn a_beginning_that_the_vocabulary_lacks_is_refused() {
        let config = r#"{"add_bos_token": true, "bos_token": "</s>"}"#;
        let dir = model(&[("tokenizer_config.json", config)]);
        let error = TextTokenizer::from_dir(dir.path()).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no token `</s>`"), "{source}");
    }
}
