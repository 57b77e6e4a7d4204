//! What a training learns from and is measured on.

use eigenmix_data::metrics::Metric;
use eigenmix_data::{Split, Targets, TextTokenizer};

use crate::config::TrainConfig;
use crate::tasks::Examples;
use crate::{BaseModel, TrainerError};

/// The splits of a dataset as the model takes them.
pub(crate) struct TrainingData {
    pub train: Box<dyn Examples>,
    pub validation: Option<Box<dyn Examples>>,
    pub test: Option<Box<dyn Examples>>,
    /// What labels are encoded as, where there are labels.
    pub targets: Option<Targets>,
    /// To read what a language model writes.
    pub tokenizer: Option<TextTokenizer>,
    /// What is measured; the first decides which state is the best.
    pub metrics: Vec<Metric>,
    /// What a user should know of the data.
    pub notes: Vec<String>,
}

impl TrainingData {
    /// Reads the data that the configuration names.
    ///
    /// # Errors
    /// If they are missing, malformed or do not go with the model or the task.
    pub fn read(config: &TrainConfig, base: &BaseModel) -> Result<Self, TrainerError> {
        let reader = config
            .task
            .kind
            .open(base, &config.data, &config.task.metrics)?;
        let (train, targets) = reader.train(config.task.target, config.seed)?;
        let mut notes = train.notes;
        let mut optional = |split| -> Result<Option<Box<dyn Examples>>, TrainerError> {
            let found = reader.optional_split(split, targets.as_ref(), &mut notes)?;
            Ok(found.map(|found| {
                notes.extend(found.notes);
                found.examples
            }))
        };
        let (validation, test) = (optional(Split::Validation)?, optional(Split::Test)?);
        let metrics = match config.task.metrics.is_empty() {
            true => train.examples.default_metrics(),
            false => config.task.metrics.clone(),
        };
        Ok(Self {
            train: train.examples,
            validation,
            test,
            targets,
            tokenizer: reader.into_tokenizer(),
            metrics,
            notes,
        })
    }

    /// The examples of a split, if there are any.
    pub fn split(&self, split: Split) -> Option<&dyn Examples> {
        match split {
            Split::Train => Some(&*self.train),
            Split::Validation => self.validation.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }

    /// Checks that what is measured can be measured.
    ///
    /// # Errors
    /// If a metric does not go with the data.
    pub fn require_measurable(&self) -> Result<(), TrainerError> {
        for examples in [&self.validation, &self.test].into_iter().flatten() {
            examples.require_measurable(&self.metrics)?;
        }
        Ok(())
    }
}
