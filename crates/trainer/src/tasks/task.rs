//! The definition of a kind of task.

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, Split, TargetKind};
use eigenmix_models::{Architecture, HeadKind};

use super::{LineReader, Survey, TaskReader};
use crate::{BaseModel, TrainerError};

/// A kind of task: its models, data and head.
pub trait Task: Sync {
    /// The name in configurations.
    fn name(&self) -> &'static str;

    /// PEFT's name for it, if there is one.
    fn peft_name(&self) -> Option<&'static str> {
        None
    }

    /// The keys of `[data]` that it reads, of those that not all tasks read.
    fn settings(&self) -> &'static [&'static str];

    /// Which models it is for, as a clause of the error message for others.
    fn models(&self) -> &'static str;

    /// Whether a model of this architecture can do it.
    fn fits(&self, architecture: &Architecture) -> bool;

    /// Whether a model with such a head does this task.
    fn is_of_head(&self, head: HeadKind) -> bool;

    /// The head that it needs.
    ///
    /// - labels: the number of outputs, if there are labels
    /// - from_prompts: whether the head comes from prompts
    fn head(&self, labels: usize, from_prompts: bool) -> HeadKind;

    /// Whether its head can come from prompts.
    fn takes_prompts(&self) -> bool {
        false
    }

    /// Checks that the model accepts texts of the configured length.
    ///
    /// # Errors
    /// If it does not.
    fn check_length(
        &self,
        _architecture: &Architecture,
        _config: &DataConfig,
    ) -> Result<(), TrainerError> {
        Ok(())
    }

    /// Opens a dataset for a model that it fits; see [`TaskKind::open`](super::TaskKind::open).
    ///
    /// # Errors
    /// If the model's tokenizer or preprocessor is missing or does not fit, or the data do not
    /// exist.
    fn open<'a>(
        &self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError>;

    /// The number of outputs of a head for the labels of the training split; `None` if there are no
    /// labels.
    ///
    /// - config: of locally available data
    ///
    /// # Errors
    /// If the data can't be read.
    fn count_labels(
        &self,
        _config: &DataConfig,
        _target: TargetKind,
    ) -> Result<Option<usize>, TrainerError> {
        Ok(None)
    }

    /// Turns the input rows of `predict` into batches; `None` if each is a prompt to continue.
    ///
    /// - config: which columns are read, and how long texts may be
    ///
    /// # Errors
    /// If the model's tokenizer or preprocessor is missing or does not fit.
    fn line_reader(
        &self,
        _base: &BaseModel,
        _config: &DataConfig,
    ) -> Result<Option<Box<dyn LineReader>>, TrainerError> {
        Ok(None)
    }

    /// The facts about a split, for a suggested training file.
    ///
    /// - config: with the directory and files of that split
    /// - base: counts tokens, if given
    ///
    /// # Errors
    /// If the split can't be read.
    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError>;

    /// The columns that are read, by their keys in `[data]`; empty if no column needs to be named.
    fn columns<'c>(&self, _config: &'c DataConfig) -> Vec<(&'static str, &'c str)> {
        Vec::new()
    }

    /// The `data.max_length` of a suggested training file if tokens could not be counted, and why;
    /// `None` if no texts are read.
    fn usual_max_length(&self) -> Option<(usize, &'static str)> {
        None
    }
}
