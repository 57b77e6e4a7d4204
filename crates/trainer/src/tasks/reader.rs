//! Reading the splits of a dataset for one task and one model.

use std::num::NonZeroUsize;

use eigenmix_data::{DataError, Fold, InputContract, Split, Targets, TextTokenizer};

use super::Examples;
use crate::{TaskConfig, TrainConfig, TrainerError};

/// A split's examples and notes about them.
pub struct SplitData {
    pub examples: Box<dyn Examples>,
    pub notes: Vec<String>,
    /// How its rows became examples.
    pub input: InputContract,
    /// The chat template that they went through, if they are conversations.
    pub chat_template: Option<String>,
}

/// What a dataset has of a split.
pub enum FoundSplit {
    Examples(Box<SplitData>),
    /// There is no such split.
    Missing,
    /// Its labels are hidden; a note that says so.
    Hidden(String),
}

impl SplitData {
    /// What to say of examples that were longer than the configuration allows.
    pub fn cut(&self, split: Split) -> Option<String> {
        let cut = self.examples.truncated();
        let length = self.input.max_length.filter(|_| cut > 0)?;
        Some(format!(
            "{cut} of the {} examples of the {split} split were cut at data.max_length = {length}",
            self.examples.len()
        ))
    }
}

/// How a training wants its split: what labels are, how its loss weighs them, and the seed of draws.
#[derive(Clone, Copy)]
pub struct TrainRequest<'a> {
    pub task: &'a TaskConfig,
    pub label_smoothing: f64,
    pub seed: u64,
}

impl<'a> From<&'a TrainConfig> for TrainRequest<'a> {
    fn from(config: &'a TrainConfig) -> Self {
        Self {
            task: &config.task,
            label_smoothing: config.training.label_smoothing,
            seed: config.seed,
        }
    }
}

/// Reads the splits of a dataset for one model and one kind of task.
pub trait TaskReader {
    /// The training split, or the sample of it that the configuration asks for without the fold that
    /// it holds out, and how its labels are encoded; `None` if there are no labels.
    ///
    /// # Errors
    /// If it can't be read, or a row is not as the configuration says.
    fn train(&self, request: &TrainRequest) -> Result<(SplitData, Option<Targets>), TrainerError>;

    /// The fold of that sample that is held out to measure on.
    ///
    /// # Errors
    /// As [`TaskReader::train`], and if `targets` are needed and missing.
    fn held_out(
        &self,
        fold: Fold,
        request: &TrainRequest,
        targets: Option<&Targets>,
    ) -> Result<SplitData, TrainerError>;

    /// A split for an evaluation.
    ///
    /// - targets: how labels are encoded, if there are labels
    ///
    /// # Errors
    /// As [`TaskReader::train`], and if `targets` are needed and missing.
    fn split(&self, split: Split, targets: Option<&Targets>) -> Result<SplitData, TrainerError>;

    /// This many examples of a split, drawn with the seed, or all of them.
    ///
    /// # Errors
    /// As [`TaskReader::split`].
    fn sample(
        &self,
        split: Split,
        targets: &Targets,
        most: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<SplitData, TrainerError>;

    /// The tokenizer, if texts are read.
    fn tokenizer(&self) -> Option<&TextTokenizer>;

    /// The same, to decode what a language model generates.
    fn into_tokenizer(self: Box<Self>) -> Option<TextTokenizer>;

    /// A split if there is one to measure on.
    ///
    /// # Errors
    /// As [`TaskReader::split`].
    fn find_split(
        &self,
        split: Split,
        targets: Option<&Targets>,
    ) -> Result<FoundSplit, TrainerError> {
        match self.split(split, targets) {
            Ok(found) => Ok(FoundSplit::Examples(Box::new(found))),
            Err(TrainerError::Data(DataError::MissingSplit { .. })) => Ok(FoundSplit::Missing),
            Err(TrainerError::Data(DataError::HiddenLabels { split, rows })) => {
                Ok(FoundSplit::Hidden(format!(
                    "the {split} split is left out: its labels are hidden, -1 in all {rows} rows; \
                     name the other splits in data.files to do without it and this note"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// A split, or nothing where there is no such split or its labels are hidden, which a note says.
    ///
    /// # Errors
    /// As [`TaskReader::split`].
    fn optional_split(
        &self,
        split: Split,
        targets: Option<&Targets>,
        notes: &mut Vec<String>,
    ) -> Result<Option<SplitData>, TrainerError> {
        Ok(match self.find_split(split, targets)? {
            FoundSplit::Examples(found) => Some(*found),
            FoundSplit::Missing => None,
            FoundSplit::Hidden(note) => {
                notes.push(note);
                None
            }
        })
    }
}
