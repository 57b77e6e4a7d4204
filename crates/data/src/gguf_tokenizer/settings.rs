//! What a GGUF file says about its tokenizer beside the tokenizer itself.

use eigenmix_gguf::GgufFile;
use serde_json::{Map, Value, json};

use super::vocabulary::{Kind, Vocabulary};
use crate::error::DataError;
use crate::tokenizer_config::{ChatTemplates, NamedTemplate, TokenName, TokenizerConfig};

const TEMPLATE: &str = "tokenizer.chat_template";
const TEMPLATES: &str = "tokenizer.chat_templates";

/// Tokens that end a turn, whatever the file calls the end of a text: files of chat models often name
/// only one. llama.cpp knows them by their texts, too.
const ENDS_OF_TURNS: [&str; 6] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
];

/// The names of special tokens, and the chat templates.
pub(crate) fn tokenizer_config(file: &GgufFile) -> Result<TokenizerConfig, DataError> {
    let mut config = TokenizerConfig {
        chat_template: chat_templates(file)?,
        ..TokenizerConfig::default()
    };
    // Files without a tokenizer may still have a template.
    if let Some(vocabulary) = vocabulary(file)? {
        let named = |name: &str| -> Result<Option<TokenName>, DataError> {
            let found = vocabulary.named(file, name)?;
            Ok(found.map(|(_, token)| TokenName::Plain(token.to_owned())))
        };
        config.bos_token = named("bos")?;
        config.eos_token = named("eos")?;
        config.pad_token = named("padding")?;
        config.unk_token = named("unknown")?;
    }
    Ok(config)
}

/// The ids that a model's configuration names: what begins and ends a text, and what fills a batch up; none
/// of a file without tokens, whose tokenizer is beside an adapter.
pub(crate) fn special_ids(file: &GgufFile) -> Result<Map<String, Value>, DataError> {
    let Some(vocabulary) = vocabulary(file)? else {
        return Ok(Map::new());
    };
    let id = |name: &str| -> Result<Option<u32>, DataError> {
        Ok(vocabulary.named(file, name)?.map(|(id, _)| id))
    };
    let mut ids = Map::new();
    for (name, key) in [("bos", "bos_token_id"), ("padding", "pad_token_id")] {
        if let Some(id) = id(name)? {
            ids.insert(key.to_owned(), json!(id));
        }
    }
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(id(name)?);
    }
    let of_turns = vocabulary.iter().filter(|(_, token, kind)| {
        matches!(kind, Kind::Control | Kind::UserDefined) && ENDS_OF_TURNS.contains(token)
    });
    ends.extend(of_turns.map(|(id, _, _)| id));
    ids.insert("eos_token_id".to_owned(), json!(ends));
    Ok(ids)
}

/// The tokens, if the file has any.
fn vocabulary(file: &GgufFile) -> Result<Option<Vocabulary>, DataError> {
    let is_there = file.value("tokenizer.ggml.tokens").is_some();
    is_there.then(|| Vocabulary::read(file)).transpose()
}

fn chat_templates(file: &GgufFile) -> Result<Option<ChatTemplates>, DataError> {
    let usual = file.text(TEMPLATE)?;
    let names = file.texts(TEMPLATES)?.unwrap_or_default();
    if names.is_empty() {
        return Ok(usual.map(|template| ChatTemplates::One(template.to_owned())));
    }
    let mut templates = Vec::new();
    let mut put = |name: &str, template: &str| {
        templates.push(NamedTemplate {
            name: name.to_owned(),
            template: template.to_owned(),
        });
    };
    if let Some(template) = usual {
        put("default", template);
    }
    for name in names.iter().filter(|name| *name != "default") {
        let key = format!("{TEMPLATE}.{name}");
        put(name, file.required(&key, file.text(&key)?)?);
    }
    Ok(Some(ChatTemplates::Named(templates)))
}
