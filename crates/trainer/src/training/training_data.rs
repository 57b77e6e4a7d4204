//! The data of a training.

use eigenmix_data::metrics::Metric;
use eigenmix_data::{InputContract, Split, Targets, TextTokenizer};

use crate::config::{Keep, TrainConfig};
use crate::schedule::Scheduler;
use crate::tasks::Examples;
use crate::{BaseModel, TrainerError};

/// The splits of a dataset as the model takes them.
pub(crate) struct TrainingData {
    pub train: Box<dyn Examples>,
    pub validation: Option<Box<dyn Examples>>,
    pub test: Option<Box<dyn Examples>>,
    /// How labels are encoded, if there are labels.
    pub targets: Option<Targets>,
    /// Decodes what a language model generates.
    pub tokenizer: Option<TextTokenizer>,
    /// The metrics of evaluations; the first decides which state is best.
    pub metrics: Vec<Metric>,
    /// Notes on the data for the user.
    pub notes: Vec<String>,
    /// How rows became inputs.
    pub input: InputContract,
    /// The chat template that conversations went through.
    pub chat_template: Option<String>,
}

impl TrainingData {
    /// Reads the data that the configuration names.
    ///
    /// # Errors
    /// If they are missing, malformed or do not fit the model or the task.
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
        require_measurements(config, validation.is_some())?;
        notes.extend(short_epochs(config, train.examples.len()));
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
            input: train.input,
            chat_template: train.chat_template,
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

    /// Checks that the metrics can be computed.
    ///
    /// # Errors
    /// If a metric does not fit the data.
    pub fn require_measurable(&self) -> Result<(), TrainerError> {
        for examples in [&self.validation, &self.test].into_iter().flatten() {
            examples.require_measurable(&self.metrics)?;
        }
        Ok(())
    }
}

/// Checks that what goes by the validation split has measurements to go by before the training ends.
///
/// # Errors
/// If there is no such split, or it is measured at the end only.
fn require_measurements(config: &TrainConfig, has_validation: bool) -> Result<(), TrainerError> {
    let training = &config.training;
    let settings = [
        ("keep = \"best\"", training.keep == Keep::Best),
        ("early_stopping", training.early_stopping.is_some()),
        (
            "scheduler = \"reduce-on-plateau\"",
            training.scheduler == Scheduler::ReduceOnPlateau,
        ),
    ];
    let Some((setting, _)) = settings.into_iter().find(|(_, is_set)| *is_set) else {
        return Ok(());
    };
    let (reason, remedy) = match (has_validation, training.evaluate_every) {
        (false, _) => (
            "the data have no validation split",
            "add one (validation.jsonl, or data.files.validation)",
        ),
        (true, 0) => (
            "training.evaluate_every = 0 measures at the end only",
            "set training.evaluate_every = 1, or more",
        ),
        (true, _) => return Ok(()),
    };
    Err(TrainerError::NothingMeasured {
        setting,
        reason,
        remedy,
    })
}

/// What to say where the epochs end before `training.max_steps`.
fn short_epochs(config: &TrainConfig, examples: usize) -> Option<String> {
    let training = &config.training;
    let batches = examples.div_ceil(training.batch_size.get());
    let steps = training.epochs * batches.div_ceil(training.gradient_accumulation.get());
    let limit = training.max_steps.filter(|limit| *limit > steps)?;
    Some(format!(
        "training.max_steps is {limit}, but training.epochs = {} ends after {steps} steps; raise \
         training.epochs to take more",
        training.epochs
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(training: &str) -> TrainConfig {
        let file = format!(
            "output = \"o\"\n[base]\nmodel = \"m\"\n[task]\n[data]\npath = \"d\"\n[adapter]\nmethod = \"lora\"\nrank = 2\n\
             [training]\nepochs = 2\nbatch_size = 4\nlearning_rate = 0.1\n{training}"
        );
        TrainConfig::from_toml(&file).unwrap()
    }

    #[test]
    fn what_goes_by_the_validation_split_is_refused_without_measurements() {
        for setting in [
            "keep = \"best\"",
            "early_stopping = 1",
            "scheduler = \"reduce-on-plateau\"",
        ] {
            let refused = |config: &TrainConfig, has_validation| {
                let error = require_measurements(config, has_validation).unwrap_err();
                let message = error.to_string();
                assert!(
                    message.contains(setting.split(' ').next().unwrap()),
                    "{message}"
                );
                message
            };
            let usual = config(setting);
            assert!(refused(&usual, false).contains("no validation split"));
            assert!(require_measurements(&usual, true).is_ok());
            let at_end = config(&format!("evaluate_every = 0\n{setting}"));
            assert!(refused(&at_end, true).contains("evaluate_every = 0"));
        }
        assert!(require_measurements(&config(""), false).is_ok());
    }

    #[test]
    fn more_steps_than_the_epochs_have_are_told() {
        let note = short_epochs(&config("max_steps = 7"), 9).unwrap();
        assert!(
            note.contains("max_steps is 7") && note.contains("after 6 steps"),
            "{note}"
        );
        assert_eq!(short_epochs(&config("max_steps = 6"), 9), None);
        assert_eq!(short_epochs(&config(""), 9), None);
    }
}
