//! The tokens of a GGUF file and what kind each of them is.

use std::collections::BTreeSet;

use eigenmix_gguf::GgufFile;
use tokenizers::AddedToken;

use super::refused;
use crate::error::DataError;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// A row of the embedding that no text leads to.
    Unused,
    Byte,
}

pub(super) struct Vocabulary {
    /// By id; no two are the same.
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<Kind>,
}

impl Vocabulary {
    pub(super) fn read(file: &GgufFile) -> Result<Self, DataError> {
        let tokens = file.required(TOKENS, file.texts(TOKENS)?)?;
        if u32::try_from(tokens.len()).is_err() {
            return Err(refused(
                file,
                format!("`{TOKENS}` has more tokens than ids"),
            ));
        }
        let kinds = match file.integers(KINDS)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(numbers) if numbers.len() != tokens.len() => {
                let problem = format!(
                    "`{KINDS}` has {} elements, expected one for each of {} tokens",
                    numbers.len(),
                    tokens.len()
                );
                return Err(refused(file, problem));
            }
            Some(numbers) => {
                let kinds = numbers.into_iter().map(|number| {
                    kind_of(number).ok_or_else(|| {
                        refused(file, format!("`{KINDS}` has {number}, expected 1 to 6"))
                    })
                });
                kinds.collect::<Result<_, _>>()?
            }
        };
        let mut seen = BTreeSet::new();
        let named = |(id, token): (usize, &String)| match token.is_empty() {
            // As llama.cpp calls it: a tokenizer has no place for a token without a text.
            true => format!("[EMPTY_{id}]"),
            false => token.clone(),
        };
        let tokens: Vec<String> = tokens.iter().enumerate().map(named).collect();
        if let Some(token) = tokens.iter().find(|token| !seen.insert(token.as_str())) {
            return Err(refused(file, format!("`{TOKENS}` has `{token}` twice")));
        }
        Ok(Self { tokens, kinds })
    }

    /// Ids, tokens and kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        let tokens = self.tokens.iter().zip(&self.kinds);
        (0..)
            .zip(tokens)
            .map(|(id, (token, &kind))| (id, token.as_str(), kind))
    }

    /// The token that metadata such as `tokenizer.ggml.bos_token_id` names; `None` where it names none
    /// that is there, as files of copied metadata do.
    pub(super) fn named(
        &self,
        file: &GgufFile,
        name: &str,
    ) -> Result<Option<(u32, &str)>, DataError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(number) = file.value(&key).and_then(|value| value.as_integer()) else {
            // Something else than a number is an error.
            file.unsigned(&key)?;
            return Ok(None);
        };
        let id = u32::try_from(number).ok();
        Ok(id.and_then(|id| {
            let token = self.tokens.get(id as usize)?;
            Some((id, token.as_str()))
        }))
    }

    /// Tokens that are found in a text before anything else, and left out of a decoded one.
    pub(super) fn special_tokens(&self) -> Vec<AddedToken> {
        self.iter()
            .filter(|(_, _, kind)| matches!(kind, Kind::Control | Kind::Unknown))
            .map(|(_, token, _)| AddedToken::from(token, true))
            .collect()
    }

    /// Tokens that are found in a text before anything else. Those of SentencePiece's spaces are found
    /// where spaces have become such.
    pub(super) fn user_defined(&self) -> Vec<AddedToken> {
        self.iter()
            .filter(|(_, _, kind)| *kind == Kind::UserDefined)
            .map(|(_, token, _)| AddedToken::from(token, false).normalized(token.contains(SPACE)))
            .collect()
    }
}

fn kind_of(number: i128) -> Option<Kind> {
    Some(match number {
        // 0 is what a converter did not define.
        0 | 1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => return None,
    })
}
