//! The special tokens around a text.

use eigenmix_gguf::GgufFile;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use super::vocabulary::Vocabulary;
use super::{malformed, pre_tokenizer, refused};
use crate::error::DataError;

/// Puts the tokens that begin and end a text around it, if the file says so; where it does not, as
/// llama.cpp does for its kind.
///
/// - kind: `tokenizer.ggml.model`
pub(super) fn of(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    kind: &str,
) -> Result<Option<PostProcessorWrapper>, DataError> {
    let usual = match kind {
        "llama" => true,
        _ => pre_tokenizer::begins_texts(file)?,
    };
    let begin = asked_for(file, vocabulary, "bos", usual)?;
    let end = asked_for(file, vocabulary, "eos", false)?;
    if begin.is_none() && end.is_none() {
        return Ok(None);
    }
    let part = |sequence: &str, type_id: u32| {
        let begin = begin.as_ref().map(|_| format!("bos:{type_id}"));
        let end = end.as_ref().map(|_| format!("eos:{type_id}"));
        let pieces = [begin, Some(format!("{sequence}:{type_id}")), end];
        pieces.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let (first, second) = (part("$A", 0), part("$B", 1));
    let tokens = [("bos", begin), ("eos", end)]
        .into_iter()
        .filter_map(|(label, token)| {
            let (id, token) = token?;
            Some(SpecialToken::new(label.to_owned(), vec![id], vec![token]))
        });
    let tokens: Vec<SpecialToken> = tokens.collect::<Result<_, _>>().map_err(malformed(file))?;
    let framing = TemplateProcessing::builder()
        .try_single(first.clone())
        .and_then(|builder| builder.try_pair(format!("{first} {second}")))
        .map_err(|problem| malformed(file)(problem.into()))?
        .special_tokens(tokens)
        .build()
        .map_err(|problem| malformed(file)(problem.into()))?;
    Ok(Some(PostProcessorWrapper::Template(framing)))
}

/// The token that `tokenizer.ggml.add_bos_token` or its like wants.
fn asked_for(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    name: &str,
    usual: bool,
) -> Result<Option<(u32, String)>, DataError> {
    let key = format!("tokenizer.ggml.add_{name}_token");
    let said = file.boolean(&key)?;
    if !said.unwrap_or(usual) {
        return Ok(None);
    }
    match vocabulary.named(file, name)? {
        Some((id, token)) => Ok(Some((id, token.to_owned()))),
        None if said.is_none() => Ok(None),
        None => {
            let problem = format!(
                "`{key}` asks for a token that `tokenizer.ggml.{name}_token_id` does not name"
            );
            Err(refused(file, problem))
        }
    }
}
