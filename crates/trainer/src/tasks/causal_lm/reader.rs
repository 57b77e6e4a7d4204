//! Reading texts for a language model.

use std::num::NonZeroUsize;

use eigenmix_data::{
    DataConfig, DataLocation, Fold, InputContract, LanguageContent, LanguageEncoder,
    LanguageFormat, LanguageRow, LanguageRows, Split, Targets, TextTokenizer, draw_language_rows,
    read_language_split, unread_note,
};

use super::CausalLm;
use super::continuations::Continuations;
use super::examples::LanguageExamples;
use crate::tasks::{SplitData, Task, TaskReader, TrainRequest};
use crate::{BaseModel, TrainerError};

/// Reads the splits of a dataset for a language model.
pub(super) struct LanguageReader<'a> {
    pub base: &'a BaseModel,
    pub config: &'a DataConfig,
    pub location: DataLocation<'a>,
    /// Whether continuations are compared.
    pub exact_match: bool,
    pub tokenizer: TextTokenizer,
}

/// What a split is read for.
#[derive(Clone, Copy)]
struct Reading {
    /// Whether continuations are compared.
    exact_match: bool,
    label_smoothing: f64,
}

impl TaskReader for LanguageReader<'_> {
    fn train(&self, request: &TrainRequest) -> Result<(SplitData, Option<Targets>), TrainerError> {
        let (mut found, notes) = self.rows(Split::Train)?;
        found.rows = draw_language_rows(found.rows, self.config, request.seed)?;
        if let Some(fold) = self.config.fold {
            found.rows = fold.part_language(found.rows, request.seed)?.kept;
        }
        // Continuations are compared in evaluations only.
        let reading = Reading {
            exact_match: false,
            label_smoothing: request.label_smoothing,
        };
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
        found.rows = draw_language_rows(found.rows, self.config, request.seed)?;
        found.rows = fold.part_language(found.rows, request.seed)?.held_out;
        self.examples(Split::Validation, &found, self.evaluation(), Vec::new())
    }

    fn split(&self, split: Split, _targets: Option<&Targets>) -> Result<SplitData, TrainerError> {
        let (found, notes) = self.rows(split)?;
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
        let (mut found, notes) = self.rows(split)?;
        found.rows = draw_language_rows(found.rows, &drawn, seed)?;
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
        let config = self.location.split(split)?;
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

    fn evaluation(&self) -> Reading {
        Reading {
            exact_match: self.exact_match,
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
        let encoder = LanguageEncoder::for_rows(&self.tokenizer, templates, self.config, rows)?;
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
        if reading.exact_match {
            let room = self.base.max_length()?;
            let found = Continuations::of(&encoder, rows, room)?;
            notes.extend(found.note(split, rows.len(), room));
            continuations = found.compared;
        }
        Ok(SplitData {
            examples: Box::new(LanguageExamples {
                examples: encoded.examples,
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
        let config = self.config;
        let of_text = format == Some(LanguageFormat::Text);
        InputContract {
            task: CausalLm.name().to_owned(),
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
