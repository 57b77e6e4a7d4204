//! The tokenizer of a GGUF file.

mod byte_level;
mod framing;
mod pre_tokenizer;
mod sentence_piece;
mod settings;
mod text_files;
mod vocabulary;

#[cfg(test)]
mod tests;

use eigenmix_gguf::GgufFile;
use tokenizers::Tokenizer;

use crate::contained::contained;
use crate::error::DataError;
use vocabulary::Vocabulary;

pub(crate) use settings::{special_ids, tokenizer_config};
pub use text_files::{gguf_text_files, gguf_tokenizer_json};

const MODEL: &str = "tokenizer.ggml.model";

/// Builds the tokenizer of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece's BPE (`llama`), with
/// its added tokens and the special tokens around a text.
///
/// # Errors
/// If the file has no tokenizer, one of another kind, or one that does not hold together.
pub(crate) fn build(file: &GgufFile) -> Result<Tokenizer, DataError> {
    let kind = file.required(MODEL, file.text(MODEL)?)?;
    let vocabulary = Vocabulary::read(file)?;
    let mut tokenizer = match kind {
        "gpt2" => byte_level::build(file, &vocabulary)?,
        "llama" => sentence_piece::build(file, &vocabulary)?,
        other => {
            return Err(refused(
                file,
                format!(
                    "`{MODEL}` is `{other}`, a kind of tokenizer that is not read from GGUF files; gpt2 (byte-level BPE) and llama (SentencePiece's BPE) are"
                ),
            ));
        }
    };
    let framing = framing::of(file, &vocabulary, kind)?;
    contained(|| {
        tokenizer.add_special_tokens(vocabulary.special_tokens())?;
        tokenizer.add_tokens(vocabulary.user_defined())?;
        tokenizer.with_post_processor(framing);
        Ok(tokenizer)
    })
    .map_err(malformed(file))
}

fn malformed(file: &GgufFile) -> impl Fn(tokenizers::Error) -> DataError {
    let path = file.path().to_owned();
    move |source| DataError::MalformedTokenizer {
        path: path.clone(),
        source,
    }
}

fn refused(file: &GgufFile, problem: String) -> DataError {
    DataError::GgufTokenizer {
        path: file.path().to_owned(),
        problem,
    }
}
