//! The images of a row for a vision-language model: in a column of their own, or in the parts of messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::config::DataConfig;
use crate::content_part::{ContentPart, IMAGE_PLACEHOLDER};
use crate::error::DataError;
use crate::images::{ImageSource, file_beside};
use crate::jsonl::kind;
use crate::language_error::LanguageError;
use crate::language_row::LanguageContent;
use crate::row::Place;

/// The usual columns; the first is also that of TRL, whose messages need not say where images stand.
const COLUMNS: [&str; 2] = ["images", "image"];

/// What precedes the bytes of an image that is written in a text.
const DATA: &str = "data:";

/// Finds the images of rows.
pub(crate) struct RowImages {
    /// The column that the configuration names.
    column: Option<String>,
}

impl RowImages {
    /// Nothing for a task whose rows have no images.
    pub fn new(config: &DataConfig) -> Option<Self> {
        let usual = DataConfig::new("").image;
        config.takes_images.then(|| Self {
            column: (config.image != usual).then(|| config.image.clone()),
        })
    }

    /// Whether a column may hold images.
    pub fn reads(&self, column: &str) -> bool {
        match &self.column {
            Some(named) => named == column,
            None => COLUMNS.contains(&column),
        }
    }

    /// The images of a row, in the order in which its text has them.
    ///
    /// # Errors
    /// When something is no image, there are more or fewer than the text has places for, or one is on the
    /// Internet.
    pub fn of(
        &self,
        columns: &Map<String, Value>,
        content: &mut LanguageContent,
        place: &Place,
    ) -> Result<Vec<ImageSource>, DataError> {
        let named = columns
            .iter()
            .find(|(name, value)| self.reads(name) && !value.is_null());
        let mut images = match named {
            Some((name, value)) => images_of(value, name, place)?,
            None => Vec::new(),
        };
        let mut in_parts = Vec::new();
        let mut places = places_in(content);
        if let LanguageContent::Conversation { messages, .. } = content {
            let parts = messages.iter().filter_map(|message| message.parts.as_ref());
            for part in parts.flatten() {
                if let ContentPart::Image {
                    source: Some(source),
                } = part
                {
                    in_parts.push(image_of(source, "a part of a message", place)?);
                }
            }
            let is_of_trl = named.is_some_and(|(name, _)| name == COLUMNS[0]);
            if places == 0 && is_of_trl {
                places = images.len();
                put_in_front(content, places);
            }
        }
        if !in_parts.is_empty() {
            if !images.is_empty() || in_parts.len() != places {
                return Err(LanguageError::ImagesInTwoPlaces {
                    place: place.clone(),
                    places,
                    in_parts: in_parts.len(),
                    in_column: images.len(),
                }
                .into());
            }
            images = in_parts;
        }
        match images.len() == places {
            true => Ok(images),
            false => Err(LanguageError::ImageCount {
                place: place.clone(),
                places,
                images: images.len(),
            }
            .into()),
        }
    }
}

/// Puts places for images before the words of the first question.
pub(crate) fn put_in_front(content: &mut LanguageContent, images: usize) {
    if images == 0 {
        return;
    }
    let in_text = format!("{IMAGE_PLACEHOLDER}\n").repeat(images);
    match content {
        LanguageContent::Conversation { messages, .. } => {
            if let Some(asked) = messages.iter_mut().find(|message| message.role == "user") {
                let mut parts = vec![ContentPart::image(); images];
                parts.extend(asked.content.iter().map(ContentPart::text));
                asked.parts = Some(parts);
            }
        }
        LanguageContent::PromptCompletion { prompt, .. } => prompt.insert_str(0, &in_text),
        LanguageContent::MultipleChoice(question) => question.prompt.insert_str(0, &in_text),
        LanguageContent::Text(text) => text.insert_str(0, &in_text),
    }
}

/// How many images the text has places for.
pub(crate) fn places_in(content: &LanguageContent) -> usize {
    let in_text = |text: &str| text.matches(IMAGE_PLACEHOLDER).count();
    match content {
        LanguageContent::Conversation { messages, .. } => {
            let parts = messages.iter().filter_map(|message| message.parts.as_ref());
            parts.flatten().filter(|part| part.is_image()).count()
        }
        LanguageContent::PromptCompletion { prompt, .. } => in_text(prompt),
        LanguageContent::MultipleChoice(question) => in_text(&question.prompt),
        LanguageContent::Text(text) => in_text(text),
    }
}

fn images_of(value: &Value, column: &str, place: &Place) -> Result<Vec<ImageSource>, DataError> {
    match value {
        Value::Array(images) => images
            .iter()
            .map(|image| image_of(image, column, place))
            .collect(),
        one => Ok(vec![image_of(one, column, place)?]),
    }
}

/// The image that a cell says: its path or address, its bytes, or a structure with either.
///
/// # Errors
/// When it says none, or one on the Internet.
pub(crate) fn image_of(
    value: &Value,
    column: &str,
    place: &Place,
) -> Result<ImageSource, DataError> {
    let refused = |found: String| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "an image: its path, its bytes, or `bytes` and `path`",
        found,
    };
    match value {
        Value::String(text) if text.starts_with(DATA) => {
            let (_, encoded) = text.split_once(',').unwrap_or_default();
            let bytes = STANDARD.decode(encoded);
            let bytes = bytes.map_err(|_| refused("`data:` without base64".to_owned()))?;
            Ok(ImageSource::Bytes(bytes.into()))
        }
        Value::String(text) if text.contains("://") && !text.starts_with("file://") => {
            Err(LanguageError::RemoteImage {
                place: place.clone(),
                url: text.clone(),
            }
            .into())
        }
        Value::String(text) if text.trim().is_empty() => Err(refused("an empty text".to_owned())),
        Value::String(text) => {
            let path = text.strip_prefix("file://").unwrap_or(text);
            Ok(file_beside(&place.file, path))
        }
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
            match field("bytes").or_else(|| field("path")) {
                Some(found @ Value::String(_)) => image_of(found, column, place),
                Some(other) => Err(refused(format!("{} in its place", kind(other)))),
                None => Err(refused("neither bytes nor a path".to_owned())),
            }
        }
        other => Err(refused(kind(other).to_owned())),
    }
}

/// The bytes of an image as a text, in which a row holds them until it is read.
pub(crate) fn as_text(bytes: &[u8]) -> String {
    format!("{DATA},{}", STANDARD.encode(bytes))
}
