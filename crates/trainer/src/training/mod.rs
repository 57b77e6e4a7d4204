//! A training from its file to its adapter: everything is read and checked before the first step,
//! then the loop runs, and it can be resumed from every checkpoint as if it had never stopped.

mod any_training;
mod backward_pass;
mod batches;
mod chosen_start;
mod composed_start;
mod composition_weights;
mod flat_adamw;
mod gradient;
mod gradient_sum;
mod initial_head;
mod joined_gradient;
mod micro_batches;
mod optimizer;
mod plain_adapter;
mod result;
mod same_inputs;
mod same_start;
mod selection;
mod shared_steps;
mod shows;
mod speed;
mod trained_model;
mod training_data;
mod training_length;
mod training_loop;
mod truncated_result;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, AdapterFile, Source, is_saved_by};
use eigenmix_data::metrics::Metric;
use eigenmix_data::{Split, Targets};
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_kernels::computes_later;
use eigenmix_models::{Adaptation, Description, HeadKind, LoadOptions, Network, Train};
use eigenmix_moslora::{TrainedValues, Update, trained_parameters};
use eigenmix_tensors::{FileError, HostTensor};

use crate::adapter_config::AdapterConfig;
use crate::config::TrainConfig;
use crate::init::Init;
use crate::methods::{
    BasisSource, own_output, require_effect, start, uncomputed_note, with_own_output,
};
use crate::outcome::{Observer, Outcome, RunOptions, TrainingPlan};
use crate::peak_memory;
use crate::run::Run;
use crate::run_output;
use crate::{BaseModel, TrainerError, ZeroShot};
pub use any_training::Training;
pub(crate) use batches::Batches;
pub use chosen_start::ChosenStart;
pub(crate) use chosen_start::set_to_zero;
use composition_weights::CompositionWeights;
pub use gradient::{GradientOptions, ModuleGradient, TaskGradient};
use initial_head::{initial_head, other_input};
#[cfg(test)]
pub(crate) use optimizer::{NamedGradients, accumulate, named_gradients};
use result::Trained;
pub(crate) use same_inputs::digest_of_model;
pub(crate) use same_start::Origin;
pub use selection::{
    MeasuredLoss, Prospect, SelectedAdapter, Selection, SelectionOptions, Unusable, UsableAdapter,
};
pub use shared_steps::SharedSteps;
pub(crate) use shows::{ShownImage, Shows};
pub use trained_model::TrainedModel;
pub(crate) use trained_model::{Minibatch, Pass};
pub(crate) use training_data::{Measured, TrainingData, require_measurements};
pub(crate) use training_length::TrainingLength;
pub(crate) use training_loop::Loop;
use truncated_result::TruncatedResult;

/// Tells that the steps begin.
pub(crate) fn announce(plan: &TrainingPlan, options: &RunOptions, observer: &mut dyn Observer) {
    observer.started(plan);
    if computes_later(&options.device) {
        observer.note(FIRST_STEPS);
    }
}

/// What is said before the first step on a GPU.
const FIRST_STEPS: &str = "the first steps compile kernels for this device and try which are fastest, which may take minutes";

/// A training whose inputs have been read and checked.
pub struct NetworkTraining {
    config: TrainConfig,
    base: BaseModel,
    head: HeadKind,
    /// The prompts of a zero-shot head and their labels; `None` if the head is trained.
    zero_shot: Option<ZeroShot>,
    description: Description,
    data: TrainingData,
    updates: BTreeMap<String, Update>,
    /// Where the updates start.
    start: Init,
    /// The head of the adapter that it goes on from, if that is for the same labels.
    initial_head: BTreeMap<String, HostTensor>,
    /// The adapter whose factors or whose projection the updates are.
    started_from: Option<Source>,
    /// What the frozen basis is made of.
    basis: Vec<Source>,
    /// The options of the adapter, where some come from the one that it goes on from.
    settled: AdapterConfig,
    sources: Vec<Source>,
    /// Of a composition: the adapters of the weights of every module, as indices into `sources`.
    members: BTreeMap<String, Vec<usize>>,
    /// The composition of the recycled adapters to start from, once its weights are found.
    composition: Option<Adapter>,
    /// The variances of the subspace, if the method has one.
    spectra: BTreeMap<String, ModuleSpectra>,
    /// Of the base model, the data and the head.
    notes: Vec<String>,
    /// Of the adapter's start.
    start_notes: Vec<String>,
}

impl NetworkTraining {
    /// Reads everything that the configuration names: data, tokenizer, adapters, base model.
    ///
    /// # Errors
    /// If any of it is missing, malformed or does not fit the rest.
    pub fn prepare(config: TrainConfig) -> Result<Self, TrainerError> {
        config.validate()?;
        if config.task.kind.is_of_diffusion_models() {
            let task = config.task.kind.name();
            return Err(TrainerError::OfNetworks { task });
        }
        let mut base = match config.base.from_scratch {
            true => BaseModel::open_config(&config.base.model)?,
            false => BaseModel::open(&config.base.model)?,
        };
        base.checkpoint.set_precision(config.base.weights);
        let data = TrainingData::read(&config, &base)?;
        let zero_shot = match (config.task.prompts()?, &data.targets) {
            (Some(prompts), Some(Targets::Classes(labels))) => {
                Some(ZeroShot::new(&base, &prompts, labels)?)
            }
            _ => None,
        };
        let labels = data.targets.as_ref().map_or(0, Targets::outputs);
        let task = config.task.kind.definition();
        let head = task.head(labels, zero_shot.is_some());
        let own = with_own_output(&config.adapter, &base, head)?;
        let is_parted = own.is_some() && !config.base.from_scratch;
        if let Some(own) = own.filter(|_| is_parted) {
            base.architecture = own;
        }
        let description = base.architecture.describe(head)?;
        let first = config.adapter.first_start();
        let start = start(&BasisSource {
            config: &config.adapter.starting_from(&first),
            base: &base,
            description: &description,
            seed: config.seed,
            gradient: None,
            composition: None,
        })?;
        let base_note = base.checkpoint.note().map(str::to_owned);
        let mut notes: Vec<String> = base_note.into_iter().chain(data.notes.clone()).collect();
        notes.extend(uncomputed_note(
            &config.adapter,
            &base,
            &description,
            &start.updates,
        ));
        let mut head_of_adapter = BTreeMap::new();
        let settled = start.settled.unwrap_or_else(|| config.adapter.clone());
        require_saved(&settled, &description)?;
        require_effect(&base, &start.updates, &settled.modules_to_save)?;
        if let Some(initial) = &start.initial {
            initial.require_outside(Path::new(&config.output))?;
            let targets = data.targets.as_ref();
            head_of_adapter =
                initial_head(initial, &base, head, &description, targets, &mut notes)?;
            head_of_adapter.extend(initial.saved_whole(&settled.modules_to_save)?);
            notes.extend(other_input(initial, &data)?);
        }
        if is_parted {
            head_of_adapter.extend(own_output(&base)?);
            notes.push(
                "the output layer is tied to the table of tokens: the update is put on the output \
                 layer alone, and the embeddings stay as they are"
                    .to_owned(),
            );
        }
        data.require_measurable()?;
        Ok(Self {
            initial_head: head_of_adapter,
            started_from: start.started_from,
            settled,
            head,
            zero_shot,
            description,
            notes,
            start_notes: start.notes,
            data,
            updates: start.updates,
            start: first,
            basis: start.basis,
            sources: start.sources,
            composition: None,
            members: start.members,
            spectra: start.spectra,
            base,
            config,
        })
    }

    /// How many examples a split has, if there is one: of the training split, those that are drawn and not
    /// held out.
    pub fn rows(&self, split: Split) -> Option<usize> {
        self.data.split(split).map(|examples| examples.len())
    }

    /// Whether examples have labels or numbers to predict, one or a set for each.
    pub fn has_targets(&self) -> bool {
        self.data.targets.is_some()
    }

    /// The metric that decides which state is best.
    pub fn first_metric(&self) -> Metric {
        self.data.metrics[0]
    }

    /// Runs the training, or the rest of it, in every process alike.
    ///
    /// # Errors
    /// As [`Training::run`].
    pub(crate) fn run(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let processes = options.processes;
        let writes = processes.is_first();
        let resolved = resolved(&self.config)?;
        self.require_same_inputs(processes, &resolved)?;
        let output = PathBuf::from(&self.config.output);
        let method = self.config.adapter.method;
        peak_memory::reset();
        let chosen = self.choose_start(options, observer)?;
        let composed = self.compose_start(options, observer)?;
        let gradient = self.join_gradient(options, observer)?;
        let adaptation = Adaptation {
            updates: self.updates.clone(),
            tensors: self.brought_tensors(&options.device)?,
            saved: self.settled.modules_to_save.clone(),
            ..Adaptation::default()
        };
        let load = LoadOptions {
            head: self.head,
            adaptation: &adaptation,
            train: match method.trains_everything() {
                true => Train::Everything,
                false => Train::Head,
            },
            dropout: self.config.base.dropout,
            seed: self.config.seed,
        };
        let loaded = Network::load(
            &self.base.checkpoint,
            &self.base.architecture,
            &load,
            &options.device.clone().autodiff(),
        )?;
        // An earlier run is removed (--force) only here, after everything that can fail before the
        // first step.
        let _lock = match writes {
            true => Some(run_output::open(&output, &resolved, options)?),
            false => None,
        };
        let gradient = gradient.filter(|_| writes);
        if let (Some(gradient), Some(config)) = (gradient, self.config.adapter.gradient_config()) {
            let path = output.join(Run::GRADIENT);
            self.save_gradient(&gradient, &config.options(), &path, Vec::new(), true)?;
            self.basis.push(AdapterFile::open(&path)?.source());
        }
        if let Some(chosen) = chosen.as_ref().filter(|_| writes) {
            chosen.write(&output)?;
        }
        if self.composition.is_some() && writes {
            let path = output.join(Run::COMPOSITION);
            if let Some(composed) = composed {
                composed.save(self, &path)?;
            }
            self.basis.push(AdapterFile::open(&path)?.source());
        }
        let (checkpoint, log) = self.origin().go_on(&self.config, &output, options)?;
        let mut state = Loop::new(
            &self.config,
            &self.data,
            options,
            &output,
            (loaded.model, loaded.names),
            log,
            checkpoint,
        )?;
        state.began_with(
            self.started_from.clone(),
            self.origin().scalings(),
            self.basis.clone(),
        );
        self.origin()
            .require_same_values(processes, || state.values())?;
        let plan = self.plan(&state);
        self.notes().for_each(|note| observer.note(note));
        announce(&plan, options, observer);
        let finished = state.run(observer)?;
        let mut outcome = Outcome {
            output: output.clone(),
            interrupted: !finished,
            steps: state.steps(),
            seconds: state.seconds(),
            adapter_parameters: plan.adapter_parameters,
            head_parameters: plan.head_parameters,
            bytes: 0,
            examples_per_second: state.examples_per_second(),
            peak_memory: None,
            processes: state.shared().cloned(),
            start: chosen,
            loss: state.last_loss(),
            validation: state.last_validation().cloned(),
            test: None,
        };
        if !finished {
            return Ok(outcome);
        }
        let kept = state.kept_values();
        let truncated = TruncatedResult::new(self, &kept)?;
        if let Some(truncated) = &truncated {
            let device = options.device.clone().autodiff();
            state.evaluate_with(truncated.network(self, &kept, state.names(), &device)?);
            observer.note(&truncated.note());
        }
        let finished = state.finish(observer)?;
        (outcome.validation, outcome.test) = (finished.validation, finished.test);
        let weights = match method.is_composition() {
            true => Some(CompositionWeights::new(
                &self.updates,
                &finished.values,
                &self.members,
                &self.sources,
            )?),
            false => None,
        };
        if let Some(weights) = &weights {
            observer.note(&format!("the adapter is a composition {weights}"));
        }
        if !writes {
            return Ok(outcome);
        }
        let trained = Trained {
            truncated: truncated.as_ref(),
            weights,
            config: &self.config,
            settled: &self.settled,
            base: &self.base,
            description: &self.description,
            head: self.head,
            updates: &self.updates,
            sources: self.all_sources(),
            data: &self.data,
            names: state.names(),
            values: &finished.values,
        };
        outcome.bytes = match method.trains_everything() {
            true => trained.save_model(&output)?,
            false => trained.save(&output)?,
        };
        self.origin().write_basis(&self.spectra, &output)?;
        outcome.peak_memory = peak_memory::read();
        outcome.write_to(&output)?;
        Ok(outcome)
    }

    /// The tensors that do not come from the base model's checkpoint: the head that prompts make, or what
    /// an adapter brings that the training goes on from.
    fn brought_tensors(&self, device: &Device) -> Result<TrainedValues, TrainerError> {
        match &self.zero_shot {
            Some(zero_shot) => Ok(zero_shot.head(&self.base, None, device)?.tensors),
            None => Ok(self.initial_head.clone()),
        }
    }

    fn plan(&self, state: &Loop) -> TrainingPlan {
        let adapter_parameters = trained_parameters(&self.updates);
        let all = state.trained_parameters();
        let method = self.config.adapter.method;
        let (adapter_parameters, head_parameters) = match method.trains_everything() {
            true => (all, 0),
            false => (adapter_parameters, all - adapter_parameters),
        };
        let count = |split| self.data.split(split).map_or(0, |examples| examples.len());
        TrainingPlan {
            method,
            adapter_parameters,
            head_parameters,
            base_parameters: self.description.parameters,
            adapted_modules: self.updates.len(),
            train_examples: count(Split::Train),
            validation_examples: count(Split::Validation),
            test_examples: count(Split::Test),
            truncated_examples: self.data.train.truncated(),
            total_steps: state.total_steps(),
            resumed_steps: state.steps(),
        }
    }
}

/// Refuses modules to be trained whole that the model does not have, or that are no linear layers.
fn require_saved(config: &AdapterConfig, description: &Description) -> Result<(), TrainerError> {
    let layers = || description.layers.iter().filter(|layer| !layer.head);
    let is_none = |module: &&String| !layers().any(|layer| is_saved_by(&layer.path, module));
    match config.modules_to_save.iter().find(is_none) {
        None => Ok(()),
        Some(module) => Err(TrainerError::Method {
            key: "adapter.modules_to_save",
            method: config.method.name(),
            reason: format!(
                "no linear layer of the base model is in a module `{module}`, and no others are trained \
                 whole beside an adapter; of a vision-language model `multi_modal_projector` is one"
            ),
        }),
    }
}

/// Whether the run in `directory` was started with this configuration.
fn is_same(config: &TrainConfig, directory: &Path) -> Result<bool, TrainerError> {
    let path = directory.join(Run::CONFIG);
    if !path.is_file() {
        return Ok(false);
    }
    let earlier = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
    Ok(earlier == resolved(config)?)
}

/// The configuration with every default filled in, as it is kept in the run.
pub(crate) fn resolved(config: &TrainConfig) -> Result<String, FileError> {
    let mut config = config.clone();
    if config.task.kind.is_of_diffusion_models() {
        config.diffusion.get_or_insert_default();
    }
    config.adapter.say_defaults();
    toml::to_string(&config).map_err(|error| {
        FileError::io("write", Path::new(Run::CONFIG))(std::io::Error::other(error))
    })
}

#[cfg(test)]
mod vision_language_tests;
