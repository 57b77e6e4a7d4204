//! A model's tokenizer, from whichever of its files there are, and what it makes of texts.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::utils::truncation::{
    TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
};
use tokenizers::{PostProcessor, Tokenizer};

use crate::error::DataError;
use crate::model_files::ModelFiles;
use crate::row::Row;
use crate::special_tokens::SpecialTokens;

/// The tokens of one example, special tokens included, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// `[tokens]`
    pub ids: Vec<u32>,
    /// `[tokens]`: which of a pair of texts a token belongs to, 0 or 1.
    pub type_ids: Vec<u32>,
    /// Whether the example was longer than `max_length` and has been cut.
    pub truncated: bool,
}

/// The tokens of a text and where they stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenSpans {
    /// `[tokens]`
    pub ids: Vec<u32>,
    /// [tokens]: the bytes that a token stands for; the tokens of a character that takes several all
    /// have all its bytes.
    pub offsets: Vec<Range<usize>>,
}

/// The special tokens around every text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

/// A model's tokenizer, with truncation by `max_length` and padding left to the batch.
pub struct TextTokenizer {
    /// Without truncation, padding and post-processor: they are applied in [`TextTokenizer::encode`].
    tokenizer: Tokenizer,
    post_processor: Option<PostProcessorWrapper>,
    truncation_direction: TruncationDirection,
    special_tokens: SpecialTokens,
    /// How many tokens the model has an embedding of, where that is known.
    embeddings: Option<usize>,
}

impl TextTokenizer {
    /// Loads the tokenizer of a model: that in a GGUF file, or of a directory its `tokenizer.json`, the
    /// `vocab.txt` of a BERT, or the `vocab.json` and `merges.txt` of a GPT-2 or a CLIP.
    ///
    /// Truncation and padding that `tokenizer.json` prescribes are switched off.
    ///
    /// # Errors
    /// When none of them is there, or a file cannot be read or understood.
    pub fn from_dir(model_dir: &Path) -> Result<Self, DataError> {
        Self::from_dirs(model_dir, model_dir)
    }

    /// The same of a model whose tokenizer has been replaced by that in `tokenizer_dir`, as adapters
    /// bring one along; what ends a generated text is still what `model_dir` says, and the new
    /// tokenizer's own end.
    ///
    /// # Errors
    /// As [`TextTokenizer::from_dir`].
    pub fn from_dirs(tokenizer_dir: &Path, model_dir: &Path) -> Result<Self, DataError> {
        let files = ModelFiles::open(tokenizer_dir)?;
        let config = files.tokenizer_config()?;
        let mut tokenizer = files.tokenizer(&config)?;
        let special_tokens = match tokenizer_dir == model_dir {
            true => SpecialTokens::read(&files, &config, &tokenizer)?,
            false => SpecialTokens::read(&ModelFiles::open(model_dir)?, &config, &tokenizer)?,
        };
        let truncation_direction = match config.truncation_side.as_deref() {
            Some("left") => TruncationDirection::Left,
            Some(_) => TruncationDirection::Right,
            None => tokenizer
                .get_truncation()
                .map_or(TruncationDirection::Right, |truncation| {
                    truncation.direction
                }),
        };
        let post_processor = tokenizer.get_post_processor().cloned();
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|source| DataError::MalformedTokenizer {
                path: tokenizer_dir.to_owned(),
                source,
            })?;
        Ok(Self {
            tokenizer,
            post_processor,
            truncation_direction,
            special_tokens,
            embeddings: None,
        })
    }

    /// The same for a model with so many embeddings: tokens beyond them are refused where a text has
    /// one. Tokenizers often know a padding token that the model was never given a row for.
    pub fn with_embeddings(self, count: usize) -> Self {
        Self {
            embeddings: Some(count),
            ..self
        }
    }

    /// As [`TextTokenizer::vocabulary_size`], of the tokens that texts are made of: without those that
    /// were added to the vocabulary.
    pub fn text_vocabulary_size(&self) -> usize {
        let ids = self.tokenizer.get_vocab(false).into_values();
        ids.max().map_or(0, |last| last as usize + 1)
    }

    /// # Errors
    /// When the model has no embedding of one of the tokens.
    fn require_embedded(&self, ids: &[u32], text: &str) -> Result<(), DataError> {
        let Some(embeddings) = self.embeddings else {
            return Ok(());
        };
        match ids.iter().find(|id| **id as usize >= embeddings) {
            Some(&id) => Err(DataError::TokenBeyondEmbedding {
                token: self.tokenizer.id_to_token(id).unwrap_or_default(),
                id,
                embeddings,
                text: text.chars().take(40).collect(),
            }),
            None => Ok(()),
        }
    }

    /// The id that fills a batch, where the model's files name one.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_tokens.padding
    }

    /// The id that begins a text, where the model's files name one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_tokens.begin
    }

    /// The id that training puts at the end of a text, where the model's files name one.
    pub fn eos_id(&self) -> Option<u32> {
        self.special_tokens.end
    }

    /// All ids that end a generated text, ascending.
    pub fn stop_ids(&self) -> &[u32] {
        &self.special_tokens.stops
    }

    /// A token as the vocabulary has it.
    pub(crate) fn word(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether a token was added to the vocabulary, as special ones are.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.tokenizer
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .contains_key(&id)
    }

    /// One more than the largest id of a token, added ones included: ids may have gaps, and a base
    /// model needs an embedding up to the last.
    pub fn vocabulary_size(&self) -> usize {
        let ids = self.tokenizer.get_vocab(true).into_values();
        ids.max().map_or(0, |last| last as usize + 1)
    }

    /// Tokens of a text, or of a pair, with the model's special tokens.
    ///
    /// Of a pair that is too long, tokens go from the longer text first, as transformers'
    /// `longest_first` does.
    ///
    /// # Errors
    /// When `max_length` leaves no room for a token of the text, or the tokenizer fails.
    pub fn encode(
        &self,
        text: &str,
        pair: Option<&str>,
        max_length: usize,
    ) -> Result<Encoding, DataError> {
        let special_tokens = self
            .post_processor
            .as_ref()
            .map_or(0, |processor| processor.added_tokens(pair.is_some()));
        if max_length <= special_tokens {
            return Err(DataError::MaxLengthTooShort {
                max_length,
                special_tokens,
            });
        }
        let encoding = self
            .encode_within(text, pair, max_length - special_tokens)
            .map_err(|source| DataError::Tokenization {
                text: text.chars().take(40).collect(),
                source,
            })?;
        self.require_embedded(&encoding.ids, text)?;
        Ok(encoding)
    }

    /// The text that tokens stand for.
    ///
    /// A character that the tokens hold only in part comes out as U+FFFD; see
    /// [`IncrementalDecoder`](super::IncrementalDecoder) for tokens that come one after the other.
    ///
    /// - skip_special: leave out tokens such as `<|im_end|>`
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|source| DataError::Decoding {
                count: ids.len(),
                source,
            })
    }

    /// The tokens of a text without the special tokens around it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn encode_spans(&self, text: &str) -> Result<TokenSpans, DataError> {
        // Not `encode_fast`, which leaves offsets out.
        let encoding =
            self.tokenizer
                .encode(text, false)
                .map_err(|source| DataError::Tokenization {
                    text: text.chars().take(40).collect(),
                    source,
                })?;
        self.require_embedded(encoding.get_ids(), text)?;
        Ok(TokenSpans {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding
                .get_offsets()
                .iter()
                .map(|(start, end)| *start..*end)
                .collect(),
        })
    }

    /// The special tokens that the tokenizer puts before and after a text.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn frame(&self) -> Result<Frame, DataError> {
        const PROBE: &str = "a";
        let Some(processor) = &self.post_processor else {
            return Ok(Frame::default());
        };
        let failed = |source| DataError::Tokenization {
            text: PROBE.to_owned(),
            source,
        };
        let probe = self.tokenizer.encode_fast(PROBE, false).map_err(failed)?;
        let content = probe.len();
        let framed = processor.process(probe, None, true).map_err(failed)?;
        let is_special = framed.get_special_tokens_mask().iter();
        let before = is_special.take_while(|special| **special == 1).count();
        let ids = framed.get_ids();
        let after = ids.len().min(before + content);
        Ok(Frame {
            before: ids[..before].to_vec(),
            after: ids[after..].to_vec(),
        })
    }

    /// Encodes with at most `room` tokens beside the special ones.
    fn encode_within(
        &self,
        text: &str,
        pair: Option<&str>,
        room: usize,
    ) -> tokenizers::Result<Encoding> {
        let first = self.tokenizer.encode_fast(text, false)?;
        let second = pair
            .map(|pair| self.tokenizer.encode_fast(pair, false))
            .transpose()?;
        let content = first.len() + second.as_ref().map_or(0, tokenizers::Encoding::len);
        let truncation = TruncationParams {
            max_length: room,
            strategy: TruncationStrategy::LongestFirst,
            direction: self.truncation_direction,
            stride: 0,
        };
        let (first, second) = truncate_encodings(first, second, &truncation)?;
        let whole = match (&self.post_processor, second) {
            (Some(processor), second) => processor.process(first, second, true)?,
            (None, None) => first,
            (None, Some(mut second)) => {
                second.set_type_ids(vec![1; second.len()]);
                tokenizers::Encoding::merge([first, second], false)
            }
        };
        Ok(Encoding {
            ids: whole.get_ids().to_vec(),
            type_ids: whole.get_type_ids().to_vec(),
            truncated: content > room,
        })
    }

    /// Tokens of every row, in their order.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`], and when a row has no token at all.
    pub fn encode_all(&self, rows: &[Row], max_length: usize) -> Result<Vec<Encoding>, DataError> {
        rows.par_iter()
            .map(|row| {
                let encoding = self.encode(&row.text, row.text_pair.as_deref(), max_length)?;
                if encoding.ids.is_empty() {
                    return Err(DataError::NoTokens {
                        place: row.place.clone(),
                    });
                }
                Ok(encoding)
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "tokenization_tests.rs"]
mod tests;
