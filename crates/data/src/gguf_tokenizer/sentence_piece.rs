//! SentencePiece's BPE: spaces are letters, pieces are joined in the order of their scores, and what has
//! no piece is written in bytes.

use std::collections::HashMap;

use eigenmix_gguf::GgufFile;
use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};

use super::vocabulary::{Kind, SPACE, Vocabulary};
use super::{malformed, refused};
use crate::contained::contained;
use crate::error::DataError;

const SCORES: &str = "tokenizer.ggml.scores";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// The longest token, in bytes: every way to split it is tried.
const LONGEST: usize = 1024;

/// What SentencePiece can do to a text before it, and LLaMA's models do not.
const NORMALISATIONS: [&str; 2] = [
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
];

pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Tokenizer, DataError> {
    for key in NORMALISATIONS {
        if let Some(value) = file.value(key)
            && *value != false.into()
        {
            let problem = format!("`{key}` changes texts in a way that is not supported");
            return Err(refused(file, problem));
        }
    }
    let scores = file.required(SCORES, file.numbers(SCORES)?)?;
    if scores.len() != vocabulary.tokens.len() {
        let problem = format!(
            "`{SCORES}` has {} elements, expected one for each of {} tokens",
            scores.len(),
            vocabulary.tokens.len()
        );
        return Err(refused(file, problem));
    }
    if let Some(token) = vocabulary.tokens.iter().find(|token| token.len() > LONGEST) {
        let problem = format!(
            "it has a token of {} bytes, more than any model",
            token.len()
        );
        return Err(refused(file, problem));
    }
    let merges = merges(vocabulary, scores);
    let ids: Vocab = vocabulary
        .iter()
        .map(|(id, token, _)| (token.to_owned(), id))
        .collect();
    let mut unknown = vocabulary
        .iter()
        .filter(|(_, _, kind)| *kind == Kind::Unknown);
    let unknown = unknown.next().map(|(_, token, _)| token.to_owned());
    let model = contained(|| {
        let builder = BPE::builder().vocab_and_merges(ids, merges);
        let builder = builder.byte_fallback(true).fuse_unk(true);
        match unknown {
            Some(token) => builder.unk_token(token).build(),
            None => builder.build(),
        }
    });
    let mut tokenizer = Tokenizer::new(model.map_err(malformed(file))?);

    // A space in front of every stretch of text between special tokens, also where it has one.
    let prefixed = file.boolean(PREFIX)?.unwrap_or(true);
    let space = SPACE.to_string();
    let written = Replace::new(" ", space.clone()).map_err(malformed(file))?;
    let read = Replace::new(space.clone(), " ").map_err(malformed(file))?;
    let mut normalizers: Vec<NormalizerWrapper> = vec![written.into()];
    let mut decoders: Vec<DecoderWrapper> =
        vec![read.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefixed {
        normalizers.insert(0, Prepend::new(space).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer
        .with_normalizer(Some(Sequence::new(normalizers)))
        .map_err(malformed(file))?;
    tokenizer.with_decoder(Some(tokenizers::decoders::sequence::Sequence::new(
        decoders,
    )));
    Ok(tokenizer)
}

/// Every way in which a piece is made of two others, the pieces of the highest scores first: of all pairs
/// that can be joined SentencePiece joins the one that gives the piece with the highest score.
fn merges(vocabulary: &Vocabulary, scores: &[f32]) -> Merges {
    // User-defined pieces are found before, and joined to nothing.
    let pieces: HashMap<&str, u32> = vocabulary
        .iter()
        .filter(|(_, _, kind)| matches!(kind, Kind::Normal | Kind::Unused))
        .map(|(id, token, _)| (token, id))
        .collect();
    let mut found: Vec<(f32, u32, u32, u32)> = Vec::new();
    for (&piece, &id) in &pieces {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&left), Some(&right)) = (pieces.get(left), pieces.get(right)) {
                found.push((scores[id as usize], id, left, right));
            }
        }
    }
    found.sort_unstable_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3)))
    });
    let token = |id: u32| vocabulary.tokens[id as usize].clone();
    found
        .into_iter()
        .map(|(_, _, left, right)| (token(left), token(right)))
        .collect()
}
