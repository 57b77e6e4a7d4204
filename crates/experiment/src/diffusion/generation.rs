//! Images of prompts, in a directory.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use eigenmix_diffusion::{
    Generator, ImageRecord, ImageRequest, ImageSettings, NoiseSchedule, PromptIds,
    PromptTokenizers, SamplerKind,
};
use eigenmix_images::RgbImage;
use eigenmix_tensors::{write_directory, write_file};
use eigenmix_trainer::DeviceChoice;

use super::PipelineRequest;
use super::similarity::{MeasuredImage, SimilarityMeasure, SimilarityRequest};
use crate::destination::Destination;
use crate::listener::Listener;
use crate::{BadInput, ExperimentError, load_report};

/// What images are made.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub model: PipelineRequest,
    pub prompts: Vec<String>,
    pub negative_prompt: String,
    /// How many images of each prompt, of consecutive seeds.
    pub images: usize,
    pub steps: usize,
    /// That of diffusers for such a model without one.
    pub guidance: Option<f64>,
    /// That of the model without one.
    pub sampler: Option<SamplerKind>,
    pub seed: u64,
    /// Width and height; those that the model was trained for without.
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// What the images are compared with.
    pub similarity: Option<SimilarityRequest>,
    pub device: DeviceChoice,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    pub images: Vec<MeasuredImage>,
    /// Whether the work was stopped before all images were made.
    pub is_stopped: bool,
}

/// The list of the images of a directory.
pub(crate) const IMAGES_FILE: &str = "images.json";

/// Makes the images and writes them with `images.json`, all or nothing.
///
/// - stop: asks to stop after a sampling step; the images that are finished by then are written
///
/// # Errors
/// If the model, an adapter or a setting cannot be used, the directory cannot be written, or the work was
/// stopped before an image was finished.
pub fn generate(
    request: &GenerateRequest,
    destination: &Destination,
    stop: &AtomicBool,
    listener: &dyn Listener,
) -> Result<Generated, ExperimentError> {
    let made = Making::prepare(request, listener)?;
    let mut generated = None;
    let write = |directory: &Path| {
        let found = made.write(directory, stop, listener)?;
        write_list(&found.images, directory)?;
        generated = Some(found);
        Ok::<_, ExperimentError>(())
    };
    write_directory(destination.path(), destination.force(), write)?;
    let generated = generated.ok_or(ExperimentError::Interrupted)?;
    if generated.is_stopped {
        listener.warn(&format_args!(
            "stopped: `{}` has the {} of {} images that were finished",
            destination.path().display(),
            generated.images.len(),
            made.requests.len()
        ));
    }
    Ok(generated)
}

/// Writes the list of the images of a directory.
pub(super) fn write_list(
    images: &[MeasuredImage],
    directory: &Path,
) -> Result<(), ExperimentError> {
    let text = serde_json::to_string_pretty(images)?;
    Ok(write_file(
        &directory.join(IMAGES_FILE),
        format!("{text}\n").as_bytes(),
    )?)
}

/// Images that are asked for, checked but not made.
pub(super) struct Making<'a> {
    request: &'a GenerateRequest,
    generator: Generator,
    prompts: Vec<PromptIds>,
    negative: PromptIds,
    requests: Vec<ImageRequest>,
    similarity: Option<SimilarityMeasure>,
}

impl<'a> Making<'a> {
    /// # Errors
    /// If the model, an adapter or a setting cannot be used.
    pub fn prepare(
        request: &'a GenerateRequest,
        listener: &dyn Listener,
    ) -> Result<Self, ExperimentError> {
        if request.prompts.is_empty() || request.images == 0 {
            return Err(BadInput("no image was asked for".to_owned()).into());
        }
        let opened = request.model.open(listener)?;
        let (pipeline, kind) = (opened.pipeline.clone(), opened.kind);
        let device = request.device.open()?;
        let generator = Generator::new(opened, &device)?;
        let sampler = match request.sampler {
            Some(sampler) => sampler,
            None => usual_sampler(generator.schedule(), listener),
        };
        let [height, width] = generator.usual_size();
        let settings = ImageSettings {
            size: [
                request.height.unwrap_or(height),
                request.width.unwrap_or(width),
            ],
            steps: request.steps,
            guidance: request
                .guidance
                .unwrap_or_else(|| generator.usual_guidance()),
            sampler,
            seed: request.seed,
        };
        // What cannot be done is refused before gigabytes of weights are read.
        generator.check(&settings)?;
        if settings.guidance <= 1.0 && !request.negative_prompt.is_empty() {
            listener.warn(&format_args!(
                "with a guidance of {} the negative prompt has no effect",
                settings.guidance
            ));
        }
        let tokenizers = PromptTokenizers::open(&pipeline, kind, &generator.text_sizes()?)?;
        let encode = |text: &str| {
            let prompt = tokenizers.encode(text)?;
            if prompt.is_cut {
                let start: String = text.chars().take(40).collect();
                listener.warn(&format_args!(
                    "the prompt `{start}…` is longer than the text encoder takes; its end has no effect"
                ));
            }
            Ok::<_, ExperimentError>(prompt.ids)
        };
        let negative = encode(&request.negative_prompt)?;
        let prompts = request.prompts.iter().map(|text| encode(text));
        let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
        let requests: Vec<ImageRequest> = (0..prompts.len())
            .flat_map(|prompt| (0..request.images).map(move |image| (prompt, image as u64)))
            .map(|(prompt, image)| ImageRequest {
                prompt,
                settings: ImageSettings {
                    seed: request.seed.wrapping_add(image),
                    ..settings.clone()
                },
            })
            .collect();
        let similarity = request.similarity.as_ref();
        let similarity =
            similarity.map(|similarity| SimilarityMeasure::open(similarity, request.device));
        Ok(Self {
            request,
            generator,
            prompts,
            negative,
            requests,
            similarity: similarity.transpose()?,
        })
    }

    /// Makes the images in a directory.
    ///
    /// # Errors
    /// If an image cannot be made or written, or the work was stopped before one was finished.
    pub fn write(
        &self,
        directory: &Path,
        stop: &AtomicBool,
        listener: &dyn Listener,
    ) -> Result<Generated, ExperimentError> {
        let total = self.requests.len();
        let progress = listener.progress("generating", total * self.request.steps, "steps");
        let step = || {
            progress.advance();
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let mut images = Vec::new();
        let mut report = |report: &_| load_report::show(report, listener);
        let visit = |made: &ImageRequest, image: RgbImage| {
            let record = self.request.record(made);
            record.write(&image, directory)?;
            let similarity = self.similarity.as_ref();
            let similarity = similarity.map(|measure| measure.of(&image, &record.prompt, listener));
            images.push(MeasuredImage {
                record,
                similarity: similarity.transpose()?,
            });
            Ok::<_, ExperimentError>(())
        };
        let (prompts, negative) = (&self.prompts, &self.negative);
        let generator = &self.generator;
        generator.images(prompts, negative, &self.requests, &mut report, step, visit)?;
        match images.is_empty() {
            true => Err(ExperimentError::Interrupted),
            false => Ok(Generated {
                is_stopped: images.len() < total,
                images,
            }),
        }
    }
}

impl GenerateRequest {
    /// How an image of this request is made.
    fn record(&self, made: &ImageRequest) -> ImageRecord {
        let ImageSettings {
            size: [height, width],
            steps,
            guidance,
            sampler,
            seed,
        } = made.settings;
        ImageRecord {
            file: format!("{:03}-{seed}.png", made.prompt),
            prompt: self.prompts[made.prompt].clone(),
            negative_prompt: self.negative_prompt.clone(),
            base: self.model.base.clone(),
            adapters: (self.model.adapters.iter())
                .map(|adapter| (adapter.name.clone(), adapter.weight))
                .collect(),
            step: None,
            width,
            height,
            steps,
            guidance,
            sampler,
            seed,
        }
    }
}

/// The sampler of a model's own scheduler, or Euler's.
fn usual_sampler(schedule: &NoiseSchedule, listener: &dyn Listener) -> SamplerKind {
    let found = SamplerKind::of_scheduler(schedule.json());
    if let (None, Some(class)) = (found, few_step_scheduler(schedule.json())) {
        listener.warn(&format_args!(
            "the model asks for {class}, which is not built here, and is sampled by Euler's method: \
             models of few steps need it to be told their number (--steps) and a guidance of 1 (--guidance 1)"
        ));
    }
    found.unwrap_or_default()
}

/// The scheduler of a model, if it is one for models of a few steps.
fn few_step_scheduler(json: &serde_json::Value) -> Option<&str> {
    let class = json.get("_class_name")?.as_str()?;
    let few = [
        "LCMScheduler",
        "TCDScheduler",
        "EulerAncestralDiscreteScheduler",
    ];
    few.contains(&class).then_some(class)
}

/// Whether a file is [`IMAGES_FILE`] as it is written here.
pub(crate) fn is_list_of_images(path: &Path) -> bool {
    let records = std::fs::read(path).ok();
    let records = records.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let is_record = |record: &serde_json::Value| {
        ["file", "prompt", "sampler", "seed"]
            .iter()
            .all(|key| record.get(key).is_some())
    };
    records.is_some_and(|records| {
        let records = records.as_array().filter(|records| !records.is_empty());
        records.is_some_and(|records| records.iter().all(is_record))
    })
}
