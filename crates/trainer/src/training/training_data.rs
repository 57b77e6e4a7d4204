//! The data of a training.

use eigenmix_data::metrics::Metric;
use eigenmix_data::{InputContract, Split, Targets, TextTokenizer};
use eigenmix_models::Network;

use super::batches::Batches;
use super::trained_model::TrainedModel;
use super::training_length::TrainingLength;
use crate::config::{Keep, TrainConfig};
use crate::schedule::Scheduler;
use crate::tasks::{Examples, FoundSplit};
use crate::{BaseModel, TrainerError};

/// The splits of a dataset as the model takes them.
pub(crate) struct TrainingData<M: TrainedModel = Network> {
    pub train: Box<dyn Examples<M>>,
    /// The batches of the training split, and how many steps they take.
    pub batches: Batches,
    pub length: TrainingLength,
    pub validation: Option<Box<dyn Examples<M>>>,
    pub test: Option<Box<dyn Examples<M>>>,
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
        let request = config.into();
        let (train, targets) = reader.train(&request)?;
        let mut notes = train.notes;
        let validation = match config.data.fold {
            Some(fold) => {
                let held_out = reader.held_out(fold, &request, targets.as_ref())?;
                notes.push(format!(
                    "fold {fold} of the training rows is the validation split ({} rows; {} are trained \
                     on); the data's own is not read",
                    held_out.examples.len(),
                    train.examples.len()
                ));
                FoundSplit::Examples(Box::new(held_out))
            }
            None => reader.find_split(Split::Validation, targets.as_ref())?,
        };
        require_measurements(config, Measured::of(&validation))?;
        let test = match config.training.evaluate_test {
            true => reader.find_split(Split::Test, targets.as_ref())?,
            false => FoundSplit::Missing,
        };
        let mut examples = |split, found| match found {
            FoundSplit::Examples(found) => {
                notes.extend(found.cut(split));
                notes.extend(found.notes);
                Some(found.examples)
            }
            FoundSplit::Missing => None,
            FoundSplit::Hidden(note) => {
                notes.push(note);
                None
            }
        };
        let validation = examples(Split::Validation, validation);
        let test = examples(Split::Test, test);
        let rows = |length| base.architecture.rows_per_example(length);
        let lengths = train.examples.lengths().into_iter().map(rows);
        let lengths = lengths.collect();
        let have_images = train.examples.have_images();
        let batches = Batches::new(&config.training, config.seed, lengths, have_images)?;
        let length = TrainingLength::new(&config.training, &batches);
        notes.extend(batches.long_examples());
        notes.extend(length.short_epochs());
        let metrics = match config.task.metrics.is_empty() {
            true => train.examples.default_metrics(),
            false => config.task.metrics.clone(),
        };
        Ok(Self {
            train: train.examples,
            batches,
            length,
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
}

impl<M: TrainedModel> TrainingData<M> {
    /// The examples of a split, if there are any.
    pub fn split(&self, split: Split) -> Option<&dyn Examples<M>> {
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
        if let Some(targets) = &self.targets {
            targets.require_measurable(&self.metrics)?;
        }
        for examples in [&self.validation, &self.test].into_iter().flatten() {
            examples.require_measurable(&self.metrics)?;
        }
        Ok(())
    }
}

/// Whether there is a validation split to measure on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    Present,
    Missing,
    /// Its labels are hidden.
    Hidden,
}

impl Measured {
    fn of(found: &FoundSplit) -> Self {
        match found {
            FoundSplit::Examples(_) => Self::Present,
            FoundSplit::Missing => Self::Missing,
            FoundSplit::Hidden(_) => Self::Hidden,
        }
    }
}

/// Checks that what goes by the validation split has measurements to go by before the training ends.
///
/// # Errors
/// If there is no such split, its labels are hidden, or it is measured at the end only.
pub(crate) fn require_measurements(
    config: &TrainConfig,
    validation: Measured,
) -> Result<(), TrainerError> {
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
    let (every, epochs) = (training.evaluate_every, training.epochs);
    // The one evaluation of a single epoch is the usual one, even if nothing can go by it.
    let is_at_end_only = every == 0 || every >= epochs.max(2);
    let (reason, remedy) = match validation {
        Measured::Missing => (
            "the data have no validation split".to_owned(),
            "add one (validation.jsonl, or data.files.validation)",
        ),
        Measured::Hidden => (
            "the labels of the validation split are hidden (-1 in every row)".to_owned(),
            "name a split that has labels in data.files.validation",
        ),
        Measured::Present if every == 0 => (
            "training.evaluate_every = 0 measures at the end only".to_owned(),
            "set training.evaluate_every = 1, or more",
        ),
        Measured::Present if is_at_end_only => (
            format!(
                "training.evaluate_every = {every} measures at the end of training.epochs = {epochs} only"
            ),
            "set training.evaluate_every = 1, or another number below that of the epochs",
        ),
        Measured::Present => return Ok(()),
    };
    Err(TrainerError::NothingMeasured {
        setting,
        reason,
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use eigenmix_data::EpochAugmentation;
    use eigenmix_models::Network;

    use super::*;
    use crate::tasks::{Evaluation, EvaluationOptions, LabelledBatch, SplitData};

    fn config(training: &str) -> TrainConfig {
        let file = format!(
            "output = \"o\"\n[base]\nmodel = \"m\"\n[task]\n[data]\npath = \"d\"\n[adapter]\nmethod = \"lora\"\nrank = 2\n\
             [training]\nepochs = 2\nbatch_size = 4\nlearning_rate = 0.1\n{training}"
        );
        TrainConfig::from_toml(&file).unwrap()
    }

    fn present() -> FoundSplit {
        struct NoExamples;
        impl Examples for NoExamples {
            fn len(&self) -> usize {
                0
            }
            fn lengths(&self) -> Vec<usize> {
                Vec::new()
            }
            fn truncated(&self) -> usize {
                0
            }
            fn default_metrics(&self) -> Vec<Metric> {
                Vec::new()
            }
            fn batch(
                &self,
                _examples: &[usize],
                _augmented: Option<EpochAugmentation>,
            ) -> Result<LabelledBatch, TrainerError> {
                unreachable!("only its presence counts")
            }
            fn evaluate(
                &self,
                _network: &Network,
                _options: &EvaluationOptions,
            ) -> Result<Evaluation, TrainerError> {
                unreachable!("only its presence counts")
            }
        }
        FoundSplit::Examples(Box::new(SplitData {
            examples: Box::new(NoExamples),
            notes: Vec::new(),
            input: InputContract::default(),
            chat_template: None,
        }))
    }

    const SETTINGS: [&str; 3] = [
        "keep = \"best\"",
        "early_stopping = 1",
        "scheduler = \"reduce-on-plateau\"",
    ];

    fn refused(config: &TrainConfig, validation: &FoundSplit) -> String {
        let error = require_measurements(config, Measured::of(validation)).unwrap_err();
        error.to_string()
    }

    #[test]
    fn what_goes_by_the_validation_split_is_refused_without_measurements() {
        for setting in SETTINGS {
            let usual = config(setting);
            let message = refused(&usual, &FoundSplit::Missing);
            let name = setting.split(' ').next().unwrap();
            assert!(
                message.contains(name) && message.contains("no validation split"),
                "{message}"
            );
            assert!(require_measurements(&usual, Measured::of(&present())).is_ok());
            let at_end = config(&format!("evaluate_every = 0\n{setting}"));
            assert!(refused(&at_end, &present()).contains("evaluate_every = 0"));
        }
        assert!(require_measurements(&config(""), Measured::Missing).is_ok());
    }

    #[test]
    fn what_goes_by_the_validation_split_is_refused_if_it_is_measured_at_the_end_only() {
        for setting in SETTINGS {
            for every in [2, 3] {
                let rare = config(&format!("evaluate_every = {every}\n{setting}"));
                let message = refused(&rare, &present());
                let reason = format!("evaluate_every = {every} measures at the end");
                assert!(message.contains(&reason), "{message}");
            }
            let mut one_epoch = config(setting);
            one_epoch.training.epochs = 1;
            assert!(require_measurements(&one_epoch, Measured::of(&present())).is_ok());
        }
        let rare = config("evaluate_every = 3");
        assert!(require_measurements(&rare, Measured::of(&present())).is_ok());
    }

    #[test]
    fn hidden_labels_are_named_as_the_reason_where_they_are_it() {
        let hidden = FoundSplit::Hidden("a note".to_owned());
        let message = refused(&config("keep = \"best\""), &hidden);
        assert!(message.contains("hidden (-1 in every row)"), "{message}");
        assert!(!message.contains("no validation split"), "{message}");
    }
}
