//! The training of a diffusion model from its file to its adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use eigenmix_adapter::Source;
use eigenmix_data::Split;
use eigenmix_data::metrics::Metric;
use eigenmix_diffusion::Part;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_moslora::{ParameterNames, Update, trained_parameters};

use super::denoiser::Denoiser;
use super::diffusion_base::DiffusionBase;
use super::encoded_data::EncodedData;
use super::encoding::Captions;
use super::samples::Samples;
use super::store::Store;
use super::task_data::TaskImages;
use crate::config::TrainConfig;
use crate::init::Init;
use crate::methods::{BasisSource, start};
use crate::outcome::{Observer, Outcome, RunOptions, TrainingPlan};
use crate::run_output;
use crate::training::{
    ChosenStart, Loop, Measured, MeasuredLoss, Origin, announce, require_measurements, resolved,
    set_to_zero,
};
use crate::{TrainerError, peak_memory};

/// On how many images a start is judged, at most.
const JUDGED: usize = 64;

/// A training of a diffusion model whose inputs have been read and checked.
pub struct DiffusionTraining {
    pub(super) config: TrainConfig,
    pub(super) base: DiffusionBase,
    pub(super) images: TaskImages,
    pub(super) captions: Captions,
    pub(super) updates: BTreeMap<String, Update>,
    init: Init,
    sources: Vec<Source>,
    basis: Vec<Source>,
    started_from: Option<Source>,
    spectra: BTreeMap<String, ModuleSpectra>,
    pub(super) metrics: Vec<Metric>,
    pub(super) notes: Vec<String>,
}

impl DiffusionTraining {
    /// Reads everything that the configuration names but weights: images, tokenizers, adapters, the base
    /// model's configurations.
    ///
    /// # Errors
    /// If any of it is missing, malformed or does not fit the rest.
    pub(crate) fn prepare(config: TrainConfig) -> Result<Self, TrainerError> {
        config.validate()?;
        let diffusion = config.diffusion().into_owned();
        let trains_texts = diffusion.train_text_encoders;
        let base = DiffusionBase::open(&config.base, trains_texts)?;
        let images = TaskImages::read(&config, &base)?;
        let first = config.adapter.first_start();
        let start = start(&BasisSource {
            config: &config.adapter.starting_from(&first),
            base: &base,
            description: &base.description,
            seed: config.seed,
            gradient: None,
            composition: None,
        })?;
        if let Some(initial) = &start.initial {
            initial.require_outside(Path::new(&config.output))?;
        }
        let measured = match images.validation {
            Some(_) => Measured::Present,
            None => Measured::Missing,
        };
        require_measurements(&config, measured)?;
        let metrics = match config.task.metrics.is_empty() {
            true => vec![Metric::DenoisingLoss],
            false => config.task.metrics.clone(),
        };
        metrics
            .iter()
            .try_for_each(|metric| metric.of_denoising())?;
        let samples = diffusion.samples.iter();
        let prompts =
            samples.flat_map(|samples| samples.prompts.iter().chain([&samples.negative_prompt]));
        let all = images
            .captions()
            .into_iter()
            .chain(prompts.map(String::as_str));
        let (captions, cut) = Captions::tokenized(&base, all)?;
        let mut notes = base.model.pipeline.notes();
        let parts = [&[Part::Unet, Part::Vae], base.model.text_parts()].concat();
        notes.extend(base.model.unread_notes(&parts)?);
        notes.extend(images.notes.clone());
        if let Some(first) = cut.first() {
            let start: String = first.chars().take(40).collect();
            notes.push(format!(
                "{} captions are longer than the text encoder takes, such as `{start}…`; their ends have no effect",
                cut.len()
            ));
        }
        if let Some(samples) = &diffusion.samples {
            Samples::check(samples, &base, &images.preparation)?;
        }
        notes.extend(start.notes);
        Ok(Self {
            updates: start.updates,
            init: first,
            sources: start.sources,
            basis: start.basis,
            started_from: start.started_from,
            spectra: start.spectra,
            captions,
            images,
            base,
            metrics,
            notes,
            config,
        })
    }

    /// What to say of the model, the data and the start.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }

    /// How many images a split has, if there is one.
    pub(crate) fn rows(&self, split: Split) -> Option<usize> {
        let images = match split {
            Split::Train => Some(&self.images.train),
            Split::Validation => self.images.validation.as_ref(),
            Split::Test => self.images.test.as_ref(),
        };
        images.map(|images| images.len())
    }

    /// The metric that decides which state is best.
    pub(crate) fn first_metric(&self) -> Metric {
        self.metrics[0]
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            init: self.config.adapter.init(),
            updates: &self.updates,
            basis: &self.basis,
            sources: &self.sources,
            started_from: self.started_from.as_ref(),
        }
    }

    /// Runs the training, or the rest of it.
    ///
    /// # Errors
    /// If the output exists, a checkpoint does not fit, an image cannot be read, the loss diverges, a file
    /// cannot be written, or another process has failed.
    pub(crate) fn run(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let output = PathBuf::from(&self.config.output);
        match self.run_to_end(options, observer) {
            Err(TrainerError::Stopped) => Ok(Outcome {
                output,
                interrupted: true,
                ..Outcome::default()
            }),
            ended => ended,
        }
    }

    fn run_to_end(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let processes = options.processes;
        let writes = processes.is_first();
        let resolved = resolved(&self.config)?;
        self.require_same_inputs(options, &resolved)?;
        let output = PathBuf::from(&self.config.output);
        peak_memory::reset();
        run_output::refuse_existing(&output, options)?;
        run_output::refuse_foreign(&output, options)?;
        let data = self.encode(options, observer)?;
        let device = options.device.clone().autodiff();
        let (model, names) = Denoiser::load(&self.base, &self.updates, &device)?;
        let (model, chosen) = self.choose_start(model, &names, &data, options)?;
        // An earlier run is removed (--force) only here, after everything that can fail before the first step.
        let _lock = match writes {
            true => Some(run_output::open(&output, &resolved, options)?),
            false => None,
        };
        if let Some(chosen) = chosen.as_ref().filter(|_| writes) {
            chosen.write(&output)?;
        }
        let (checkpoint, log) = self.origin().go_on(&self.config, &output, options)?;
        let samples = self.samples(&data, &output, options)?;
        let mut state = Loop::new(
            &self.config,
            &data.data,
            options,
            &output,
            (model, names),
            log,
            checkpoint,
        )?;
        if let Some(samples) = samples.as_ref().filter(|_| writes) {
            state.show(samples);
        }
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
            examples_per_second: state.examples_per_second(),
            processes: state.shared().cloned(),
            start: chosen,
            loss: state.last_loss(),
            validation: state.last_validation().cloned(),
            ..Outcome::default()
        };
        if !finished {
            return Ok(outcome);
        }
        let finished = state.finish(observer)?;
        (outcome.validation, outcome.test) = (finished.validation, finished.test);
        if !writes {
            return Ok(outcome);
        }
        outcome.bytes = self.save(&finished.values, &output)?;
        self.origin().write_basis(&self.spectra, &output)?;
        outcome.peak_memory = peak_memory::read();
        outcome.write_to(&output)?;
        Ok(outcome)
    }

    /// The adapters that went into the result.
    pub(super) fn all_sources(&self) -> Vec<Source> {
        self.origin().all_sources()
    }

    fn require_same_inputs(
        &self,
        options: &RunOptions,
        resolved: &str,
    ) -> Result<(), TrainerError> {
        let data = || self.digest_of_images();
        let base = || {
            let parts = [Part::Unet, Part::Vae].into_iter();
            let parts = parts.chain(self.base.model.text_parts().iter().copied());
            let digests = parts.map(|part| self.base.digest_of(part));
            Ok(digests.collect::<Result<Vec<_>, _>>()?.join(" "))
        };
        self.origin()
            .require_same_inputs(options.processes, resolved, data, base)
    }

    /// Of all images and captions.
    fn digest_of_images(&self) -> Result<String, TrainerError> {
        let images = &self.images;
        let splits = [
            Some(&images.train),
            images.validation.as_ref(),
            images.test.as_ref(),
        ];
        let mut lines = Vec::new();
        for split in splits.into_iter().flatten() {
            for (index, image) in split.images().iter().enumerate() {
                let placement = split.place(index, self.config.seed, 0);
                lines.push(split.fingerprint(index, &placement)?);
                lines.push(image.captions.join("\n"));
            }
        }
        Ok(Store::key("images", &lines.join("\n")))
    }

    /// What is shown on the way, if something is.
    fn samples<'a>(
        &'a self,
        data: &EncodedData,
        output: &Path,
        options: &RunOptions<'a>,
    ) -> Result<Option<Samples<'a>>, TrainerError> {
        let diffusion = self.config.diffusion();
        let Some(config) = diffusion.samples.clone() else {
            return Ok(None);
        };
        Ok(Some(Samples {
            settings: config.settings(&self.base, &self.images.preparation),
            config,
            base: &self.base,
            encoded: Arc::clone(&data.encoded),
            zeros_for_empty: self.base.model.pipeline.zeros_for_empty_prompt()?,
            device: options.device.clone().inner(),
            output: output.to_owned(),
            stop: options.stop,
        }))
    }

    /// Takes ΔW = 0 in the place of the average of the adapters, where the configuration leaves it to the data
    /// and the average makes no clear difference.
    fn choose_start(
        &mut self,
        model: Denoiser,
        names: &ParameterNames,
        data: &EncodedData,
        options: &RunOptions,
    ) -> Result<(Denoiser, Option<ChosenStart>), TrainerError> {
        if self.config.adapter.init() != Init::Auto || self.init != Init::Merge {
            return Ok((model, None));
        }
        let mut zeros = self.updates.clone();
        if !set_to_zero(&mut zeros) {
            zeros = self.updates_from(&Init::Zero)?;
        }
        let device = options.device.clone().inner();
        let chosen: Vec<usize> = (0..data.judged.images.len()).take(JUDGED).collect();
        let measure = |model: &Denoiser| {
            let (model, mut losses) = (model.valid(), Vec::new());
            for chosen in chosen.chunks(data.encoded.at_once) {
                let by_band = data.judged.losses(&model, chosen, &device)?;
                losses.extend(by_band.into_iter().flatten());
            }
            Ok::<_, TrainerError>(MeasuredLoss::of_examples(&losses))
        };
        let merge = measure(&model)?;
        let mut values = names.values_of(&model);
        for (path, update) in &zeros {
            for (factor, zero) in update.factors() {
                if let Some(value) = values.get_mut(&format!("{path}/{factor}")) {
                    value.values.copy_from_slice(zero.matrix.values());
                }
            }
        }
        let zero_model = names.with_values(model.clone(), &values)?;
        let zero = measure(&zero_model)?;
        let found = ChosenStart::new(&zero, &merge, chosen.len(), 0.0);
        self.notes.push(found.to_string());
        match found.init {
            Init::Merge => Ok((model, Some(found))),
            _ => {
                self.updates = zeros;
                Ok((zero_model, Some(found)))
            }
        }
    }

    /// The updates of another start on the same basis.
    fn updates_from(&self, init: &Init) -> Result<BTreeMap<String, Update>, TrainerError> {
        let started = start(&BasisSource {
            config: &self.config.adapter.starting_from(init),
            base: &self.base,
            description: &self.base.description,
            seed: self.config.seed,
            gradient: None,
            composition: None,
        })?;
        Ok(started.updates)
    }

    fn plan(&self, state: &Loop<Denoiser>) -> TrainingPlan {
        let rows = |split| self.rows(split).unwrap_or(0);
        TrainingPlan {
            method: self.config.adapter.method,
            adapter_parameters: trained_parameters(&self.updates),
            head_parameters: 0,
            base_parameters: self.base.description.parameters,
            adapted_modules: self.updates.len(),
            train_examples: rows(Split::Train),
            validation_examples: rows(Split::Validation),
            test_examples: rows(Split::Test),
            truncated_examples: 0,
            total_steps: state.total_steps(),
            resumed_steps: state.steps(),
        }
    }
}
