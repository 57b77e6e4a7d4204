//! Lines and rows as prompts of a language model.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use eigenmix_data::{
    ChatTemplate, DataConfig, ImageDataset, ImageRow, ImageSource, LanguageContent,
    LanguageEncoder, LanguageFormat, LanguageRow, Message, Place, TextTokenizer, prompt_of_line,
};
use eigenmix_experiment::BadInput;
use eigenmix_images::ImagePreprocessor;
use eigenmix_models::ImageBatch;
use eigenmix_trainer::{BaseModel, Prompt, image_processor};

use crate::cli::PredictArguments;

/// The maximum number of new tokens if none is given.
const MAX_NEW_TOKENS: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

/// What turns lines and rows into prompts in tokens.
pub(super) struct Prompts<'a> {
    encoder: LanguageEncoder<'a>,
    /// Where the chat template is looked for.
    template_directory: &'a Path,
    tokenizer: &'a TextTokenizer,
    /// How rows are read.
    config: DataConfig,
    /// The form of lines, which have no columns to tell it by.
    of_lines: Option<LanguageFormat>,
    /// The maximum number of tokens of prompt and continuation together.
    room: usize,
    max_new_tokens: NonZeroUsize,
    system: Option<&'a str>,
    /// What prepares images, of a model that reads any.
    preprocessor: Option<ImagePreprocessor>,
    /// The images of every line.
    images: &'a [PathBuf],
}

impl<'a> Prompts<'a> {
    /// # Errors
    /// If a chat template is needed and there is none.
    pub(super) fn new(
        base: &'a BaseModel,
        tokenizer: &'a TextTokenizer,
        config: &DataConfig,
        arguments: &'a PredictArguments,
    ) -> anyhow::Result<Self> {
        let mut config = config.clone();
        if arguments.chat {
            config.format = Some(LanguageFormat::Messages);
        }
        if arguments.raw {
            config.format = Some(LanguageFormat::Text);
        }
        let tokens = base.architecture.image_tokens();
        // A line about an image is what a user says, unless it is to be taken as it stands.
        let of_lines = match config.format {
            None if tokens.is_some() => Some(LanguageFormat::Messages),
            format => format,
        };
        let is_chat = of_lines == Some(LanguageFormat::Messages);
        if !is_chat && let Some(system) = &arguments.system {
            return Err(BadInput(format!(
                "--system {system:?} needs a conversation; give --chat, which applies the chat \
                 template"
            ))
            .into());
        }
        let template = config.chat_template.as_deref();
        let template = match ChatTemplate::load(base.template_directory(), template) {
            Ok(template) => Some(template),
            // Rows may be conversations whatever the lines are; they are refused with the error.
            Err(error) if is_chat && config.format.is_some() => return Err(error.into()),
            Err(_) => None,
        };
        let mut encoder = LanguageEncoder::new(tokenizer, template, &config)?;
        let mut preprocessor = None;
        if let Some(tokens) = tokens {
            encoder = encoder.with_images(tokens.token, tokens.per_image)?;
            preprocessor = Some(image_processor(base)?);
        }
        Ok(Self {
            encoder,
            preprocessor,
            images: &arguments.image,
            template_directory: base.template_directory(),
            tokenizer,
            config,
            of_lines,
            room: base.max_length()?,
            max_new_tokens: arguments.max_new_tokens.unwrap_or(MAX_NEW_TOKENS),
            system: arguments.system.as_deref(),
        })
    }

    pub(super) fn tokenizer(&self) -> &'a TextTokenizer {
        self.tokenizer
    }

    pub(super) fn config(&self) -> &DataConfig {
        &self.config
    }

    /// The tokens that end an answer to such a prompt: of conversations also what ends a turn.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(super) fn stop_ids(&self) -> anyhow::Result<Vec<u32>> {
        match self.config.format {
            Some(LanguageFormat::Messages) | None => Ok(self.encoder.stop_ids()?),
            Some(_) => Ok(self.tokenizer.stop_ids().to_vec()),
        }
    }

    /// The prompt that a line is, in the form of the training.
    ///
    /// # Errors
    /// As [`Prompts::of_row`], and if the form needs more than a line.
    pub(super) fn of_line(&self, line: &str, place: Place) -> anyhow::Result<Prompt> {
        let config = DataConfig {
            format: self.of_lines,
            ..self.config.clone()
        };
        let mut row = prompt_of_line(line, place, &config)?;
        if self.preprocessor.is_some() {
            let images = self.images.iter().cloned().map(ImageSource::File);
            row.bring_images(images.collect())?;
        }
        self.of_row(&row)
    }

    /// The images of a row that are in its prompt, prepared: not those of the answer.
    fn prepared(&self, row: &LanguageRow, prompt: &[u32]) -> anyhow::Result<Option<ImageBatch>> {
        let count = self.encoder.images();
        let count = count.map_or(0, |images| images.images(prompt));
        let Some(preprocessor) = self.preprocessor.as_ref().filter(|_| count > 0) else {
            return Ok(None);
        };
        let images = row.images.iter().take(count).map(|source| ImageRow {
            source: source.clone(),
            label: None,
            place: row.place.clone(),
        });
        let dataset = ImageDataset::new(images.collect(), preprocessor.clone());
        let all: Vec<usize> = (0..count).collect();
        let pixels = dataset.load_batch(&all, None)?;
        let [height, _] = preprocessor.size();
        Ok(Some(ImageBatch::new(pixels, [all.len(), 3, height])))
    }

    /// # Errors
    /// If the row is a conversation and there is no usable chat template, it is empty and the tokenizer has nothing to begin with, or the prompt leaves no room
    /// for the continuation.
    pub(super) fn of_row(&self, row: &LanguageRow) -> anyhow::Result<Prompt> {
        let place = &row.place;
        if row.is_conversation() && self.encoder.template_source().is_none() {
            let file = self.config.chat_template.as_deref();
            ChatTemplate::load(self.template_directory, file)?;
        }
        let mut prompt = match (&row.content, self.system) {
            (LanguageContent::Conversation { messages, .. }, Some(system))
                if messages.first().is_none_or(|first| first.role != "system") =>
            {
                let mut row = row.clone();
                if let LanguageContent::Conversation { messages, .. } = &mut row.content {
                    messages.insert(0, Message::new("system", system));
                }
                self.encoder.prompt(&row)?
            }
            (LanguageContent::Conversation { .. }, _) | (_, None) => self.encoder.prompt(row)?,
            (_, Some(system)) => {
                return Err(BadInput(format!(
                    "{place}: --system {system:?} needs a conversation, and the row is none; leave it out, \
                     or write it into the prompt"
                ))
                .into());
            }
        };
        if prompt.is_empty() {
            // A model without a token of its own for it begins a text after the end of another.
            let first = self.tokenizer.bos_id().or(self.tokenizer.eos_id());
            prompt.push(first.ok_or_else(|| {
                BadInput(format!(
                    "{place} is empty, and the tokenizer has no beginning-of-text token; write a prompt or remove the line"
                ))
            })?);
        }
        let wanted = self.max_new_tokens.get();
        if prompt.len() + wanted > self.room {
            let advice = match self.room.saturating_sub(prompt.len()) {
                0 => "shorten the prompt".to_owned(),
                room => format!("shorten the prompt, or give --max-new-tokens {room}"),
            };
            return Err(BadInput(format!(
                "{place}: the prompt's {} tokens and --max-new-tokens {wanted} exceed the model's {} positions; {advice}",
                prompt.len(),
                self.room,
            ))
            .into());
        }
        Ok(Prompt {
            images: self.prepared(row, &prompt)?,
            tokens: prompt,
            max_new_tokens: self.max_new_tokens,
        })
    }
}
