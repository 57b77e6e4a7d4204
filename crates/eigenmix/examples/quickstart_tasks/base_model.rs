//! The base model's configuration and tokenizer. Its weights come from training.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::write;

pub const MAX_POSITIONS: usize = 48;
const MAX_WORDS: usize = 900;
const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, &format!("{value:#}\n"))
}

/// The tokenizer and the configuration of the base model: a BERT of 64 hidden units.
pub fn write_base(folder: &Path, vocabulary: &BTreeSet<String>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let tokens: Vec<&str> = SPECIAL_TOKENS
        .into_iter()
        .chain(vocabulary.iter().map(String::as_str))
        .collect();
    ensure!(
        vocabulary.len() <= MAX_WORDS,
        "{} words and marks, expected at most {MAX_WORDS}",
        vocabulary.len()
    );
    write(
        &folder.join("vocab.txt"),
        &format!("{}\n", tokens.join("\n")),
    )?;
    write_json(
        &folder.join("config.json"),
        &json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": tokens.len(),
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": MAX_POSITIONS,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        }),
    )?;
    let special_names = json!({
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]",
    });
    write_json(&folder.join("special_tokens_map.json"), &special_names)?;
    let mut config = json!({
        "do_lower_case": true, "model_max_length": MAX_POSITIONS, "strip_accents": null,
        "tokenize_chinese_chars": true, "tokenizer_class": "BertTokenizer",
    });
    if let (Value::Object(config), Value::Object(names)) = (&mut config, special_names) {
        config.extend(names);
    }
    write_json(&folder.join("tokenizer_config.json"), &config)?;
    write_json(&folder.join("tokenizer.json"), &tokenizer(&tokens))
}

/// BERT's WordPiece tokenizer in the file format of the tokenizers library.
fn tokenizer(tokens: &[&str]) -> Value {
    let ids: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), json!(id)))
        .collect();
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .map(|token| {
            json!({ "id": ids[*token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let special_second = json!({ "SpecialToken": { "id": "[SEP]", "type_id": 1 } });
    let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    let framing = |token: &str| json!({ "id": token, "ids": [ids[token]], "tokens": [token] });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), sequence("A", 0), special("[SEP]")],
            "pair": [special("[CLS]"), sequence("A", 0), special("[SEP]"), sequence("B", 1), special_second],
            "special_tokens": { "[CLS]": framing("[CLS]"), "[SEP]": framing("[SEP]") },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids },
    })
}
