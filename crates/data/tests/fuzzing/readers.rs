//! All ways to read the files of a dataset or of a tokenizer.

use std::path::{Path, PathBuf};

use eigenmix_data::{
    ChatTemplate, DataConfig, DataError, LabelMap, LabelPolicy, LanguageContent, LanguageEncoder,
    LanguageRow, Message, Place, PredictionTable, Row, Split, TextTokenizer, column_names,
    has_chat_template, read_file, read_image_split, read_language_split, read_text_split,
};
use serde_json::json;

/// Reads the training split of a directory as texts, for a language model and as images, and the file
/// as a table of rows to predict for. Says how many rows there were in all.
///
/// # Panics
/// When an error has no words.
pub fn read_split_in_all_ways(directory: &Path, file: &Path, config: &DataConfig) -> usize {
    let mut rows = 0;
    for labels in [LabelPolicy::Required, LabelPolicy::Optional] {
        if let Some(split) = told(read_text_split(directory, Split::Train, config, labels)) {
            rows += split.rows.len();
            if let Some(map) = told(LabelMap::from_train(&split.rows)) {
                for row in &split.rows {
                    told(map.encode(row));
                }
            }
        }
        rows += told(read_file(file, config, labels)).map_or(0, |rows| rows.len());
        if let Some(split) = told(read_image_split(directory, Split::Train, config, labels)) {
            rows += split.rows.len();
            for row in &split.rows {
                told(row.decode());
            }
        }
    }
    told(column_names(directory, Split::Train, config));
    if let Some(split) = told(read_language_split(directory, Split::Train, config)) {
        rows += split.rows.len();
    }
    if let Some(table) = told(PredictionTable::read(file, config)) {
        rows += table.len();
        told(table.texts(config));
        told(table.image_paths(config));
        told(table.prompts(config));
    }
    rows
}

/// What was read; an error must say something.
fn told<T>(read: Result<T, DataError>) -> Option<T> {
    read.map_err(|error| assert!(!error.to_string().is_empty()))
        .ok()
}

/// Loads the tokenizer and the chat template in a directory and puts a conversation into tokens; says
/// whether that went well.
pub fn encode(directory: &Path) -> bool {
    told(has_chat_template(directory));
    let template = told(ChatTemplate::load(directory, None));
    let place = Place {
        file: PathBuf::from("rows").into(),
        line: 1,
    };
    let messages = vec![
        Message::new("user", "Hi ."),
        Message::new("assistant", "Hello."),
    ];
    let function = json!({"name": "weather", "parameters": {"type": "object"}});
    let tools = vec![json!({"type": "function", "function": function})];
    if let Some(template) = &template {
        let _ = template.render(&messages, &tools, true);
    }
    let Some(tokenizer) = told(TextTokenizer::from_dir(directory)) else {
        return false;
    };
    let row = Row {
        text: "Hi, hello there.".to_owned(),
        text_pair: Some("hello".to_owned()),
        label: None,
        place: place.clone(),
    };
    if let Some(encoding) = told(tokenizer.encode(&row.text, row.text_pair.as_deref(), 4)) {
        told(tokenizer.decode(&encoding.ids, true));
    }
    let config = DataConfig::new("unused");
    let row = LanguageRow {
        images: Vec::new(),
        answers: Vec::new(),
        content: LanguageContent::Conversation {
            messages,
            tools,
            completion_start: 0,
        },
        place,
    };
    let rows = [row];
    let encoder = LanguageEncoder::for_rows(&tokenizer, directory, &config, &rows);
    let Some(encoder) = told(encoder) else {
        return false;
    };
    told(encoder.stop_ids());
    told(encoder.encode_all(&rows)).is_some()
}
