//! The tokenizer of a GGUF file as the files of a model directory.

use std::path::Path;

use eigenmix_gguf::GgufFile;
use serde_json::{Map, Value, json};

use super::{build, malformed, tokenizer_config};
use crate::chat_template_source::ChatTemplateSource;
use crate::error::DataError;
use crate::input_contract::InputContract;
use crate::model_files::ModelFiles;
use crate::tokenizer_config::TokenName;

/// The files that a directory would have instead of the tokenizer and the chat template in a GGUF file,
/// with their names: an adapter that was trained on the file takes them along.
///
/// # Errors
/// As [`TextTokenizer::from_dir`](crate::TextTokenizer::from_dir).
pub fn gguf_text_files(path: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, DataError> {
    let file = GgufFile::open(path)?;
    let tokenizer = tokenizer_json(&file)?;
    let config = tokenizer_config(&file)?;
    let mut settings = Map::new();
    // Else transformers' decoder takes spaces in front of punctuation away.
    settings.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    for (name, token) in [
        ("bos_token", &config.bos_token),
        ("eos_token", &config.eos_token),
        ("pad_token", &config.pad_token),
        ("unk_token", &config.unk_token),
    ] {
        if let Some(token) = token.as_ref().map(TokenName::as_str) {
            settings.insert(name.to_owned(), json!(token));
        }
    }
    settings.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    let settings = format!("{:#}\n", Value::Object(settings));
    let mut files = vec![
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings.into_bytes()),
    ];
    if config.chat_template.is_some() {
        let source = ChatTemplateSource::find(&ModelFiles::Gguf(file), None, &config)?;
        files.push((InputContract::CHAT_TEMPLATE, source.joined().into_bytes()));
    }
    Ok(files)
}

/// The first of these files alone.
///
/// # Errors
/// If the file cannot be read, or has no tokenizer that is understood.
pub fn gguf_tokenizer_json(path: &Path) -> Result<Vec<u8>, DataError> {
    tokenizer_json(&GgufFile::open(path)?)
}

fn tokenizer_json(file: &GgufFile) -> Result<Vec<u8>, DataError> {
    let text = build(file)?.to_string(false).map_err(malformed(file))?;
    Ok(text.into_bytes())
}
