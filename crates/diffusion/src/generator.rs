//! A whole diffusion model that makes images of prompts, with one part in memory at a time.

use std::ops::ControlFlow;

use burn::tensor::Device;
use eigenmix_images::RgbImage;
use eigenmix_models::LoadReport;

use crate::{
    AdaptedPipeline, DiffusionError, ImageSettings, NoiseSchedule, PromptConditions, PromptIds,
    TextSizes, UnetConfig, VaeConfig, latents_of_prompt,
};

/// An image that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRequest {
    /// Which of the prompts it shows.
    pub prompt: usize,
    pub settings: ImageSettings,
}

/// A described model that images can be made with. Weights are read when images are made.
pub struct Generator {
    model: AdaptedPipeline,
    unet: UnetConfig,
    vae: VaeConfig,
    schedule: NoiseSchedule,
    /// SDXL: whether an empty negative prompt is zeros.
    zeros_for_empty: bool,
    device: Device,
}

impl Generator {
    /// # Errors
    /// If a part is missing, or the UNet takes more than latents.
    pub fn new(model: AdaptedPipeline, device: &Device) -> Result<Self, DiffusionError> {
        let (unet, vae) = (model.unet_config()?, model.vae_config()?);
        unet.check_latents(&vae)?;
        Ok(Self {
            schedule: model.pipeline.schedule()?,
            zeros_for_empty: model.pipeline.zeros_for_empty_prompt()?,
            model,
            unet,
            vae,
            device: device.clone(),
        })
    }

    /// What the text encoders take, which prompts are cut to.
    ///
    /// # Errors
    /// If one of them is missing or not described as it should be.
    pub fn text_sizes(&self) -> Result<Vec<TextSizes>, DiffusionError> {
        self.model.text_sizes()
    }

    /// The noise that the model was trained with.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// Height and width that the model was trained for.
    pub fn usual_size(&self) -> [usize; 2] {
        self.unet.usual_size(&self.vae)
    }

    /// The guidance that diffusers takes for such a model.
    pub fn usual_guidance(&self) -> f64 {
        self.model.kind.usual_guidance()
    }

    /// Refuses what no image can be made with.
    ///
    /// # Errors
    /// As [`ImageSettings::check`].
    pub fn check(&self, settings: &ImageSettings) -> Result<(), DiffusionError> {
        settings.check(&self.schedule, self.vae.reduction())
    }

    /// Makes images. First all texts are encoded, then the latents of all images are made, then the images
    /// of those: each part is dropped before the next is read, so that memory is that of the largest.
    ///
    /// - prompts: those that `requests` refer to
    /// - report: is told how each adapter matched
    /// - observe: is told after every step; a break ends the sampling, and the images that are finished by
    ///   then are given
    /// - visit: gets the images in the order of `requests`
    ///
    /// # Errors
    /// If a part is missing or damaged, an adapter or a setting does not fit, a value is not finite, or
    /// `visit` fails.
    pub fn images<E: From<DiffusionError>>(
        &self,
        prompts: &[PromptIds],
        negative: &PromptIds,
        requests: &[ImageRequest],
        report: &mut dyn FnMut(&LoadReport),
        mut observe: impl FnMut() -> ControlFlow<()>,
        mut visit: impl FnMut(&ImageRequest, RgbImage) -> Result<(), E>,
    ) -> Result<(), E> {
        for request in requests {
            self.check(&request.settings)?;
        }
        let conditions = self.encoded(prompts, negative, report)?;
        // That it can be read is known before an hour of sampling.
        drop(self.model.vae(&self.device)?);
        let reduction = self.vae.reduction();
        let unet = self.model.unet(&self.device, report)?;
        let mut finished = Vec::new();
        for request in requests {
            let (conditions, settings) = (&conditions[request.prompt], &request.settings);
            let step = |_: usize| observe();
            let found =
                latents_of_prompt(&unet, &self.schedule, reduction, conditions, settings, step);
            match found.map_err(|error| self.model.explained(error))? {
                Some(latents) => finished.push((request, latents)),
                None => break,
            }
        }
        drop(unet);
        if finished.is_empty() {
            return Ok(());
        }
        let vae = self.model.vae(&self.device)?;
        for (request, latents) in finished {
            let image = vae.image(latents);
            visit(request, image.map_err(|error| self.model.explained(error))?)?;
        }
        Ok(())
    }

    /// What the UNet is given of each prompt.
    fn encoded(
        &self,
        prompts: &[PromptIds],
        negative: &PromptIds,
        report: &mut dyn FnMut(&LoadReport),
    ) -> Result<Vec<PromptConditions>, DiffusionError> {
        let encoders = self.model.text_encoders(&self.device, report)?;
        let negative_conditions = encoders.prompt(negative, &self.device);
        let negative = match negative.is_empty && self.zeros_for_empty {
            true => negative_conditions.zeros(),
            false => negative_conditions,
        };
        let conditions = prompts.iter().map(|prompt| PromptConditions {
            prompt: encoders.prompt(prompt, &self.device),
            negative: negative.clone(),
        });
        Ok(conditions.collect())
    }
}
