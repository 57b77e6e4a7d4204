//! Byte-level BPE: words of bytes, joined in the order of the merges.

use eigenmix_gguf::GgufFile;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::pre_tokenizer::PreTokenization;
use super::vocabulary::Vocabulary;
use super::{malformed, refused};
use crate::contained::contained;
use crate::error::DataError;

const MERGES: &str = "tokenizer.ggml.merges";

pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Tokenizer, DataError> {
    let pre = PreTokenization::of(file)?;
    let merges = file.required(MERGES, file.texts(MERGES)?)?;
    let pair_of = |(number, merge): (usize, &String)| {
        // Neither token is empty, and the first one may be a space.
        let space = merge
            .char_indices()
            .skip(1)
            .find(|(_, letter)| *letter == ' ');
        let pair = space.map(|(at, _)| (merge[..at].to_owned(), merge[at + 1..].to_owned()));
        pair.ok_or_else(|| {
            let problem = format!("`{MERGES}` has `{merge}` at {number}, expected two tokens");
            refused(file, problem)
        })
    };
    let merges: Merges = merges
        .iter()
        .enumerate()
        .map(pair_of)
        .collect::<Result<_, _>>()?;
    let ids: Vocab = vocabulary
        .iter()
        .map(|(id, token, _)| (token.to_owned(), id))
        .collect();
    let model = contained(|| {
        let builder = BPE::builder().vocab_and_merges(ids, merges);
        builder.ignore_merges(pre.whole_words).build()
    });
    let mut tokenizer = Tokenizer::new(model.map_err(malformed(file))?);
    tokenizer
        .with_normalizer(pre.normalizer())
        .map_err(malformed(file))?;
    tokenizer.with_pre_tokenizer(Some(pre.pre_tokenizer(file)?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}
