//! The tokens that stand for images in a text.

use crate::chat_template::ChatTemplate;
use crate::content_part::{ContentPart, IMAGE_PLACEHOLDER};
use crate::error::DataError;
use crate::language_error::LanguageError;
use crate::language_row::{LanguageContent, LanguageRow};
use crate::message::Message;
use crate::tokenization::TextTokenizer;

/// How a vision-language model wants images in its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageText {
    /// The token in whose places the features of images stand.
    pub token: u32,
    /// How many of them an image takes.
    pub per_image: usize,
    /// The token as a text has it, once for each image.
    word: String,
    /// Whether the chat template writes images itself, from the parts of messages.
    takes_parts: bool,
}

impl ImageText {
    /// - template: that of conversations, if they are read
    ///
    /// # Errors
    /// When the tokenizer does not know the token.
    pub(crate) fn new(
        token: u32,
        per_image: usize,
        tokenizer: &TextTokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Self, DataError> {
        let word = tokenizer.word(token);
        let word = word.ok_or(LanguageError::NoImageToken { token })?;
        Ok(Self {
            takes_parts: template.is_some_and(|template| writes_images(template, &word)),
            token,
            per_image,
            word,
        })
    }

    /// A text with the model's own word for an image.
    pub(crate) fn text(&self, text: &str) -> String {
        text.replace(IMAGE_PLACEHOLDER, &self.word)
    }

    /// How many images a text has.
    pub(crate) fn images_in(&self, text: &str) -> usize {
        text.matches(&self.word).count()
    }

    /// Refuses a row whose text has more or fewer places for images than the row brings: its features would
    /// stand in the places of another row's.
    ///
    /// # Errors
    /// If so, or if an answer that the model is to learn as it stands has such a place.
    pub(crate) fn check(&self, row: &LanguageRow) -> Result<(), LanguageError> {
        let in_text = |text: &str| self.images_in(&self.text(text));
        let (places, answers) = match &row.content {
            LanguageContent::Conversation { messages, .. } => {
                (messages.iter().map(|one| self.places_in(one)).sum(), 0)
            }
            LanguageContent::PromptCompletion { prompt, completion } => {
                (in_text(prompt), in_text(completion))
            }
            LanguageContent::MultipleChoice(question) => (
                in_text(&question.prompt),
                question.choices.iter().map(|choice| in_text(choice)).sum(),
            ),
            LanguageContent::Text(text) => (in_text(text), 0),
        };
        let place = || row.place.clone();
        if answers > 0 {
            return Err(LanguageError::ImageInAnswer { place: place() });
        }
        match row.images.len() {
            images if images == places => Ok(()),
            images => Err(LanguageError::ImageCount {
                place: place(),
                places,
                images,
            }),
        }
    }

    /// How many images a message has places for, in parts and in words.
    fn places_in(&self, message: &Message) -> usize {
        let Some(parts) = &message.parts else {
            let content = message.content.as_deref();
            return content.map_or(0, |words| self.images_in(words));
        };
        let of_part = |part: &ContentPart| match part {
            ContentPart::Text { text } => self.images_in(text),
            ContentPart::Image { .. } => 1,
        };
        parts.iter().map(of_part).sum()
    }

    /// Messages in the form that the template takes.
    pub(crate) fn messages(&self, messages: &[Message]) -> Vec<Message> {
        let in_form = |message: &Message| {
            let mut message = message.clone();
            match (self.takes_parts, &message.parts, &message.content) {
                (true, None, Some(content)) => {
                    message.parts = Some(vec![ContentPart::text(content)]);
                }
                (false, Some(parts), _) => {
                    message.content = Some(self.written(parts));
                    message.parts = None;
                }
                _ => {}
            }
            message
        };
        messages.iter().map(in_form).collect()
    }

    /// Parts as words, each image on a line of its own, as LLaVA's data have it.
    fn written(&self, parts: &[ContentPart]) -> String {
        let mut words = String::new();
        for (index, part) in parts.iter().enumerate() {
            match part {
                ContentPart::Text { text } => words += text,
                ContentPart::Image { .. } => {
                    words += &self.word;
                    if index + 1 < parts.len() {
                        words.push('\n');
                    }
                }
            }
        }
        words
    }

    /// Each image token as many times as an image has features; none of them is learnt.
    pub(crate) fn expand(&self, ids: &[u32], trained: &[bool]) -> (Vec<u32>, Vec<bool>) {
        let count = |id: u32| if id == self.token { self.per_image } else { 1 };
        let pairs = ids.iter().zip(trained).flat_map(|(&id, &trained)| {
            std::iter::repeat_n((id, trained && id != self.token), count(id))
        });
        pairs.unzip()
    }

    /// The most of the first tokens that are no more than `most` and hold whole images only.
    pub(crate) fn whole(&self, ids: &[u32], most: usize) -> usize {
        if ids.len() <= most {
            return ids.len();
        }
        let images = ids[..most].iter().filter(|&&id| id == self.token).count();
        match images % self.per_image {
            0 => most,
            begun => {
                // The image that is cut begins that many image tokens before, with nothing between.
                most - begun
            }
        }
    }

    /// How many images the tokens of a text have.
    pub fn images(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|&&id| id == self.token).count() / self.per_image
    }
}

/// Whether a chat template writes an image for a part of a message.
fn writes_images(template: &ChatTemplate, word: &str) -> bool {
    const QUESTION: &str = "Is it a boat?";
    let message = Message {
        parts: Some(vec![ContentPart::image(), ContentPart::text(QUESTION)]),
        ..Message::new("user", QUESTION)
    };
    let rendered = template.render(&[message], &[], true);
    rendered.is_ok_and(|text| text.matches(word).count() == 1 && text.contains(QUESTION))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::images::ImageSource;
    use crate::row::Place;

    fn images() -> ImageText {
        ImageText {
            token: 9,
            per_image: 3,
            word: "<image>".to_owned(),
            takes_parts: false,
        }
    }

    #[test]
    fn an_image_takes_as_many_tokens_as_it_has_features_and_none_is_learnt() {
        let (ids, trained) = images().expand(&[1, 9, 2], &[false, true, true]);
        assert_eq!(ids, [1, 9, 9, 9, 2]);
        assert_eq!(trained, [false, false, false, false, true]);
        assert_eq!(images().images(&ids), 1);
    }

    #[test]
    fn a_cut_leaves_whole_images() {
        let ids = [1, 9, 9, 9, 2, 9, 9, 9, 3];
        for (most, kept) in [
            (9, 9),
            (12, 9),
            (8, 8),
            (7, 5),
            (6, 5),
            (5, 5),
            (4, 4),
            (3, 1),
        ] {
            assert_eq!(images().whole(&ids, most), kept, "{most}");
        }
    }

    #[test]
    fn a_row_has_to_bring_as_many_images_as_its_text_has_places() {
        let place = || Place {
            file: Path::new("rows.jsonl").into(),
            line: 2,
        };
        let row = |content: LanguageContent, images: usize| LanguageRow {
            images: vec![ImageSource::File("a.png".into()); images],
            ..LanguageRow::new(content, place())
        };
        let pair = |prompt: &str, completion: &str| LanguageContent::PromptCompletion {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
        };
        let two = row(pair("<image> and <image>", "x"), 2);
        assert!(images().check(&two).is_ok());
        for (content, brought, expected) in [
            (pair("<image>", "x"), 2, "places for 1 images"),
            (pair("none", "x"), 1, "places for 0 images"),
            (
                pair("<image>", "an <image>"),
                1,
                "the answer has a place for an image",
            ),
            (
                LanguageContent::Text("<image>".to_owned()),
                0,
                "places for 1 images",
            ),
        ] {
            let message = images()
                .check(&row(content, brought))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
        // A model's own word for an image counts where a row's is another.
        let of_other_word = ImageText {
            word: "<|picture|>".to_owned(),
            ..images()
        };
        let text = LanguageContent::Text("<|picture|>".to_owned());
        assert!(of_other_word.check(&row(text.clone(), 0)).is_err());
        assert!(of_other_word.check(&row(text, 1)).is_ok());
        let said = LanguageContent::Conversation {
            messages: vec![Message::new("user", "<image> here")],
            tools: Vec::new(),
            completion_start: 0,
        };
        assert!(images().check(&row(said.clone(), 0)).is_err());
        assert!(images().check(&row(said, 1)).is_ok());
    }

    #[test]
    fn a_template_of_words_gets_an_image_on_a_line_of_its_own() {
        let message = Message {
            parts: Some(vec![ContentPart::image(), ContentPart::text("What is it?")]),
            ..Message::new("user", "What is it?")
        };
        let found = images().messages(&[message]);
        assert_eq!(found, [Message::new("user", "<image>\nWhat is it?")]);
    }
}
