//! A whole diffusion model that makes images of prompts.

use burn::tensor::{Device, Tensor};
use eigenmix_models::LoadReport;
use serde_json::Value;

use crate::{
    AdaptedPipeline, AddedInput, Conditions, DiffusionError, Guidance, Kind, NoiseSchedule, Part,
    SamplerKind, TextEncoders, Unet, Vae, gaussian_noise, sample,
};

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// The prompt's tokens for each text encoder, padded to one length.
    pub prompt: PromptIds,
    /// Those of the negative prompt.
    pub negative: PromptIds,
    /// Height and width in pixels.
    pub size: [usize; 2],
    pub steps: usize,
    /// The factor on what the prompt changes; 1 or less takes the prompt alone.
    pub guidance: f64,
    pub sampler: SamplerKind,
    pub seed: u64,
}

/// A prompt's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptIds {
    /// For each text encoder.
    pub ids: Vec<Vec<i64>>,
    /// Whether the text is empty.
    pub is_empty: bool,
}

/// The parts that images are made with.
pub struct Generator {
    model: AdaptedPipeline,
    unet: Unet,
    vae: Vae,
    encoders: TextEncoders,
    schedule: NoiseSchedule,
    /// SDXL: whether an empty negative prompt is zeros.
    zeros_for_empty: bool,
    device: Device,
}

/// An RGB image of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedImage {
    /// Height and width.
    pub size: [usize; 2],
    /// `[height, width, 3]`
    pub pixels: Vec<u8>,
}

impl Generator {
    /// - report: is told how each adapter matched
    ///
    /// # Errors
    /// If a part is missing or damaged, an adapter does not fit, or the UNet takes more than latents.
    pub fn new(
        model: AdaptedPipeline,
        device: &Device,
        report: &mut dyn FnMut(&LoadReport),
    ) -> Result<Self, DiffusionError> {
        let vae = model.vae(device)?;
        let encoders = model.text_encoders(device, report)?;
        let unet = model.unet(device, report)?;
        unet.config().check_latents(vae.config())?;
        Ok(Self {
            schedule: model.pipeline.schedule()?,
            zeros_for_empty: model.pipeline.zeros_for_empty_prompt()?,
            model,
            unet,
            vae,
            encoders,
            device: device.clone(),
        })
    }

    /// The text encoders, whose sizes prompts are cut to.
    pub fn encoders(&self) -> &TextEncoders {
        &self.encoders
    }

    /// Height and width that the model was trained for.
    pub fn usual_size(&self) -> [usize; 2] {
        let latents = self.unet.config().sample_size.unwrap_or([64; 2]);
        latents.map(|side| side * self.vae.config().reduction())
    }

    /// The guidance that diffusers takes for such a model.
    pub fn usual_guidance(&self) -> f64 {
        match self.model.kind {
            Kind::Sd => 7.5,
            Kind::Xl => 5.0,
        }
    }

    /// - observe: is told after every step
    ///
    /// # Errors
    /// If the size is not a multiple of what a pixel of the latents stands for, there are no steps, or a
    /// value is not finite.
    pub fn image(
        &self,
        request: &ImageRequest,
        mut observe: impl FnMut(usize),
    ) -> Result<GeneratedImage, DiffusionError> {
        let reduction = self.vae.config().reduction();
        let [height, width] = request.size;
        let is_whole = |side: usize| side > 0 && side.is_multiple_of(reduction);
        if !is_whole(height) || !is_whole(width) {
            return Err(DiffusionError::Input(format!(
                "images of {width} × {height} pixels; both must be multiples of {reduction}"
            )));
        }
        if !request.guidance.is_finite() {
            let guidance = request.guidance;
            return Err(DiffusionError::Input(format!(
                "a guidance of {guidance}; it must be a number, such as 7.5"
            )));
        }
        let mut sampler = self.schedule.sampler(request.sampler, request.steps)?;
        let prompt = self.conditions(&request.prompt, request.size, false);
        let guidance = (request.guidance > 1.0).then(|| Guidance {
            scale: request.guidance,
            negative: self.conditions(&request.negative, request.size, true),
        });
        let channels = self.vae.config().latent_channels;
        let shape = [1, channels, height / reduction, width / reduction];
        let noise = gaussian_noise(request.seed, &["image"], shape, &self.device);
        let step = |step: usize, _: &Tensor<4>| observe(step);
        let latents = sample(
            &self.unet,
            &mut *sampler,
            noise,
            &prompt,
            guidance.as_ref(),
            step,
        );
        self.model.require_finite(Part::Unet, latents.clone())?;
        let config = self.vae.config();
        let latents = latents / config.scaling_factor + config.shift_factor;
        let image = self.vae.decode(latents).permute([0, 2, 3, 1]);
        let values = self.model.require_finite(Part::Vae, image)?;
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8;
        Ok(GeneratedImage {
            size: request.size,
            pixels: values.into_iter().map(byte).collect(),
        })
    }

    fn conditions(
        &self,
        prompt: &PromptIds,
        [height, width]: [usize; 2],
        is_negative: bool,
    ) -> Conditions {
        let length = prompt.ids[0].len();
        let second = prompt.ids.get(1).map(Vec::as_slice);
        let ids = [Some(prompt.ids[0].as_slice()), second];
        let found = self.encoders.conditions(ids, [1, length], &self.device);
        let is_zero = is_negative && prompt.is_empty && self.zeros_for_empty;
        let states = match is_zero {
            true => found.states.zeros_like(),
            false => found.states,
        };
        let added = found.pooled.map(|pooled| AddedInput {
            text_embeds: match is_zero {
                true => pooled.zeros_like(),
                false => pooled,
            },
            time_ids: [height, width, 0, 0, height, width]
                .map(|size| size as f32)
                .to_vec(),
        });
        Conditions { states, added }
    }
}

impl SamplerKind {
    /// That of a model's scheduler, if it is one of these.
    ///
    /// - json: `scheduler_config.json`
    pub fn of_scheduler(json: &Value) -> Option<Self> {
        match json.get("_class_name")?.as_str()? {
            "DDIMScheduler" => Some(Self::Ddim),
            "EulerDiscreteScheduler" => Some(Self::Euler),
            "DPMSolverMultistepScheduler" => Some(Self::DpmSolver),
            _ => None,
        }
    }
}
