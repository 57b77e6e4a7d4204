//! Reading texts for a language model.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use eigenmix_data::{
    DataConfig, DataLocation, Fold, InputContract, LanguageContent, LanguageEncoder,
    LanguageFormat, LanguageRow, LanguageRows, Place, Split, Targets, TextTokenizer, Unreadable,
    draw_rows, read_language_split, undecodable, unread_note,
};
use eigenmix_images::ImagePreprocessor;

use super::continuations::Continuations;
use super::example_images::{ExampleImages, images_of};
use super::examples::LanguageExamples;
use crate::tasks::{SplitData, TaskKind, TaskReader, TrainRequest};
use crate::{BaseModel, TrainerError};

/// Reads the splits of a dataset for a language model.
pub(in crate::tasks) struct LanguageReader<'a> {
    pub base: &'a BaseModel,
    pub config: Cow<'a, DataConfig>,
    pub location: DataLocation<'a>,
    pub task: TaskKind,
    /// Whether continuations are compared.
    pub compares: bool,
    pub tokenizer: TextTokenizer,
    /// How images are read, if texts may have any.
    pub images: Option<ImageReading>,
}

/// How the images of texts are read.
pub(in crate::tasks) struct ImageReading {
    pub preprocessor: ImagePreprocessor,
    pub unreadable: Unreadable,
}

/// What a split is read for.
#[derive(Clone, Copy)]
struct Reading {
    /// Whether continuations are compared.
    compares: bool,
    label_smoothing: f64,
}

impl TaskReader for LanguageReader<'_> {
    fn train(&self, request: &TrainRequest) -> Result<(SplitData, Option<Targets>), TrainerError> {
        let (mut found, mut notes) = self.rows(Split::Train)?;
        found.rows = draw_rows(found.rows, &self.config, request.seed)?;
        if let Some(fold) = self.config.fold {
            found.rows = fold.part_rows(found.rows, request.seed)?.kept;
        }
        // Continuations are compared in evaluations only.
        let reading = Reading {
            compares: false,
            label_smoothing: request.label_smoothing,
        };
        let found = self.readable(found, Split::Train, &mut notes)?;
        let split = self.examples(Split::Train, &found, reading, notes)?;
        Ok((split, None))
    }

    fn held_out(
        &self,
        fold: Fold,
        request: &TrainRequest,
        _targets: Option<&Targets>,
    ) -> Result<SplitData, TrainerError> {
        // What there is to say of the rows was said of those to train on.
        let (mut found, _) = self.rows(Split::Train)?;
        found.rows = draw_rows(found.rows, &self.config, request.seed)?;
        found.rows = fold.part_rows(found.rows, request.seed)?.held_out;
        let mut notes = Vec::new();
        let found = self.readable(found, Split::Validation, &mut notes)?;
        self.examples(Split::Validation, &found, self.evaluation(), notes)
    }

    fn split(&self, split: Split, _targets: Option<&Targets>) -> Result<SplitData, TrainerError> {
        let (found, mut notes) = self.rows(split)?;
        let found = self.readable(found, split, &mut notes)?;
        self.examples(split, &found, self.evaluation(), notes)
    }

    fn sample(
        &self,
        split: Split,
        _targets: &Targets,
        most: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<SplitData, TrainerError> {
        let drawn = self.config.drawing(most);
        let (mut found, mut notes) = self.rows(split)?;
        found.rows = draw_rows(found.rows, &drawn, seed)?;
        let found = self.readable(found, split, &mut notes)?;
        self.examples(split, &found, self.evaluation(), notes)
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        Some(&self.tokenizer)
    }

    fn into_tokenizer(self: Box<Self>) -> Option<TextTokenizer> {
        Some(self.tokenizer)
    }
}

impl LanguageReader<'_> {
    fn rows(&self, split: Split) -> Result<(LanguageRows, Vec<String>), TrainerError> {
        let mut config = self.location.split(split)?;
        config.to_mut().takes_images = self.images.is_some();
        let found = read_language_split(config.directory(), split, &config)?;
        let mut notes = Vec::new();
        let rows = found.rows.len();
        notes.extend(unread_note(
            &found.unread,
            split,
            rows,
            "data.columns names",
        ));
        Ok((found, notes))
    }

    /// The rows whose images can be decoded. All are decoded once here, so that a training does not end
    /// in the middle of an epoch.
    ///
    /// # Errors
    /// If one cannot be, unless such rows are to be left out; if nothing is left.
    fn readable(
        &self,
        mut found: LanguageRows,
        split: Split,
        notes: &mut Vec<String>,
    ) -> Result<LanguageRows, TrainerError> {
        let Some(images) = &self.images else {
            return Ok(found);
        };
        let all = images_of(&found.rows);
        let bad = undecodable(&all);
        let places: Vec<Place> = bad.iter().map(|(at, _)| all[*at].place.clone()).collect();
        let Some((_, first)) = bad.into_iter().next() else {
            return Ok(found);
        };
        let rows = found.rows.len();
        found.rows.retain(|row| !places.contains(&row.place));
        if images.unreadable == Unreadable::Error || found.rows.is_empty() {
            return Err(first.into());
        }
        notes.push(format!(
            "{} of {rows} rows of the {split} split have images that cannot be read and are left out, the \
             first at {}",
            rows - found.rows.len(),
            places[0]
        ));
        Ok(found)
    }

    fn evaluation(&self) -> Reading {
        Reading {
            compares: self.compares,
            label_smoothing: 0.0,
        }
    }

    fn examples(
        &self,
        split: Split,
        found: &LanguageRows,
        reading: Reading,
        mut notes: Vec<String>,
    ) -> Result<SplitData, TrainerError> {
        let rows = &found.rows;
        let templates = self.base.template_directory();
        let mut encoder =
            LanguageEncoder::for_rows(&self.tokenizer, templates, &self.config, rows)?;
        if let Some(tokens) = self.base.architecture.image_tokens() {
            encoder = encoder.with_images(tokens.token, tokens.per_image)?;
        }
        let encoded = encoder.encode_all(rows)?;
        if encoded.unanswered > 0 {
            notes.push(format!(
                "{} of {} rows of the {split} split have no message of role `assistant` to learn \
                 and were left out; their roles are `{}`",
                encoded.unanswered,
                rows.len(),
                encoded.unanswered_roles.join("`, `")
            ));
        }
        let too_long = encoded.dropped - encoded.unanswered;
        if too_long > 0 {
            notes.push(format!(
                "{too_long} of {} rows of the {split} split have nothing to predict within \
                 data.max_length and were left out",
                rows.len()
            ));
        }
        let is_question =
            |row: &LanguageRow| matches!(row.content, LanguageContent::MultipleChoice(_));
        let choices = match rows.iter().all(is_question) {
            true => encoder.all_choices(rows)?,
            false => Vec::new(),
        };
        let mut continuations = Vec::new();
        if reading.compares {
            let room = self.base.max_length()?;
            let found = Continuations::of(&encoder, rows, room)?;
            notes.extend(found.note(split, rows.len(), room));
            continuations = found.compared;
        }
        let images = match (&self.images, encoder.images()) {
            (Some(images), Some(text)) => Some(ExampleImages::new(
                rows,
                images.preprocessor.clone(),
                text.clone(),
            )),
            _ => None,
        };
        Ok(SplitData {
            examples: Box::new(LanguageExamples {
                examples: encoded.examples,
                rows: encoded.rows,
                images,
                choices,
                continuations,
                stop: encoder.stop_ids()?,
                label_smoothing: reading.label_smoothing,
            }),
            notes,
            input: self.contract(&encoder, found.format),
            chat_template: encoder.template_source().map(str::to_owned),
        })
    }

    fn contract(&self, encoder: &LanguageEncoder, format: Option<LanguageFormat>) -> InputContract {
        let config = &self.config;
        let of_text = format == Some(LanguageFormat::Text);
        InputContract {
            task: self.task.name().to_owned(),
            image: (config.image != DataConfig::new("").image).then(|| config.image.clone()),
            text: of_text.then(|| config.text.clone()),
            max_length: Some(config.max_length),
            format,
            columns: config.columns.clone(),
            train_on: Some(config.train_on),
            prompt_template: config.prompt_template.clone(),
            chat_template: encoder
                .template_source()
                .map(|_| InputContract::CHAT_TEMPLATE.into()),
            ..InputContract::default()
        }
    }
}
