//! BERT's tokenizer from a `vocab.txt`, for checkpoints that have no `tokenizer.json`.

use std::fs;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::DataError;
use crate::tokenizer_config::{TokenName, TokenizerConfig};

/// The tokenizers whose `vocab.txt` is a BERT WordPiece vocabulary (`…Fast` aside).
const BERT_CLASSES: [&str; 5] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
];

/// Whether the configuration says that `vocab.txt` belongs to a BERT, or does not say.
pub(crate) fn is_bert(config: &TokenizerConfig) -> bool {
    config.tokenizer_class.as_ref().is_none_or(|class| {
        let class = class.strip_suffix("Fast").unwrap_or(class);
        BERT_CLASSES.contains(&class)
    })
}

/// Builds BERT's tokenizer from a `vocab.txt`, one token a line: clean and lower-case the text, split
/// it at spaces and punctuation, cut words into the longest known pieces, frame with `[CLS]`, `[SEP]`.
///
/// Settings and defaults are those of transformers' `BertTokenizer`.
pub(crate) fn build(vocabulary: &Path, config: &TokenizerConfig) -> Result<Tokenizer, DataError> {
    let malformed = |source| DataError::MalformedTokenizer {
        path: vocabulary.to_owned(),
        source,
    };
    let content = fs::read(vocabulary).map_err(|source| DataError::Io {
        path: vocabulary.to_owned(),
        source,
    })?;
    let token = |name: &Option<TokenName>, default: &str| {
        name.as_ref().map_or(default, TokenName::as_str).to_owned()
    };
    let unknown = token(&config.unk_token, "[UNK]");
    let start = token(&config.cls_token, "[CLS]");
    let separator = token(&config.sep_token, "[SEP]");
    let padding = token(&config.pad_token, "[PAD]");
    let mask = token(&config.mask_token, "[MASK]");

    let model = WordPiece::builder()
        .vocab(WordPiece::read_bytes(&content).map_err(malformed)?)
        .unk_token(unknown.clone())
        .build()
        .map_err(malformed)?;
    let mut tokenizer = Tokenizer::new(model);
    let id_of = |name: &str| {
        tokenizer
            .token_to_id(name)
            .ok_or_else(|| DataError::MissingSpecialToken {
                path: vocabulary.to_owned(),
                token: name.to_owned(),
            })
    };
    id_of(&unknown)?;
    let start_id = id_of(&start)?;
    let separator_id = id_of(&separator)?;

    // A special token that the vocabulary lacks would get an id past the embedding's last row.
    let special_tokens: Vec<AddedToken> = [&unknown, &separator, &padding, &start, &mask]
        .into_iter()
        .filter(|name| tokenizer.token_to_id(name).is_some())
        .map(|name| AddedToken::from(name.as_str(), true))
        .collect();
    tokenizer
        .add_special_tokens(special_tokens)
        .map_err(malformed)?;
    let normalizer = BertNormalizer::new(
        true,
        config.tokenize_chinese_chars.unwrap_or(true),
        config.strip_accents,
        config.do_lower_case.unwrap_or(true),
    );
    tokenizer
        .with_normalizer(Some(normalizer))
        .map_err(malformed)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    let framing = BertProcessing::new((separator, separator_id), (start, start_id));
    tokenizer.with_post_processor(Some(framing));
    Ok(tokenizer)
}
