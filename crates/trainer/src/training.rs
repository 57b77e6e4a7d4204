//! A training from its file to its adapter: everything is read and checked before the first step,
//! then the loop runs, and every checkpoint lets it go on as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use adapter::{Source, write_file};
use burn::module::Module;
use burn::tensor::Device;
use models::{Adaptation, Description, LoadOptions, SequenceClassifier, Train};
use moslora::{ParameterNames, ParameterValues, Update};

use crate::checkpoint::{Best, CheckpointState, Progress, load_latest, save};
use crate::classifier::{all_logits, batch, describe, figures};
use crate::config::{Keep, TrainConfig};
use crate::data::{
    BatchPlan, DataError, EncodedTargets, Encoding, LabelPolicy, Split, Targets, draw_examples,
    read_split,
};
use crate::loss::{host_loss, loss};
use crate::method::{Method, start};
use crate::metrics_log::{EvaluationRecord, MetricsLog, StepRecord};
use crate::optimizer::{AdamW, NamedGradients, accumulate, clip, named_gradients};
use crate::result::Trained;
use crate::schedule::Scheduler;
use crate::{BaseModel, TrainerError};

/// What happens during a training, for whoever shows it.
pub trait Observer {
    fn started(&mut self, _plan: &Plan) {}
    /// After every optimizer step.
    fn advanced(&mut self, _step: usize) {}
    fn logged(&mut self, _record: &StepRecord) {}
    fn evaluated(&mut self, _record: &EvaluationRecord) {}
    fn note(&mut self, _note: &str) {}
}

/// What a training will do.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    pub method: Method,
    /// Numbers that the method trains, head excluded.
    pub adapter_parameters: usize,
    pub head_parameters: usize,
    pub base_parameters: usize,
    pub adapted_modules: usize,
    pub train_examples: usize,
    pub validation_examples: usize,
    pub test_examples: usize,
    /// Examples that `max_length` cut.
    pub truncated_examples: usize,
    pub total_steps: usize,
    /// Steps that an earlier run took.
    pub resumed_steps: usize,
}

/// How a training ended; a finished one leaves it in `outcome.json`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    pub output: PathBuf,
    /// Whether it was stopped before its end; its checkpoint lets it go on.
    pub interrupted: bool,
    pub steps: usize,
    /// Seconds of training, evaluations included, loading excluded.
    pub seconds: f64,
    pub adapter_parameters: usize,
    pub head_parameters: usize,
    /// The bytes to keep for this task: coefficients where the method has a basis, else the adapter.
    pub bytes: u64,
    /// The last logged training loss.
    pub loss: Option<f64>,
    pub validation: Option<BTreeMap<String, f64>>,
    pub test: Option<BTreeMap<String, f64>>,
}

impl Outcome {
    /// The outcome of the run in `directory`, if it is finished.
    pub fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join(OUTCOME)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&self) -> Result<(), TrainerError> {
        let path = self.output.join(OUTCOME);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| TrainerError::io("write", &path)(error.into()))?;
        Ok(write_file(&path, &text)?)
    }
}

const OUTCOME: &str = "outcome.json";

/// How a training is run, apart from what its file says.
pub struct RunOptions<'a> {
    pub device: Device,
    /// Continue from the last checkpoint.
    pub resume: bool,
    /// Replace an earlier run.
    pub force: bool,
    /// Set from outside to stop after the present step.
    pub stop: &'a AtomicBool,
}

/// A split, tokenized.
struct Examples {
    encodings: Vec<Encoding>,
    targets: EncodedTargets,
}

/// A training that is read and checked.
pub struct Training {
    config: TrainConfig,
    base: BaseModel,
    description: Description,
    targets: Targets,
    train: Examples,
    validation: Option<Examples>,
    test: Option<Examples>,
    updates: BTreeMap<String, Update>,
    sources: Vec<Source>,
    notes: Vec<String>,
}

impl Training {
    /// Reads everything that the configuration names: data, tokenizer, adapters, base model.
    ///
    /// # Errors
    /// If any of it is missing, malformed or does not fit the rest.
    pub fn prepare(config: TrainConfig) -> Result<Self, TrainerError> {
        config.validate()?;
        let base = match config.base.from_scratch {
            true => BaseModel::open_config(&config.base.model)?,
            false => BaseModel::open(&config.base.model)?,
        };
        let limit = base.config.max_length();
        if config.data.max_length > limit {
            return Err(TrainerError::TooLong {
                found: config.data.max_length,
                limit,
            });
        }
        let directory = PathBuf::from(&config.data.path);
        let rows = read_split(
            &directory,
            Split::Train,
            &config.data,
            LabelPolicy::Required,
        )?;
        let targets = Targets::from_train(config.task.target, &rows)?;
        let rows = draw_examples(rows, &config.data, config.task.target, config.seed)?;
        let tokenizer = base.tokenizer()?;
        let examples = |rows: Vec<crate::data::Row>| {
            Ok::<_, TrainerError>(Examples {
                encodings: tokenizer.encode_all(&rows, config.data.max_length)?,
                targets: targets.encode(&rows)?,
            })
        };
        let train = examples(rows)?;
        let optional =
            |split| match read_split(&directory, split, &config.data, LabelPolicy::Required) {
                Ok(rows) => examples(rows).map(Some),
                Err(DataError::MissingSplit { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        let (validation, test) = (optional(Split::Validation)?, optional(Split::Test)?);
        let description = describe(&base, targets.outputs());
        let start = start(
            &config.adapter,
            &config.base.model,
            base.config.family,
            &description,
            config.seed,
        )?;
        Ok(Self {
            description,
            targets,
            train,
            validation,
            test,
            updates: start.updates,
            sources: start.sources,
            notes: start.notes,
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
        self.open_output(&output, options)?;
        let method = self.config.adapter.method;
        let device = options.device.clone().autodiff();
        let adaptation = Adaptation {
            updates: self.updates.clone(),
            ..Adaptation::default()
        };
        let load = LoadOptions {
            labels: self.targets.outputs(),
            adaptation: &adaptation,
            train: match method {
                Method::Full => Train::Everything,
                _ => Train::Head,
            },
            dropout: self.config.base.dropout,
            seed: self.config.seed,
        };
        let loaded =
            SequenceClassifier::load(&self.base.checkpoint, &self.base.config, &load, &device)?;
        let checkpoint = match options.resume {
            true => Some(load_latest(&output)?),
            false => None,
        };
        let logged = checkpoint
            .as_ref()
            .map_or(0, |state| state.progress.metrics_bytes);
        let mut state = Loop {
            training: self,
            options,
            output: &output,
            model: loaded.model,
            names: loaded.names,
            optimizer: AdamW::new(&self.config.training),
            progress: Progress::default(),
            best: None,
            log: MetricsLog::open(&output, logged)?,
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
            updates: &self.updates,
            sources: &self.sources,
            targets: &self.targets,
            values: &values,
        };
        outcome.bytes = match method {
            Method::Full => trained.save_model(&output)?,
            _ => trained.save(&output)?,
        };
        outcome.write()?;
        Ok(outcome)
    }

    /// Whether the run in `directory` was started with this configuration.
    ///
    /// # Errors
    /// If its `config.toml` cannot be read.
    pub fn is_same(config: &TrainConfig, directory: &Path) -> Result<bool, TrainerError> {
        let path = directory.join(CONFIG);
        if !path.is_file() {
            return Ok(false);
        }
        let earlier = std::fs::read_to_string(&path).map_err(TrainerError::io("read", &path))?;
        Ok(earlier == resolved(config)?)
    }

    /// Makes the run's directory, or checks that it is the run that is to be continued.
    fn open_output(&self, output: &Path, options: &RunOptions) -> Result<(), TrainerError> {
        let config_path = output.join(CONFIG);
        let text = resolved(&self.config)?;
        if options.resume {
            let path = output.to_owned();
            if !config_path.is_file() {
                return Err(TrainerError::NothingToResume { path });
            }
            let earlier = std::fs::read_to_string(&config_path)
                .map_err(TrainerError::io("read", &config_path))?;
            if let Some(key) = first_difference(&earlier, &text) {
                return Err(TrainerError::ResumedConfig { path, key });
            }
            return Ok(());
        }
        if output.exists() {
            let path = output.to_owned();
            if !options.force {
                return Err(TrainerError::OutputExists { path });
            }
            if !config_path.is_file() {
                return Err(TrainerError::NotARun { path });
            }
            std::fs::remove_dir_all(output).map_err(TrainerError::io("remove", output))?;
        }
        std::fs::create_dir_all(output).map_err(TrainerError::io("create", output))?;
        Ok(write_file(&config_path, text.as_bytes())?)
    }

    fn steps_per_epoch(&self) -> usize {
        let training = &self.config.training;
        let batches = self
            .train
            .encodings
            .len()
            .div_ceil(training.batch_size.get());
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
        let count = |examples: &Option<Examples>| {
            examples
                .as_ref()
                .map_or(0, |examples| examples.encodings.len())
        };
        Plan {
            method: self.config.adapter.method,
            adapter_parameters,
            head_parameters,
            base_parameters: self.description.parameters,
            adapted_modules: self.updates.len(),
            train_examples: self.train.encodings.len(),
            validation_examples: count(&self.validation),
            test_examples: count(&self.test),
            truncated_examples: self
                .train
                .encodings
                .iter()
                .filter(|encoding| encoding.truncated)
                .count(),
            total_steps: state.total_steps,
            resumed_steps: state.progress.step,
        }
    }
}

const CONFIG: &str = "config.toml";

/// The configuration with every default filled in, as it is kept in the run.
fn resolved(config: &TrainConfig) -> Result<String, TrainerError> {
    toml::to_string(config)
        .map_err(|error| TrainerError::io("write", Path::new(CONFIG))(std::io::Error::other(error)))
}

/// The first line in which two resolved configurations differ.
fn first_difference(earlier: &str, now: &str) -> Option<String> {
    let mut pairs = earlier.lines().zip(now.lines());
    if let Some((earlier, now)) = pairs.find(|(earlier, now)| earlier != now) {
        return Some(format!("`{earlier}` there, `{now}` here"));
    }
    (earlier.lines().count() != now.lines().count()).then(|| "one has more keys".to_owned())
}

/// The running state of a training.
struct Loop<'a> {
    training: &'a Training,
    options: &'a RunOptions<'a>,
    output: &'a Path,
    model: SequenceClassifier,
    names: ParameterNames,
    optimizer: AdamW,
    progress: Progress,
    best: Option<ParameterValues>,
    log: MetricsLog,
    device: Device,
    total_steps: usize,
    started: Instant,
    speed: Speed,
    last_loss: Option<f64>,
    last_validation: Option<BTreeMap<String, f64>>,
}

impl Loop<'_> {
    /// Continues where a checkpoint was written.
    fn restore(&mut self, state: CheckpointState) -> Result<(), TrainerError> {
        self.model = self
            .names
            .with_values(self.model.clone(), &state.parameters)?;
        let device = self.device.clone().inner();
        self.optimizer
            .restore(&state.optimizer, state.progress.step, &device)?;
        self.progress = state.progress;
        self.best = state.best;
        Ok(())
    }

    /// Runs to the end; returns whether it got there.
    fn run(&mut self, observer: &mut dyn Observer) -> Result<bool, TrainerError> {
        let config = &self.training.config.training;
        let encodings = &self.training.train.encodings;
        let lengths: Vec<usize> = encodings
            .iter()
            .map(|encoding| encoding.ids.len())
            .collect();
        while self.progress.epoch < config.epochs && !self.is_over() {
            let plan = BatchPlan::training(
                &lengths,
                config.batch_size,
                config.batching,
                self.training.config.seed,
                self.progress.epoch,
            );
            let groups: Vec<&[Vec<usize>]> = plan
                .batches()
                .chunks(config.gradient_accumulation.get())
                .collect();
            while self.progress.batch < groups.len() && !self.is_over() {
                self.step(groups[self.progress.batch], groups.len(), observer)?;
                let due = config
                    .save_every
                    .is_some_and(|every| self.progress.step % every == 0);
                if self.options.stop.load(Ordering::Relaxed) {
                    self.save()?;
                    return Ok(false);
                }
                if due && self.progress.batch < groups.len() {
                    self.save()?;
                }
            }
            if self.progress.batch == groups.len() {
                self.progress.epoch += 1;
                self.progress.batch = 0;
                self.end_epoch(observer)?;
            }
        }
        Ok(true)
    }

    fn is_over(&self) -> bool {
        let patience = self.training.config.training.early_stopping;
        self.progress.step >= self.total_steps
            || patience.is_some_and(|patience| self.progress.without_improvement >= patience.get())
    }

    /// One optimizer step over a group of batches.
    fn step(
        &mut self,
        group: &[Vec<usize>],
        groups: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let config = &self.training.config;
        let examples = &self.training.train;
        if config.base.dropout > 0.0 || config.adapter.dropout > 0.0 {
            // A seed a step makes a resumed training draw what an uninterrupted one draws.
            self.device.seed(
                config.seed ^ (self.progress.step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
        }
        let mut gradients = NamedGradients::new();
        let mut step_loss = 0.0;
        for indices in group {
            let batch = batch(&examples.encodings, indices);
            let logits = self.model.forward(&batch, &self.device);
            let loss = loss(logits, &examples.targets, indices, &self.device);
            let mut found = loss.backward();
            accumulate(
                &mut gradients,
                named_gradients(&self.model, &self.names, &mut found),
            );
            step_loss += f64::from(loss.into_scalar::<f32>()) / group.len() as f64;
            self.speed.count(indices.len(), batch.tokens());
        }
        if !step_loss.is_finite() {
            let (step, loss) = (self.progress.step + 1, step_loss as f32);
            return Err(TrainerError::Diverged { step, loss });
        }
        clip(
            &mut gradients,
            1.0 / group.len() as f64,
            config.training.gradient_clip,
        );
        let scale = self.schedule()?;
        let base = config.training.learning_rate;
        let head = config.training.head_learning_rate.unwrap_or(base);
        let is_factor = |name: &str| name.contains('/');
        self.model = self
            .optimizer
            .step(self.model.clone(), &self.names, gradients, |name| {
                scale * if is_factor(name) { base } else { head }
            });
        self.progress.step += 1;
        self.progress.batch += 1;
        self.progress.loss_sum += step_loss;
        self.progress.loss_count += 1;
        observer.advanced(self.progress.step);
        let step = self.progress.step;
        if step == 1 || step % config.training.log_every == 0 || step == self.total_steps {
            self.log_step(groups, scale * base, observer)?;
        }
        Ok(())
    }

    /// What the learning rates are multiplied by at the present step.
    fn schedule(&self) -> Result<f64, TrainerError> {
        let config = &self.training.config;
        let warmup = config.warmup()?.steps(self.total_steps);
        let scheduler = config.training.scheduler;
        let scale = scheduler.learning_rate(self.progress.step, self.total_steps, 1.0, warmup);
        Ok(match scheduler {
            Scheduler::ReduceOnPlateau => scale * self.progress.plateau.factor,
            _ => scale,
        })
    }

    fn log_step(
        &mut self,
        groups: usize,
        learning_rate: f64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let loss = self.progress.loss_sum / self.progress.loss_count as f64;
        let (examples_per_second, tokens_per_second) = self.speed.rates();
        let record = StepRecord {
            step: self.progress.step,
            epoch: self.progress.epoch as f64 + self.progress.batch as f64 / groups as f64,
            loss,
            learning_rate,
            examples_per_second,
            tokens_per_second,
        };
        self.log.write(&record)?;
        observer.logged(&record);
        self.last_loss = Some(loss);
        self.progress.loss_sum = 0.0;
        self.progress.loss_count = 0;
        self.speed = Speed::new();
        Ok(())
    }

    /// Evaluates if it is due, updates what depends on it, and writes a checkpoint.
    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<(), TrainerError> {
        let config = &self.training.config.training;
        let last = self.progress.step >= self.total_steps;
        let due = match config.evaluate_every {
            0 => last,
            every => last || self.progress.epoch % every == 0,
        };
        if due && let Some(figures) = self.evaluate(Split::Validation, observer)? {
            let metric = self.training.config.task.metrics()[0];
            let figure = figures.get(metric.name()).copied().unwrap_or(f64::NAN);
            let better =
                self.progress
                    .best
                    .as_ref()
                    .is_none_or(|best| match metric.higher_is_better() {
                        true => figure > best.figure,
                        false => figure < best.figure,
                    });
            if better {
                self.progress.best = Some(Best {
                    step: self.progress.step,
                    figure,
                });
                self.progress.without_improvement = 0;
                if config.keep == Keep::Best {
                    self.best = Some(self.names.values_of(&self.model));
                }
            } else {
                self.progress.without_improvement += 1;
            }
            self.progress
                .plateau
                .update(figure, metric.higher_is_better(), &config.plateau);
            self.last_validation = Some(figures);
        }
        self.save()
    }

    fn evaluate(
        &mut self,
        split: Split,
        observer: &mut dyn Observer,
    ) -> Result<Option<BTreeMap<String, f64>>, TrainerError> {
        let training = self.training;
        let examples = match split {
            Split::Train => Some(&training.train),
            Split::Validation => training.validation.as_ref(),
            Split::Test => training.test.as_ref(),
        };
        let Some(Examples { encodings, targets }) = examples else {
            return Ok(None);
        };
        let started = Instant::now();
        let outputs = training.targets.outputs();
        let size = training.config.training.evaluation_batch_size;
        let device = self.device.clone().inner();
        let logits = all_logits(
            &self.model.valid(),
            encodings,
            outputs,
            size,
            &device,
            &|_| {},
        );
        let figures = figures(&training.config.task.metrics(), &logits, outputs, targets)?;
        let record = EvaluationRecord {
            step: self.progress.step,
            epoch: self.progress.epoch as f64,
            split,
            loss: host_loss(&logits, outputs, targets),
            metrics: figures.clone(),
            examples_per_second: encodings.len() as f64 / started.elapsed().as_secs_f64(),
        };
        self.log.write(&record)?;
        observer.evaluated(&record);
        self.speed = Speed::new();
        Ok(Some(figures))
    }

    fn save(&mut self) -> Result<(), TrainerError> {
        self.progress.metrics_bytes = self.log.bytes()?;
        let progress = Progress {
            seconds: self.progress.seconds + self.started.elapsed().as_secs_f64(),
            ..self.progress.clone()
        };
        save(
            self.output,
            &CheckpointState {
                progress,
                parameters: self.names.values_of(&self.model),
                optimizer: self.optimizer.state(),
                best: self.best.clone(),
            },
        )?;
        Ok(())
    }
}

/// Examples and tokens since the last logged line.
struct Speed {
    since: Instant,
    examples: usize,
    tokens: usize,
}

impl Speed {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            examples: 0,
            tokens: 0,
        }
    }

    fn count(&mut self, examples: usize, tokens: usize) {
        self.examples += examples;
        self.tokens += tokens;
    }

    fn rates(&self) -> (f64, f64) {
        let seconds = self.since.elapsed().as_secs_f64();
        (self.examples as f64 / seconds, self.tokens as f64 / seconds)
    }
}
