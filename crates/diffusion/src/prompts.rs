//! Prompts as tokens, padded to the length that text encoders were trained with.

use eigenmix_data::TextTokenizer;

use crate::{DiffusionError, Kind, Part, Pipeline, TextSizes, TokenizerPlace};

/// A prompt's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptIds {
    /// For each text encoder, padded to its length.
    pub ids: Vec<Vec<i64>>,
    /// Whether the text is empty.
    pub is_empty: bool,
}

/// The tokenizers of a diffusion model, one for each text encoder.
pub struct PromptTokenizers {
    tokenizers: Vec<PromptTokenizer>,
}

struct PromptTokenizer {
    tokenizer: TextTokenizer,
    padding: i64,
    length: usize,
}

/// A prompt's tokens, and whether it was cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub ids: PromptIds,
    pub is_cut: bool,
}

impl PromptTokenizers {
    /// - kind: of the model
    /// - sizes: of each text encoder
    ///
    /// # Errors
    /// If a tokenizer is missing or damaged, or does not say what it pads with.
    pub fn open(
        pipeline: &Pipeline,
        kind: Kind,
        sizes: &[TextSizes],
    ) -> Result<Self, DiffusionError> {
        let parts: &[Part] = match kind {
            Kind::Sd => &[Part::TextEncoder],
            Kind::Xl => &[Part::TextEncoder, Part::TextEncoder2],
        };
        let open = |(part, size): (&Part, &TextSizes)| {
            let TokenizerPlace { directory, padding } = pipeline.tokenizer(*part)?;
            let tokenizer = TextTokenizer::from_dir(&directory)?.with_embeddings(size.vocabulary);
            let own = tokenizer.pad_id().or_else(|| tokenizer.eos_id());
            let padding = padding.or_else(|| own.map(i64::from)).ok_or_else(|| {
                let directory = directory.display();
                DiffusionError::Input(format!(
                    "`{directory}` does not say which token pads a text"
                ))
            })?;
            Ok(PromptTokenizer {
                tokenizer,
                padding,
                length: size.positions,
            })
        };
        let tokenizers = parts.iter().zip(sizes).map(open);
        let tokenizers = tokenizers.collect::<Result<_, DiffusionError>>()?;
        Ok(Self { tokenizers })
    }

    /// # Errors
    /// If a tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Prompt, DiffusionError> {
        let mut ids = Vec::new();
        let mut is_cut = false;
        for tokenizer in &self.tokenizers {
            let encoding = tokenizer.tokenizer.encode(text, None, tokenizer.length)?;
            is_cut |= encoding.truncated;
            let mut padded: Vec<i64> = encoding.ids.into_iter().map(i64::from).collect();
            padded.resize(tokenizer.length, tokenizer.padding);
            ids.push(padded);
        }
        Ok(Prompt {
            ids: PromptIds {
                ids,
                is_empty: text.is_empty(),
            },
            is_cut,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eigenmix_models::Precision;
    use serde_json::Value;

    use super::*;

    #[test]
    fn prompts_are_padded_and_cut_as_each_encoders_tokenizer_does() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffusion");
        for (name, kind) in [("sd", Kind::Sd), ("sdxl", Kind::Xl)] {
            let directory = golden.join(name);
            let base = Pipeline::open(&directory.join("base"), Precision::Auto).expect("a model");
            let text = std::fs::read_to_string(directory.join("tokens.json")).expect("tokens");
            let expected: Value = serde_json::from_str(&text).expect("JSON");
            let sizes = TextSizes {
                vocabulary: 564,
                positions: 14,
            };
            let tokenizers = PromptTokenizers::open(&base, kind, &[sizes; 2]).expect("tokenizers");
            let mut cut = 0;
            for (index, tokenizer) in ["tokenizer", "tokenizer_2"].iter().enumerate() {
                for case in expected[tokenizer].as_array().into_iter().flatten() {
                    let text = case["text"].as_str().expect("a text");
                    let prompt = tokenizers.encode(text).expect("tokens");
                    let ids: Vec<i64> = (case["ids"].as_array().expect("ids").iter())
                        .map(|id| id.as_i64().expect("an id"))
                        .collect();
                    assert_eq!(prompt.ids.ids[index], ids, "{name} {tokenizer} {text}");
                    assert_eq!(prompt.ids.is_empty, text.is_empty());
                    cut += usize::from(prompt.is_cut);
                }
            }
            assert!(cut > 0, "{name}: a text is too long");
        }
    }
}
