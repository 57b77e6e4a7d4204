//! A training from its file to its adapter: everything is read and checked before the first step,
//! then the loop runs, and every checkpoint lets it go on as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use eigenmix_adapter::Source;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{Split, Targets, TextTokenizer};
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_models::{Adaptation, Description, LoadOptions, Network, Task, Train};
use eigenmix_moslora::Update;
use eigenmix_tensors::FileError;

use crate::basis_record::BasisRecord;
use crate::checkpoint::{Progress, load_latest};
use crate::config::{Keep, TrainConfig};
use crate::examples::Examples;
use crate::method::start;
use crate::metrics_log::MetricsLog;
use crate::optimizer::AdamW;
use crate::outcome::{Observer, Outcome, Plan, RunOptions};
use crate::peak_memory;
use crate::result::Trained;
use crate::run::Run;
use crate::run_output;
use crate::task_data::TaskData;
use crate::training_loop::{Loop, Speed};
use crate::zero_shot::ZeroShot;
use crate::{BaseModel, Method, TrainerError};

/// A training that is read and checked.
pub struct Training {
    pub(crate) config: TrainConfig,
    pub(crate) base: BaseModel,
    pub(crate) task: Task,
    /// What CLIP is asked about the labels, where the head comes from prompts.
    pub(crate) zero_shot: Option<ZeroShot>,
    pub(crate) description: Description,
    /// What labels are encoded as; a language model has none.
    pub(crate) targets: Option<Targets>,
    /// To read what a language model writes.
    pub(crate) tokenizer: Option<TextTokenizer>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) train: Examples,
    pub(crate) validation: Option<Examples>,
    pub(crate) test: Option<Examples>,
    pub(crate) updates: BTreeMap<String, Update>,
    pub(crate) sources: Vec<Source>,
    /// The variances of the subspace, where the method has one.
    pub(crate) spectra: BTreeMap<String, ModuleSpectra>,
    pub(crate) notes: Vec<String>,
}

impl Training {
    /// Reads everything that the configuration names: data, tokenizer, adapters, base model.
    ///
    /// # Errors
    /// If any of it is missing, malformed or does not fit the rest.
    pub fn prepare(config: TrainConfig) -> Result<Self, TrainerError> {
        config.validate()?;
        let mut base = match config.base.from_scratch {
            true => BaseModel::open_config(&config.base.model)?,
            false => BaseModel::open(&config.base.model)?,
        };
        base.checkpoint.set_precision(config.base.weights);
        let data = TaskData::new(&base, config.task.kind, &config.data, &config.task.metrics)?;
        let (train, targets) = data.train(config.task.target, config.seed)?;
        let mut notes = train.notes;
        let mut optional = |split| -> Result<Option<Examples>, TrainerError> {
            let found = data.optional_split(split, targets.as_ref())?;
            Ok(found.map(|found| {
                notes.extend(found.notes);
                found.examples
            }))
        };
        let (validation, test) = (optional(Split::Validation)?, optional(Split::Test)?);
        let tokenizer = data.into_tokenizer();
        let zero_shot = match (config.task.prompts()?, &targets) {
            (Some(prompts), Some(Targets::Classes(labels))) => {
                Some(ZeroShot::new(&base, &prompts, labels)?)
            }
            _ => None,
        };
        let task = match &targets {
            Some(targets) if zero_shot.is_some() => Task::ZeroShot {
                labels: targets.outputs(),
            },
            Some(targets) => Task::Classification {
                labels: targets.outputs(),
            },
            None => Task::LanguageModel,
        };
        let description = base.architecture.describe(task)?;
        let start = start(
            &config.adapter,
            base.name_and_revision().0,
            &base.architecture,
            &description,
            config.seed,
        )?;
        notes.extend(start.notes);
        let metrics = match config.task.metrics.is_empty() {
            true => train.examples.default_metrics(),
            false => config.task.metrics.clone(),
        };
        for examples in [&validation, &test].into_iter().flatten() {
            if let Examples::Language(data) = examples {
                data.require_measurable(&metrics)?;
            }
        }
        Ok(Self {
            task,
            zero_shot,
            description,
            targets,
            tokenizer,
            metrics,
            train: train.examples,
            validation,
            test,
            updates: start.updates,
            sources: start.sources,
            spectra: start.spectra,
            notes,
            base,
            config,
        })
    }

    /// Runs the training, or what is left of it.
    ///
    /// # Errors
    /// If the output exists, a checkpoint does not fit, the loss diverges or a file cannot be
    /// written.
    pub fn run(
        &self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let output = PathBuf::from(&self.config.output);
        let method = self.config.adapter.method;
        let device = options.device.clone().autodiff();
        peak_memory::reset();
        let head = self.zero_shot.as_ref();
        let head = head.map(|head| head.head(&self.base, None, &options.device));
        let adaptation = Adaptation {
            updates: self.updates.clone(),
            tensors: head
                .transpose()?
                .map(|head| head.tensors)
                .unwrap_or_default(),
            ..Adaptation::default()
        };
        let load = LoadOptions {
            task: self.task,
            adaptation: &adaptation,
            train: match method {
                Method::Full => Train::Everything,
                _ => Train::Head,
            },
            dropout: self.config.base.dropout,
            seed: self.config.seed,
        };
        let loaded = Network::load(
            &self.base.checkpoint,
            &self.base.architecture,
            &load,
            &device,
        )?;
        // Only now is nothing left that can fail before the first step: with --force an earlier run goes.
        let _lock = run_output::open(&output, &resolved(&self.config)?, options)?;
        let checkpoint = match options.resume {
            true => load_latest(&output)?,
            false => None,
        };
        let logged = checkpoint
            .as_ref()
            .map_or(0, |state| state.progress.metrics_bytes);
        let mut log = MetricsLog::open(&output, logged)?;
        if self.config.training.tensorboard {
            let resumed = checkpoint.as_ref().map(|state| state.progress.step);
            log = log.with_events(&output, resumed)?;
        }
        let mut state = Loop {
            training: self,
            options,
            output: &output,
            model: loaded.model,
            names: loaded.names,
            optimizer: AdamW::new(&self.config.training),
            progress: Progress::default(),
            best: None,
            log,
            device,
            total_steps: self.total_steps(),
            started: Instant::now(),
            speed: Speed::new(),
            last_loss: None,
            last_validation: None,
        };
        if let Some(checkpoint) = checkpoint {
            state.restore(checkpoint)?;
        }
        let plan = self.plan(&state);
        self.notes.iter().for_each(|note| observer.note(note));
        observer.started(&plan);
        let finished = state.run(observer)?;
        let values = match (&state.best, self.config.training.keep) {
            (Some(best), Keep::Best) => best.clone(),
            _ => state.names.values_of(&state.model),
        };
        let mut outcome = Outcome {
            output: output.clone(),
            interrupted: !finished,
            steps: state.progress.step,
            seconds: state.progress.seconds + state.started.elapsed().as_secs_f64(),
            adapter_parameters: plan.adapter_parameters,
            head_parameters: plan.head_parameters,
            bytes: 0,
            examples_per_second: state.examples_per_second(),
            peak_memory: None,
            loss: state.last_loss,
            validation: state.last_validation.clone(),
            test: None,
        };
        if !finished {
            return Ok(outcome);
        }
        if self.config.training.keep == Keep::Best {
            state.model = state.names.with_values(state.model.clone(), &values)?;
            outcome.validation = state.evaluate(Split::Validation, observer)?;
        }
        outcome.test = state.evaluate(Split::Test, observer)?;
        let trained = Trained {
            config: &self.config,
            base: &self.base,
            description: &self.description,
            task: self.task,
            updates: &self.updates,
            sources: &self.sources,
            targets: self.targets.as_ref(),
            values: &values,
        };
        outcome.bytes = match method {
            Method::Full => trained.save_model(&output)?,
            _ => trained.save(&output)?,
        };
        if !self.spectra.is_empty() {
            let record = BasisRecord {
                sources: self.sources.clone(),
                modules: self.spectra.clone(),
            };
            record.write(&output)?;
        }
        outcome.peak_memory = peak_memory::read();
        outcome.write_to(&output)?;
        Ok(outcome)
    }

    /// Whether the run in `directory` was started with this configuration.
    ///
    /// # Errors
    /// If its `config.toml` cannot be read.
    pub fn is_same(config: &TrainConfig, directory: &Path) -> Result<bool, TrainerError> {
        let path = directory.join(Run::CONFIG);
        if !path.is_file() {
            return Ok(false);
        }
        let earlier = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
        Ok(earlier == resolved(config)?)
    }

    /// Whether nothing is in `directory` that a run would not begin over.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_blank(directory: &Path) -> Result<bool, TrainerError> {
        run_output::is_blank(directory)
    }

    fn steps_per_epoch(&self) -> usize {
        let training = &self.config.training;
        let batches = self.train.len().div_ceil(training.batch_size.get());
        batches.div_ceil(training.gradient_accumulation.get())
    }

    fn total_steps(&self) -> usize {
        let steps = self.config.training.epochs * self.steps_per_epoch();
        self.config
            .training
            .max_steps
            .map_or(steps, |limit| steps.min(limit))
    }

    fn plan(&self, state: &Loop) -> Plan {
        let adapter_parameters = self.updates.values().map(Update::trained_parameters).sum();
        let all: usize = state
            .names
            .values_of(&state.model)
            .values()
            .map(|value| value.values.len())
            .sum();
        let (adapter_parameters, head_parameters) = match self.config.adapter.method {
            Method::Full => (all, 0),
            _ => (adapter_parameters, all - adapter_parameters),
        };
        let count = |examples: &Option<Examples>| examples.as_ref().map_or(0, Examples::len);
        Plan {
            method: self.config.adapter.method,
            adapter_parameters,
            head_parameters,
            base_parameters: self.description.parameters,
            adapted_modules: self.updates.len(),
            train_examples: self.train.len(),
            validation_examples: count(&self.validation),
            test_examples: count(&self.test),
            truncated_examples: self.train.truncated(),
            total_steps: state.total_steps,
            resumed_steps: state.progress.step,
        }
    }
}

/// The configuration with every default filled in, as it is kept in the run.
fn resolved(config: &TrainConfig) -> Result<String, FileError> {
    toml::to_string(config).map_err(|error| {
        FileError::io("write", Path::new(Run::CONFIG))(std::io::Error::other(error))
    })
}
