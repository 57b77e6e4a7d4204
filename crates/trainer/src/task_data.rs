//! From the rows of a split to the examples of a task.

use std::num::NonZeroUsize;

use eigenmix_data::DataLocation;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{
    DataConfig, DataError, ImageDataset, ImageRow, LabelPolicy, LanguageContent, LanguageEncoder,
    LanguageRow, Row, Split, TargetKind, Targets, TextTokenizer, draw_examples, draw_language_rows,
    read_image_split, read_language_split, read_split,
};
use eigenmix_images::ImagePreprocessor;
use eigenmix_models::Architecture;

use crate::config::TaskKind;
use crate::examples::{Continuation, Examples, LanguageData};
use crate::inputs::{CHANNELS, Inputs};
use crate::{BaseModel, TrainerError};

/// Reads the splits of a dataset for one model and one kind of task.
pub struct TaskData<'a> {
    base: &'a BaseModel,
    config: &'a DataConfig,
    location: DataLocation<'a>,
    /// Whether continuations are to be compared.
    exact_match: bool,
    reader: Reader,
}

enum Reader {
    Texts(TextTokenizer),
    Images(ImagePreprocessor),
    Language(TextTokenizer),
}

/// A split's examples and what should be said about them.
pub struct SplitData {
    pub examples: Examples,
    pub notes: Vec<String>,
}

impl<'a> TaskData<'a> {
    /// - metrics: what will be measured
    ///
    /// # Errors
    /// If the model is not for the task, or its tokenizer or preprocessor is missing or does not fit.
    pub fn new(
        base: &'a BaseModel,
        kind: TaskKind,
        config: &'a DataConfig,
        metrics: &[Metric],
    ) -> Result<Self, TrainerError> {
        let text = |base: &BaseModel| {
            let limit = base.max_length()?;
            match config.max_length > limit {
                true => Err(TrainerError::TooLong {
                    found: config.max_length,
                    limit,
                }),
                false => base.tokenizer(),
            }
        };
        let reader = match (kind, &base.architecture) {
            (
                TaskKind::SequenceClassification,
                Architecture::Encoder(_) | Architecture::Decoder(_),
            ) => Reader::Texts(text(base)?),
            (TaskKind::CausalLm, Architecture::Decoder(_)) => Reader::Language(text(base)?),
            (TaskKind::ImageClassification, Architecture::Vision(_)) => {
                Reader::Images(Self::preprocessor(base)?)
            }
            (kind, architecture) => {
                return Err(TrainerError::TaskModel {
                    task: kind.name(),
                    model: base.name.clone(),
                    found: architecture.kind(),
                });
            }
        };
        Ok(Self {
            base,
            config,
            location: DataLocation::open(config)?,
            exact_match: metrics.contains(&Metric::ExactMatch),
            reader,
        })
    }

    /// To read what a language model writes.
    pub fn into_tokenizer(self) -> Option<TextTokenizer> {
        match self.reader {
            Reader::Texts(tokenizer) | Reader::Language(tokenizer) => Some(tokenizer),
            Reader::Images(_) => None,
        }
    }

    pub fn tokenizer(&self) -> Option<&TextTokenizer> {
        match &self.reader {
            Reader::Texts(tokenizer) | Reader::Language(tokenizer) => Some(tokenizer),
            Reader::Images(_) => None,
        }
    }

    /// The training split, as far as the configuration draws from it, and what its labels are
    /// encoded as; a language model has none.
    ///
    /// # Errors
    /// If it can't be read, or a row is not as the configuration says.
    pub fn train(
        &self,
        kind: TargetKind,
        seed: u64,
    ) -> Result<(SplitData, Option<Targets>), TrainerError> {
        match &self.reader {
            Reader::Texts(tokenizer) => {
                let rows = self.text_rows(Split::Train)?;
                let targets = Targets::from_train(kind, &rows)?;
                let rows = draw_examples(rows, self.config, kind, seed)?;
                Ok((self.texts(tokenizer, &rows, &targets)?, Some(targets)))
            }
            Reader::Images(preprocessor) => {
                let (rows, notes) = self.image_rows(Split::Train)?;
                let targets = Targets::from_train(kind, &rows)?;
                let rows = draw_examples(rows, self.config, kind, seed)?;
                Ok((
                    self.images(preprocessor, rows, &targets, notes)?,
                    Some(targets),
                ))
            }
            Reader::Language(tokenizer) => {
                let (rows, notes) = self.language_rows(Split::Train)?;
                let rows = draw_language_rows(rows, self.config, seed)?;
                Ok((self.language(tokenizer, &rows, notes)?, None))
            }
        }
    }

    /// A split for an evaluation.
    ///
    /// - targets: what labels are encoded as; a language model needs none
    ///
    /// # Errors
    /// As [`TaskData::train`], and if `targets` are missing.
    pub fn split(
        &self,
        split: Split,
        targets: Option<&Targets>,
    ) -> Result<SplitData, TrainerError> {
        let targets = || targets.ok_or(TrainerError::NoHead);
        match &self.reader {
            Reader::Texts(tokenizer) => self.texts(tokenizer, &self.text_rows(split)?, targets()?),
            Reader::Images(preprocessor) => {
                let (rows, notes) = self.image_rows(split)?;
                self.images(preprocessor, rows, targets()?, notes)
            }
            Reader::Language(tokenizer) => {
                let (rows, notes) = self.language_rows(split)?;
                self.language(tokenizer, &rows, notes)
            }
        }
    }

    /// So many examples of a split, drawn by the seed; or all of them.
    ///
    /// # Errors
    /// As [`TaskData::split`].
    pub fn sample(
        &self,
        split: Split,
        targets: &Targets,
        most: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<SplitData, TrainerError> {
        let drawn = DataConfig {
            max_examples: most.map(NonZeroUsize::get),
            examples_per_class: None,
            ..self.config.clone()
        };
        let kind = TargetKind::Classification;
        match &self.reader {
            Reader::Texts(tokenizer) => {
                let rows = draw_examples(self.text_rows(split)?, &drawn, kind, seed)?;
                self.texts(tokenizer, &rows, targets)
            }
            Reader::Images(preprocessor) => {
                let (rows, notes) = self.image_rows(split)?;
                self.images(
                    preprocessor,
                    draw_examples(rows, &drawn, kind, seed)?,
                    targets,
                    notes,
                )
            }
            Reader::Language(tokenizer) => {
                let (rows, notes) = self.language_rows(split)?;
                self.language(tokenizer, &draw_language_rows(rows, &drawn, seed)?, notes)
            }
        }
    }

    /// A split, or nothing where there is no such split.
    ///
    /// # Errors
    /// As [`TaskData::split`].
    pub fn optional_split(
        &self,
        split: Split,
        targets: Option<&Targets>,
    ) -> Result<Option<SplitData>, TrainerError> {
        match self.split(split, targets) {
            Ok(found) => Ok(Some(found)),
            Err(TrainerError::Data(DataError::MissingSplit { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many outputs a head for the labels of the training split has; `None` where the data are not
    /// at hand, or have no labels.
    ///
    /// # Errors
    /// If the data are there and can't be read.
    pub fn count_labels(
        config: &DataConfig,
        kind: TaskKind,
        target: TargetKind,
    ) -> Result<Option<usize>, TrainerError> {
        let (split, policy) = (Split::Train, LabelPolicy::Required);
        let found = DataLocation::at_hand(config).and_then(|location| location.split(split));
        let config = match found {
            Ok(config) => config,
            Err(DataError::Hub(_) | DataError::NotADirectory { .. }) => return Ok(None),
            // Of the Hub the cache may have other splits.
            Err(DataError::MissingSplit { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (directory, config) = (config.directory(), config.as_ref());
        let targets = match kind {
            TaskKind::CausalLm => return Ok(None),
            TaskKind::SequenceClassification => {
                let rows = read_split(directory, split, config, policy)?;
                Targets::from_train(target, &rows)?
            }
            TaskKind::ImageClassification => {
                let found = read_image_split(directory, split, config, policy)?;
                Targets::from_train(target, &found.rows)?
            }
        };
        Ok(Some(targets.outputs()))
    }

    /// The model's own preprocessing, which must give images of the size that the model takes.
    ///
    /// # Errors
    /// If it is missing, malformed, or does not.
    pub fn preprocessor(base: &BaseModel) -> Result<ImagePreprocessor, TrainerError> {
        let preprocessor = ImagePreprocessor::from_dir(base.directory())?;
        if let Architecture::Vision(config) = &base.architecture {
            let (expected, found) = ([config.image_size; 2], preprocessor.size());
            if found != expected || config.channels != CHANNELS {
                return Err(TrainerError::ImageSize {
                    model: base.name.clone(),
                    expected,
                    channels: config.channels,
                    found,
                });
            }
        }
        Ok(preprocessor)
    }

    fn text_rows(&self, split: Split) -> Result<Vec<Row>, TrainerError> {
        let config = self.location.split(split)?;
        let rows = read_split(config.directory(), split, &config, LabelPolicy::Required);
        Ok(rows?)
    }

    fn texts(
        &self,
        tokenizer: &TextTokenizer,
        rows: &[Row],
        targets: &Targets,
    ) -> Result<SplitData, TrainerError> {
        let encodings = tokenizer.encode_all(rows, self.config.max_length)?;
        Ok(SplitData {
            examples: Examples::Labelled {
                inputs: Inputs::Texts(encodings),
                targets: targets.encode(rows)?,
            },
            notes: Vec::new(),
        })
    }

    fn image_rows(&self, split: Split) -> Result<(Vec<ImageRow>, Vec<String>), TrainerError> {
        let config = self.location.split(split)?;
        let policy = LabelPolicy::Required;
        let found = read_image_split(config.directory(), split, &config, policy)?;
        Ok((found.rows, found.notes))
    }

    fn images(
        &self,
        preprocessor: &ImagePreprocessor,
        rows: Vec<ImageRow>,
        targets: &Targets,
        notes: Vec<String>,
    ) -> Result<SplitData, TrainerError> {
        let targets = targets.encode(&rows)?;
        let inputs = Inputs::Images(ImageDataset::new(rows, preprocessor.clone()));
        Ok(SplitData {
            examples: Examples::Labelled { inputs, targets },
            notes,
        })
    }

    fn language_rows(&self, split: Split) -> Result<(Vec<LanguageRow>, Vec<String>), TrainerError> {
        let config = self.location.split(split)?;
        let found = read_language_split(config.directory(), split, &config)?;
        let mut notes = Vec::new();
        if found.tools_ignored > 0 {
            notes.push(format!(
                "{} rows of the {split} split describe tools, which no chat template is told of",
                found.tools_ignored
            ));
        }
        Ok((found.rows, notes))
    }

    fn language(
        &self,
        tokenizer: &TextTokenizer,
        rows: &[LanguageRow],
        mut notes: Vec<String>,
    ) -> Result<SplitData, TrainerError> {
        let encoder =
            LanguageEncoder::for_rows(tokenizer, self.base.directory(), self.config, rows)?;
        let encoded = encoder.encode_all(rows)?;
        if encoded.dropped > 0 {
            notes.push(format!(
                "{} of {} rows have nothing to predict within data.max_length and were left out",
                encoded.dropped,
                rows.len()
            ));
        }
        let is_question =
            |row: &LanguageRow| matches!(row.content, LanguageContent::MultipleChoice(_));
        let choices = match rows.iter().all(is_question) {
            true => encoder.all_choices(rows)?,
            false => Vec::new(),
        };
        let continuations = match self.exact_match {
            true => self.continuations(&encoder, rows)?,
            false => Vec::new(),
        };
        Ok(SplitData {
            examples: Examples::Language(LanguageData {
                examples: encoded.examples,
                choices,
                continuations,
            }),
            notes,
        })
    }
}

impl TaskData<'_> {
    /// What a model should write after each row's prompt, where there is one that leaves room for it.
    fn continuations(
        &self,
        encoder: &LanguageEncoder,
        rows: &[LanguageRow],
    ) -> Result<Vec<Continuation>, TrainerError> {
        let room = self.base.max_length()?;
        let mut continuations = Vec::with_capacity(rows.len());
        for row in rows {
            let expected = match &row.content {
                LanguageContent::PromptCompletion { completion, .. } => completion,
                LanguageContent::MultipleChoice(question) => &question.choices[question.answer],
                LanguageContent::Conversation { messages, .. } => match messages.last() {
                    Some(last) if last.role == "assistant" => &last.content,
                    _ => continue,
                },
                LanguageContent::Text(_) => continue,
            };
            let continuation = Continuation {
                prompt: encoder.prompt(row)?,
                expected: expected.clone(),
                expected_tokens: encoder.text_prompt(expected)?.len(),
            };
            if continuation.prompt.len() + continuation.expected_tokens < room {
                continuations.push(continuation);
            }
        }
        Ok(continuations)
    }
}
