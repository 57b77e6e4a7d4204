//! Images of the same prompts and seeds as a training goes on.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::tensor::Device;
use eigenmix_data::ImagePreparation;
use eigenmix_diffusion::{
    ImageRecord, ImageSettings, PromptConditions, SamplerKind, TextConditions, image_of_prompt,
};
use eigenmix_tensors::write_directory;

use super::config::SamplesConfig;
use super::denoiser::Denoiser;
use super::denoising_batch::Texts;
use super::diffusion_base::DiffusionBase;
use super::examples::Encoded;
use crate::TrainerError;
use crate::run::Run;
use crate::training::{ShownImage, Shows};

/// What is made of them, with what.
pub(crate) struct Samples<'a> {
    pub config: SamplesConfig,
    pub base: &'a DiffusionBase,
    pub encoded: Arc<Encoded>,
    pub settings: ImageSettings,
    /// SDXL: whether an empty negative prompt is zeros.
    pub zeros_for_empty: bool,
    pub device: Device,
    /// That of the run.
    pub output: PathBuf,
    pub stop: &'a AtomicBool,
}

impl SamplesConfig {
    /// How each image is made, but for its seed.
    pub(crate) fn settings(
        &self,
        base: &DiffusionBase,
        preparation: &ImagePreparation,
    ) -> ImageSettings {
        let usual = preparation.size();
        ImageSettings {
            size: self.size.map_or(usual, |[width, height]| [height, width]),
            steps: self.steps.get(),
            guidance: self.guidance.unwrap_or(base.model.kind.usual_guidance()),
            sampler: self.sampler.unwrap_or_else(|| base.usual_sampler()),
            seed: self.seed,
        }
    }
}

impl DiffusionBase {
    /// The sampler of the model, if it is one of those here.
    pub fn usual_sampler(&self) -> SamplerKind {
        SamplerKind::of_scheduler(self.schedule.json()).unwrap_or_default()
    }
}

impl Samples<'_> {
    /// Refuses settings that no image can be made with.
    ///
    /// # Errors
    /// If there are some.
    pub fn check(
        config: &SamplesConfig,
        base: &DiffusionBase,
        preparation: &ImagePreparation,
    ) -> Result<(), TrainerError> {
        let settings = config.settings(base, preparation);
        Ok(settings.check(&base.schedule, base.vae_config.reduction())?)
    }

    fn text(&self, model: &Denoiser, text: &str) -> Result<TextConditions, TrainerError> {
        let captions = &self.encoded.captions;
        Ok(match &model.texts {
            Some(encoders) => encoders.prompt(captions.tokens(text), &self.device),
            None => {
                let input = captions.input(text, &self.encoded.store)?;
                match Texts::of(std::iter::once(&input)) {
                    Texts::States(states) => states.tensors(&self.device),
                    Texts::Ids(_) => unreachable!("frozen encoders give states"),
                }
            }
        })
    }
}

impl Shows<Denoiser> for Samples<'_> {
    fn is_due(&self, step: usize) -> bool {
        let every = self.config.every;
        step == 0 || every.is_some_and(|every| step.is_multiple_of(every.get()))
    }

    fn show(&self, model: &Denoiser, step: usize) -> Result<Vec<ShownImage>, TrainerError> {
        let directory = self.output.join(Run::SAMPLES).join(Run::step_name(step));
        if directory.is_dir() {
            return Ok(Vec::new());
        }
        let model = model.valid();
        let vae = self.base.model.vae(&self.device)?;
        let negative = self.text(&model, &self.config.negative_prompt)?;
        let negative = match self.config.negative_prompt.is_empty() && self.zeros_for_empty {
            true => negative.zeros(),
            false => negative,
        };
        let mut made = Vec::new();
        for (index, prompt) in self.config.prompts.iter().enumerate() {
            let conditions = PromptConditions {
                prompt: self.text(&model, prompt)?,
                negative: negative.clone(),
            };
            for image in 0..self.config.images.get() {
                let seed = self.settings.seed.wrapping_add(image as u64);
                let settings = ImageSettings {
                    seed,
                    ..self.settings.clone()
                };
                let go_on = |_: usize| match self.stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                };
                let schedule = &self.base.schedule;
                let found =
                    image_of_prompt(&model.unet, &vae, schedule, &conditions, &settings, go_on);
                // Stopped: these images are made when the training goes on.
                let Some(found) = found? else {
                    return Ok(Vec::new());
                };
                let record = self.record(prompt, index, &settings, step);
                made.push((record, found));
            }
        }
        write_directory(&directory, false, |staging: &Path| {
            for (record, image) in &made {
                record.write(image, staging)?;
            }
            Ok::<_, TrainerError>(())
        })?;
        let shown = made.into_iter().map(|(record, image)| ShownImage {
            name: record.file.trim_end_matches(".png").to_owned(),
            path: directory.join(&record.file),
            size: [image.height(), image.width()],
        });
        Ok(shown.collect())
    }
}

impl Samples<'_> {
    fn record(
        &self,
        prompt: &str,
        index: usize,
        settings: &ImageSettings,
        step: usize,
    ) -> ImageRecord {
        let [height, width] = settings.size;
        ImageRecord {
            file: format!("{index:03}-{}.png", settings.seed),
            prompt: prompt.to_owned(),
            negative_prompt: self.config.negative_prompt.clone(),
            base: self.base.name.clone(),
            adapters: vec![(self.output.display().to_string(), 1.0)],
            step: Some(step),
            width,
            height,
            steps: settings.steps,
            guidance: settings.guidance,
            sampler: settings.sampler,
            seed: settings.seed,
        }
    }
}
