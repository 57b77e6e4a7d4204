//! CLIP's tokenizer from its two vocabulary files, for checkpoints that have no `tokenizer.json`.

use std::path::Path;

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Replace, Sequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::DataError;
use crate::tokenizer_config::{TokenName, TokenizerConfig, read_if_present};

const START_OF_TEXT: &str = "<|startoftext|>";
const END_OF_TEXT: &str = "<|endoftext|>";

/// The end of a word in the vocabulary.
const WORD_END: &str = "</w>";

/// Contractions, words, digits one by one, and runs of anything else but spaces.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Whether `vocab.json` and `merges.txt` in a model directory are said to be CLIP's.
pub(crate) fn is_clip(model_dir: &Path, config: &TokenizerConfig) -> Result<bool, DataError> {
    #[derive(Deserialize)]
    struct ModelConfig {
        model_type: Option<String>,
    }

    if let Some(class) = &config.tokenizer_class {
        return Ok(class.strip_suffix("Fast").unwrap_or(class) == "CLIPTokenizer");
    }
    let model: Option<ModelConfig> = read_if_present(&model_dir.join("config.json"))?;
    Ok(model.and_then(|model| model.model_type).as_deref() == Some("clip"))
}

/// Builds CLIP's tokenizer from `vocab.json` and `merges.txt`: lower-case the text, split it at words,
/// write each byte as a character, join pairs of tokens in the order of the merges.
///
/// Settings and defaults are those of transformers' `CLIPTokenizerFast`.
pub(crate) fn build(model_dir: &Path, config: &TokenizerConfig) -> Result<Tokenizer, DataError> {
    let vocabulary = model_dir.join("vocab.json");
    let malformed = |source| DataError::MalformedTokenizer {
        path: vocabulary.clone(),
        source,
    };
    let name = |token: &Option<TokenName>, default: &str| {
        token.as_ref().map_or(default, TokenName::as_str).to_owned()
    };
    let start = name(&config.bos_token, START_OF_TEXT);
    let end = name(&config.eos_token, END_OF_TEXT);
    let unknown = name(&config.unk_token, END_OF_TEXT);
    let padding = name(&config.pad_token, END_OF_TEXT);
    let merges = model_dir.join("merges.txt");
    let model = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy())
        .end_of_word_suffix(WORD_END.to_owned())
        .unk_token(unknown.clone())
        .build()
        .map_err(malformed)?;
    let mut tokenizer = Tokenizer::new(model);
    let id_of = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.ok_or_else(|| DataError::MissingSpecialToken {
            path: vocabulary.clone(),
            token: token.to_owned(),
        })
    };
    let framing =
        RobertaProcessing::new((end.clone(), id_of(&end)?), (start.clone(), id_of(&start)?))
            .trim_offsets(false)
            .add_prefix_space(false);
    // A special token that the vocabulary lacks would get an id past the embedding's last row.
    let special_tokens: Vec<AddedToken> = [start, end, unknown, padding]
        .into_iter()
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true))
        .collect();
    tokenizer
        .add_special_tokens(special_tokens)
        .map_err(malformed)?;

    let spaces = ReplacePattern::Regex(r"\s+".to_owned());
    let spaces = Replace::new(spaces, " ").map_err(malformed)?;
    let normalizer = Sequence::new(vec![
        NormalizerWrapper::NFC(NFC),
        NormalizerWrapper::Replace(spaces),
        NormalizerWrapper::Lowercase(Lowercase),
    ]);
    tokenizer
        .with_normalizer(Some(normalizer))
        .map_err(malformed)?;
    let words = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(malformed)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        PreTokenizerWrapper::Split(words),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.with_post_processor(Some(framing));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use eigenmix_tensors::TensorFile;

    use crate::TextTokenizer;

    fn golden(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/clip")
            .join(name)
    }

    /// The texts of tests/golden/clip/make_golden.py.
    const TEXTS: [&str; 3] = [
        "a photo of a dog.",
        "The  PHOTO of:\tÉ a dog's",
        "dogdog of the sea.",
    ];

    /// Expected: `CLIPTokenizerFast` of transformers, by make_golden.py.
    #[test]
    fn both_forms_of_a_tokenizer_give_the_ids_that_transformers_gives() {
        let reference = TensorFile::open(&golden("reference.safetensors")).unwrap();
        let whole = tempfile::tempdir().unwrap();
        fs::copy(
            golden("tokenizer.json"),
            whole.path().join("tokenizer.json"),
        )
        .unwrap();
        let nameless = tempfile::tempdir().unwrap();
        for name in ["vocab.json", "merges.txt", "config.json"] {
            fs::copy(golden("base").join(name), nameless.path().join(name)).unwrap();
        }
        for dir in [golden("base").as_path(), whole.path(), nameless.path()] {
            let tokenizer = TextTokenizer::from_dir(dir).unwrap();
            assert_eq!(tokenizer.vocabulary_size(), 64);
            for (index, text) in TEXTS.into_iter().enumerate() {
                let found = tokenizer.encode(text, None, 24).unwrap().ids;
                let expected = reference.read_i64(&format!("text.{index}.ids")).unwrap();
                let found: Vec<i64> = found.into_iter().map(i64::from).collect();
                assert_eq!(found, expected, "{text} in {}", dir.display());
            }
        }
    }

    #[test]
    fn a_text_that_is_cut_keeps_its_end() {
        let tokenizer = TextTokenizer::from_dir(&golden("base")).unwrap();
        let cut = tokenizer.encode(TEXTS[0], None, 5).unwrap();
        assert!(cut.truncated);
        assert_eq!(cut.ids, [62, 26, 57, 58, 63]);
    }

    #[test]
    fn a_vocabulary_without_an_end_of_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(golden("base/merges.txt"), dir.path().join("merges.txt")).unwrap();
        let vocabulary = fs::read_to_string(golden("base/vocab.json")).unwrap();
        let vocabulary = vocabulary.replace("<|endoftext|>", "<|end|>");
        fs::write(dir.path().join("vocab.json"), vocabulary).unwrap();
        let config = r#"{"tokenizer_class": "CLIPTokenizer"}"#;
        fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let error = TextTokenizer::from_dir(dir.path())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("<|endoftext|>"), "{error}");
    }
}
