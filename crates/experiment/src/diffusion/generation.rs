//! Images of prompts, in a directory.

use std::path::Path;

use eigenmix_diffusion::{Generator, ImageRequest, SamplerKind};
use eigenmix_images::{RgbImage, encode_png};
use eigenmix_tensors::{FileError, write_directory, write_file};
use eigenmix_trainer::DeviceChoice;
use serde::Serialize;

use super::similarity::{Similarity, SimilarityMeasure, SimilarityRequest};
use super::{PipelineRequest, PromptTokenizers};
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

/// How an image was made: the file beside the images, and what is in each of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageRecord {
    pub file: String,
    pub prompt: String,
    pub negative_prompt: String,
    pub base: String,
    /// Each with its weight.
    pub adapters: Vec<(String, f32)>,
    pub width: usize,
    pub height: usize,
    pub steps: usize,
    pub guidance: f64,
    pub sampler: SamplerKind,
    pub seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
}

/// The list of the images of a directory.
pub(crate) const IMAGES_FILE: &str = "images.json";

/// Makes the images and writes them with `images.json`, all or nothing.
///
/// # Errors
/// If the model, an adapter or a setting cannot be used, or the directory cannot be written.
pub fn generate(
    request: &GenerateRequest,
    destination: &Destination,
    listener: &dyn Listener,
) -> Result<Vec<ImageRecord>, ExperimentError> {
    if request.prompts.is_empty() || request.images == 0 {
        return Err(BadInput("no image was asked for".to_owned()).into());
    }
    let opened = request.model.open(listener)?;
    let (pipeline, kind) = (opened.pipeline.clone(), opened.kind);
    let schedule = pipeline.schedule()?;
    let sampler = match request.sampler {
        Some(sampler) => sampler,
        None => {
            let found = SamplerKind::of_scheduler(schedule.json());
            if let (None, Some(class)) = (found, few_step_scheduler(schedule.json())) {
                listener.warn(&format_args!(
                    "the model asks for {class}, which is not built here, and is sampled by Euler's method: \
                     models of few steps need it to be told their number (--steps) and a guidance of 1 (--guidance 1)"
                ));
            }
            found.unwrap_or_default()
        }
    };
    // What the scheduler's file asks for is refused before gigabytes of weights are read.
    schedule.sampler(sampler, request.steps)?;
    let device = request.device.open()?;
    let similarity = request.similarity.as_ref();
    let similarity =
        similarity.map(|similarity| SimilarityMeasure::open(similarity, request.device));
    let similarity = similarity.transpose()?;
    let mut report = |report: &_| load_report::show(report, listener);
    let generator = Generator::new(opened, &device, &mut report)?;
    let tokenizers = PromptTokenizers::open(&pipeline, kind, &generator.encoders().sizes())?;
    let [height, width] = generator.usual_size();
    let size = [
        request.height.unwrap_or(height),
        request.width.unwrap_or(width),
    ];
    let guidance = request
        .guidance
        .unwrap_or_else(|| generator.usual_guidance());
    if guidance <= 1.0 && !request.negative_prompt.is_empty() {
        listener.warn(&format_args!(
            "with a guidance of {guidance} the negative prompt has no effect"
        ));
    }
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
    let total = request.prompts.len() * request.images;
    let progress = listener.progress("generating", total * request.steps, "steps");
    let mut records = Vec::new();
    let write = |directory: &Path| {
        for (index, text) in request.prompts.iter().enumerate() {
            let prompt = encode(text)?;
            for image in 0..request.images {
                let seed = request.seed.wrapping_add(image as u64);
                let image_request = ImageRequest {
                    prompt: prompt.clone(),
                    negative: negative.clone(),
                    size,
                    steps: request.steps,
                    guidance,
                    sampler,
                    seed,
                };
                let found = generator.image(&image_request, |_| progress.advance())?;
                let image = RgbImage::new(size[1], size[0], found.pixels);
                let similarity = similarity.as_ref();
                let similarity = similarity.map(|measure| measure.of(&image, text, listener));
                let record = ImageRecord {
                    file: format!("{index:03}-{seed}.png"),
                    prompt: text.clone(),
                    negative_prompt: request.negative_prompt.clone(),
                    base: request.model.base.clone(),
                    adapters: (request.model.adapters.iter())
                        .map(|adapter| (adapter.name.clone(), adapter.weight))
                        .collect(),
                    width: size[1],
                    height: size[0],
                    steps: request.steps,
                    guidance,
                    sampler,
                    seed,
                    similarity: similarity.transpose()?,
                };
                write_image(&directory.join(&record.file), &image, &record)?;
                records.push(record);
            }
        }
        let text = serde_json::to_string_pretty(&records)?;
        write_file(&directory.join(IMAGES_FILE), format!("{text}\n").as_bytes())?;
        Ok::<_, ExperimentError>(())
    };
    write_directory(destination.path(), destination.force(), write)?;
    Ok(records)
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

/// Writes an image with how it was made: `parameters` as other programs read it, and `eigenmix` in full.
fn write_image(path: &Path, image: &RgbImage, record: &ImageRecord) -> Result<(), ExperimentError> {
    let negative = match record.negative_prompt.as_str() {
        "" => String::new(),
        text => format!("\nNegative prompt: {text}"),
    };
    let sampler = SamplerKind::NAMES.into_iter();
    let mut sampler = sampler.filter(|(_, kind)| *kind == record.sampler);
    let parameters = format!(
        "{}{negative}\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}",
        record.prompt,
        record.steps,
        sampler.next().map_or("", |(name, _)| name),
        record.guidance,
        record.seed,
        record.width,
        record.height
    );
    let texts = [
        ("parameters", parameters),
        ("eigenmix", serde_json::to_string(record)?),
    ];
    let bytes = encode_png(image, &texts).map_err(FileError::io("write", path))?;
    Ok(write_file(path, &bytes)?)
}
