//! What a kind of task says of itself.

use std::path::Path;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, Split, TargetKind};
use eigenmix_models::{Architecture, HeadKind};

use super::{LineReader, Survey, TaskReader};
use crate::{BaseModel, TrainerError};

/// A kind of task: which models it is for, what is read for it, and what is asked of the model.
pub trait Task: Sync {
    /// The name in configurations.
    fn name(&self) -> &'static str;

    /// PEFT's name for it, where it has one.
    fn peft_name(&self) -> Option<&'static str> {
        None
    }

    /// Which models do it, in words: a part of the sentence that refuses others.
    fn models(&self) -> &'static str;

    /// Whether a model of this architecture can do it.
    fn fits(&self, architecture: &Architecture) -> bool;

    /// Whether this is what a model under such a head does.
    fn is_of_head(&self, head: HeadKind) -> bool;

    /// The head that it asks of a model.
    ///
    /// - labels: how many outputs it needs, where there are labels
    /// - from_prompts: whether texts about the labels are the head
    fn head(&self, labels: usize, from_prompts: bool) -> HeadKind;

    /// Whether texts about the labels can be its head.
    fn takes_prompts(&self) -> bool {
        false
    }

    /// Checks that the model takes texts as long as the configuration wants them.
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
    /// If the model's tokenizer or preprocessor is missing or does not fit, or there are no such data.
    fn open<'a>(
        &self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError>;

    /// How many outputs a head for the labels of the training split has; `None` where there are no
    /// labels.
    ///
    /// - config: of data that are at hand
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

    /// What `predict` makes of the lines of its input; `None` where a line is a prompt that the model
    /// continues.
    ///
    /// - input: the file of the lines, for messages
    ///
    /// # Errors
    /// If the model's tokenizer or preprocessor is missing or does not fit.
    fn line_reader(
        &self,
        base: &BaseModel,
        input: &Path,
    ) -> Result<Option<Box<dyn LineReader>>, TrainerError>;

    /// What a split holds, for a suggested training file.
    ///
    /// - config: with the directory and files of that split
    /// - base: counts tokens, where there is one
    ///
    /// # Errors
    /// If the split can't be read.
    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError>;

    /// The columns that are read, by their keys in `[data]`; none where their names need not be given.
    fn columns<'c>(&self, _config: &'c DataConfig) -> Vec<(&'static str, &'c str)> {
        Vec::new()
    }

    /// `data.max_length` of a suggested training file where nobody counted tokens, and why; `None`
    /// where no texts are read.
    fn usual_max_length(&self) -> Option<(usize, &'static str)> {
        None
    }
}
