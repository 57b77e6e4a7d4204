//! Rows of a table of tokens that were trained, of which an adapter holds these alone
//! (`trainable_token_indices`).
//!
//! PEFT saves their values, not what they changed: `W[token] = row`.

use std::collections::BTreeMap;

use eigenmix_tensors::HostTensor;
use serde_json::{Map, Value};

use crate::config_fields::ConfigFields;
use crate::key::PREFIX;
use crate::token_table::is_output_layer;
use crate::{Adapter, AdapterError};

/// The field of adapter_config.json.
pub(crate) const FIELD: &str = "trainable_token_indices";

/// What follows the path of a table in the names of its trained rows.
const ROWS: &str = ".token_adapter.trainable_tokens_delta";

/// What follows it in the name of the table below them, which PEFT saves where the vocabulary grew.
const BELOW: &str = ".token_adapter.base_layer.weight";

/// Trained rows of one table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenRows<'a> {
    /// The tokens; of one that is named twice the last row counts.
    pub tokens: &'a [usize],
    /// `[tokens, width]`
    pub rows: &'a HostTensor,
}

/// Why rows have no place in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    #[error(
        "the adapter brings a row for token {token} (trainable_token_indices), for which a table of {vocabulary} tokens has no place; resize the vocabulary of the base model first, or save the adapter again in PEFT with save_embedding_layers=True"
    )]
    Token { token: usize, vocabulary: usize },
    #[error(
        "the adapter's rows for single tokens (trainable_token_indices) have {found} numbers each, the table's have {expected}; is it an adapter of another base model?"
    )]
    Width { expected: usize, found: usize },
    #[error(
        "the adapter has {found} rows for the {tokens} tokens of trainable_token_indices; is the file whole?"
    )]
    Count { tokens: usize, found: usize },
}

impl TokenRows<'_> {
    /// Puts the rows into a table.
    ///
    /// - table: `[vocabulary, width]`, row-major
    ///
    /// # Errors
    /// If the rows have another width, or the table has no row for a token.
    pub fn place(&self, table: &mut [f32], width: usize) -> Result<(), RowProblem> {
        let found = self.rows.shape.last().copied().unwrap_or_default();
        if found != width || width == 0 {
            return Err(RowProblem::Width {
                expected: width,
                found,
            });
        }
        let (tokens, found) = (self.tokens.len(), self.rows.values.len() / width);
        if tokens != found {
            return Err(RowProblem::Count { tokens, found });
        }
        let vocabulary = table.len() / width;
        for (&token, row) in self.tokens.iter().zip(self.rows.values.chunks_exact(width)) {
            if token >= vocabulary {
                return Err(RowProblem::Token { token, vocabulary });
            }
            table[token * width..][..width].copy_from_slice(row);
        }
        Ok(())
    }
}

/// Which tokens of which tables were trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum TrainedTokens {
    #[default]
    None,
    /// Those of the model's table, whatever its name.
    OfTable(Vec<usize>),
    /// By the ends of the paths of tables.
    Of(BTreeMap<String, Vec<usize>>),
}

impl TrainedTokens {
    pub(crate) fn read(fields: &ConfigFields<'_>) -> Result<Self, AdapterError> {
        const EXPECTED: &str =
            "a list of tokens, or an object of such lists by the names of tables";
        let Some(value) = fields.value(FIELD) else {
            return Ok(Self::None);
        };
        let read = match value {
            Value::Array(_) => tokens(value).map(Self::OfTable),
            Value::Object(tables) => of_tables(tables).map(Self::Of),
            _ => None,
        };
        read.ok_or_else(|| fields.error(FIELD, EXPECTED, value))
    }

    /// Those of the table at `module`.
    pub(crate) fn of(&self, module: &str) -> Option<&[usize]> {
        match self {
            Self::None => None,
            Self::OfTable(tokens) => Some(tokens),
            Self::Of(tables) => tables
                .iter()
                .find(|(name, _)| ends_in(module, name))
                .map(|(_, tokens)| &tokens[..]),
        }
    }

    /// A table whose rows are not among those of `found`, the paths of tables; an output layer may have
    /// them from the table that it is tied to.
    pub(crate) fn missing_of(&self, found: &[&str]) -> Option<&str> {
        match self {
            Self::None => None,
            Self::OfTable(tokens) => {
                (!tokens.is_empty() && found.is_empty()).then_some("the table of tokens")
            }
            Self::Of(tables) => {
                let is_missing = |(name, tokens): &(&String, &Vec<usize>)| {
                    let is_tied = is_output_layer(name) && !found.is_empty();
                    let is_found = found.iter().any(|path| ends_in(path, name));
                    !tokens.is_empty() && !is_found && !is_tied
                };
                tables
                    .iter()
                    .find(is_missing)
                    .map(|(name, _)| name.as_str())
            }
        }
    }
}

/// Whether `name` is the end of a path, from a whole component on.
fn ends_in(path: &str, name: &str) -> bool {
    let before = path.strip_suffix(name);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl Adapter {
    /// The rows that were trained of the table at `module`, as which they are among the heads.
    pub fn token_rows(&self, module: &str) -> Option<TokenRows<'_>> {
        let rows = self.heads.get(&format!("{module}{ROWS}"))?;
        let tokens = self.config.trained_tokens().of(module)?;
        Some(TokenRows { tokens, rows })
    }
}

/// The path of the table whose trained rows a tensor is.
pub fn table_of_rows(name: &str) -> Option<&str> {
    name.strip_suffix(ROWS)
        .or_else(|| name.strip_suffix(".default")?.strip_suffix(ROWS))
}

/// The name that the rows of the table at `module` have among the heads.
pub(crate) fn rows_of(module: &str) -> String {
    format!("{module}{ROWS}")
}

/// The path of the table that a tensor is, below its trained rows.
pub(crate) fn table_below(name: &str) -> Option<&str> {
    name.strip_suffix(BELOW)
}

/// The name in a file of the table at `module`, of which single rows were trained.
pub(crate) fn key_below_rows(module: &str) -> String {
    format!("{PREFIX}{module}{BELOW}")
}

fn of_tables(tables: &Map<String, Value>) -> Option<BTreeMap<String, Vec<usize>>> {
    tables
        .iter()
        .map(|(name, found)| Some((name.clone(), tokens(found)?)))
        .collect()
}

fn tokens(value: &Value) -> Option<Vec<usize>> {
    let token = |item: &Value| usize::try_from(item.as_u64()?).ok();
    value.as_array()?.iter().map(token).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_take_the_places_of_their_tokens() {
        let rows = HostTensor::new([2, 2], vec![10.0, 11.0, 20.0, 21.0]);
        let placed = |tokens: &[usize], width: usize| {
            let mut table = vec![0.0; 6];
            let rows = &rows;
            let placed = TokenRows { tokens, rows }.place(&mut table, width);
            placed.map(|()| table)
        };
        let expected = vec![20.0, 21.0, 0.0, 0.0, 10.0, 11.0];
        assert_eq!(placed(&[2, 0], 2), Ok(expected));
        for token in [3, usize::MAX] {
            let problem = RowProblem::Token {
                token,
                vocabulary: 3,
            };
            assert_eq!(placed(&[2, token], 2), Err(problem));
        }
        let problem = RowProblem::Width {
            expected: 3,
            found: 2,
        };
        assert_eq!(placed(&[2, 0], 3), Err(problem));
        let problem = RowProblem::Count {
            tokens: 3,
            found: 2,
        };
        assert_eq!(placed(&[2, 0, 1], 2), Err(problem));
    }

    #[test]
    fn tokens_are_of_the_table_or_of_those_that_are_named() {
        let read = |value: Value| {
            let map = Map::from_iter([(FIELD.to_owned(), value)]);
            let path = std::path::Path::new("a test");
            TrainedTokens::read(&ConfigFields { map: &map, path })
        };
        let list = read(json!([3, 1])).expect("tokens");
        assert_eq!(list.of("model.wte"), Some(&[3, 1][..]));
        let named = read(json!({"embed_tokens": [3, 1], "lm_head": [4]})).expect("tokens");
        assert_eq!(named.of("model.embed_tokens"), Some(&[3, 1][..]));
        assert_eq!(named.of("lm_head"), Some(&[4][..]));
        assert_eq!(named.of("my_lm_head"), None);
        assert_eq!(list.missing_of(&[]), Some("the table of tokens"));
        assert_eq!(list.missing_of(&["model.wte"]), None);
        assert_eq!(named.missing_of(&["lm_head"]), Some("embed_tokens"));
        // The output layer may be tied to the table.
        assert_eq!(named.missing_of(&["model.embed_tokens"]), None);
        assert_eq!(named.missing_of(&[]), Some("embed_tokens"));
        for wrong in [json!([-1]), json!(["a"]), json!(3), json!({"a": 3})] {
            let error = read(wrong).expect_err("no tokens").to_string();
            assert!(error.contains(FIELD), "{error}");
        }
    }
}
