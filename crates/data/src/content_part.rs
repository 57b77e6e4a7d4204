//! The parts of a message: words, and images between them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::jsonl::kind;

/// What stands for an image in the words of LLaVA's data.
pub const IMAGE_PLACEHOLDER: &str = "<image>";

/// A part of what is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ContentPart {
    Text {
        text: String,
    },
    Image {
        /// What the part says of where the image is, if it says so.
        #[serde(skip)]
        source: Option<Value>,
    },
}

impl ContentPart {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// An image that is named elsewhere.
    pub(crate) fn image() -> Self {
        Self::Image { source: None }
    }

    pub(crate) fn is_image(&self) -> bool {
        matches!(self, Self::Image { .. })
    }
}

/// Reads a list of parts: strings, `{"type": "text", "text": …}`, `{"type": "image"}` (perhaps with
/// `image`, `path` or `url`), or `{"type": "image_url", "image_url": {"url": …}}`.
///
/// # Errors
/// What there is instead, in words.
pub(crate) fn parts_of(parts: &[Value]) -> Result<Vec<ContentPart>, String> {
    if parts.is_empty() {
        return Err("an empty list".to_owned());
    }
    let mut read = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Value::String(text) => read.push(ContentPart::text(text)),
            Value::Object(fields) => read.push(part_of(fields)?),
            other => return Err(format!("a part that is {}", kind(other))),
        }
    }
    Ok(read)
}

fn part_of(fields: &Map<String, Value>) -> Result<ContentPart, String> {
    // Columns of lists of structures have every key, null where there is nothing.
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let text = || match field("text") {
        Some(Value::String(text)) => Ok(ContentPart::text(text)),
        Some(other) => Err(format!("a part whose `text` is {}", kind(other))),
        None => Err("a part without `text`".to_owned()),
    };
    match field("type").map(|name| name.as_str().unwrap_or("")) {
        None | Some("text") => text(),
        Some("image") => {
            let named = ["image", "path", "url", "base64"];
            let source = named.into_iter().find_map(field);
            Ok(ContentPart::Image {
                source: source.cloned(),
            })
        }
        Some("image_url") => {
            let url = field("image_url").map(|found| found.get("url").unwrap_or(found));
            match url {
                Some(url) => Ok(ContentPart::Image {
                    source: Some(url.clone()),
                }),
                None => Err("a part of type `image_url` without one".to_owned()),
            }
        }
        Some(other) => Err(format!("a part of type `{other}`")),
    }
}

/// Words with [`IMAGE_PLACEHOLDER`] in them as parts, without the line breaks beside the placeholders;
/// `None` where there is none.
pub(crate) fn split_at_images(words: &str) -> Option<Vec<ContentPart>> {
    if !words.contains(IMAGE_PLACEHOLDER) {
        return None;
    }
    let mut parts = Vec::new();
    for (place, piece) in words.split(IMAGE_PLACEHOLDER).enumerate() {
        if place > 0 {
            parts.push(ContentPart::image());
        }
        let piece = piece.trim_matches('\n');
        if !piece.is_empty() {
            parts.push(ContentPart::text(piece));
        }
    }
    Some(parts)
}

/// The words of the parts, one after the other.
pub(crate) fn words_of(parts: &[ContentPart]) -> String {
    let words = parts.iter().filter_map(|part| match part {
        ContentPart::Text { text } => Some(text.as_str()),
        ContentPart::Image { .. } => None,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_in_words_are_parts() {
        let image = ContentPart::image;
        let text = |text: &str| ContentPart::text(text);
        for (words, expected) in [
            ("<image>\nWhat is it?", vec![image(), text("What is it?")]),
            ("What is it?\n<image>", vec![text("What is it?"), image()]),
            (
                "<image>\n<image>\nBoth?",
                vec![image(), image(), text("Both?")],
            ),
            (
                "Is <image> as <image>?",
                vec![text("Is "), image(), text(" as "), image(), text("?")],
            ),
        ] {
            assert_eq!(split_at_images(words), Some(expected), "{words}");
        }
        assert_eq!(split_at_images("What is it?"), None);
    }

    #[test]
    fn parts_of_every_spelling_are_read_and_others_named() {
        let parts = json!([
            {"type": "image", "text": null},
            {"type": "image", "image": "a.png"},
            {"type": "image_url", "image_url": {"url": "b.png"}},
            {"type": "text", "text": "Look.", "image": null},
            "There.",
        ]);
        let named = |name: &str| ContentPart::Image {
            source: Some(json!(name)),
        };
        let expected = [
            ContentPart::image(),
            named("a.png"),
            named("b.png"),
            ContentPart::text("Look."),
            ContentPart::text("There."),
        ];
        let parts = parts.as_array().expect("a list");
        assert_eq!(parts_of(parts).unwrap(), expected);
        assert_eq!(words_of(&expected), "Look.There.");
        for (part, expected) in [
            (json!({"type": "video"}), "a part of type `video`"),
            (json!({"type": "text"}), "a part without `text`"),
            (json!(3), "a part that is a number"),
        ] {
            assert_eq!(parts_of(&[part]).unwrap_err(), expected);
        }
    }
}
