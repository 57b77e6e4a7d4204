//! An image from texts that are already encoded, with whatever parts are loaded.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use eigenmix_images::RgbImage;

use crate::{
    Conditions, DiffusionError, Guidance, NoiseSchedule, Part, SamplerKind, TextConditions, Unet,
    Vae, gaussian_noise, sample,
};

/// How an image is made of its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSettings {
    /// Height and width in pixels.
    pub size: [usize; 2],
    pub steps: usize,
    /// The factor on what the prompt changes; 1 or less takes the prompt alone.
    pub guidance: f64,
    pub sampler: SamplerKind,
    pub seed: u64,
}

/// The encoded texts of an image.
#[derive(Clone, Debug)]
pub struct PromptConditions {
    /// What it shows: one text.
    pub prompt: TextConditions,
    /// What it does not show: one text.
    pub negative: TextConditions,
}

impl ImageSettings {
    /// Refuses what no image can be made with; needs no weights.
    ///
    /// - reduction: how many pixels of an image a pixel of the latents stands for
    ///
    /// # Errors
    /// If the size is not a multiple of `reduction`, the guidance is negative or not a number, or the
    /// schedule has no sampler of so many steps.
    pub fn check(&self, schedule: &NoiseSchedule, reduction: usize) -> Result<(), DiffusionError> {
        let [height, width] = self.size;
        let is_whole = |side: usize| side > 0 && side.is_multiple_of(reduction);
        if !is_whole(height) || !is_whole(width) {
            return Err(DiffusionError::Input(format!(
                "images of {width} × {height} pixels; both must be multiples of {reduction}"
            )));
        }
        if !self.guidance.is_finite() || self.guidance < 0.0 {
            let guidance = self.guidance;
            return Err(DiffusionError::Input(format!(
                "a guidance of {guidance}; it must be a number from 0 on, such as 7.5"
            )));
        }
        schedule.sampler(self.sampler, self.steps).map(drop)
    }
}

/// The latents of an image, as the UNet has them, or nothing if `observe` broke off.
///
/// - unet: without gradients ([`burn::module::Module::valid`] of one that is trained)
/// - conditions: on the device where the UNet is
/// - reduction: how many pixels of an image a pixel of the latents stands for
/// - observe: is told after every step, from 0 on
/// - output: `[1, channels, height / reduction, width / reduction]`
///
/// # Errors
/// As [`ImageSettings::check`], or if a value is not finite.
pub fn latents_of_prompt(
    unet: &Unet,
    schedule: &NoiseSchedule,
    reduction: usize,
    conditions: &PromptConditions,
    settings: &ImageSettings,
    mut observe: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Tensor<4>>, DiffusionError> {
    settings.check(schedule, reduction)?;
    let mut sampler = schedule.sampler(settings.sampler, settings.steps)?;
    let [height, width] = settings.size;
    let channels = unet.config().in_channels;
    let shape = [1, channels, height / reduction, width / reduction];
    let device = conditions.prompt.states.device();
    let noise = gaussian_noise(settings.seed, &["image"], shape, &device);
    let guidance = (settings.guidance > 1.0).then(|| Guidance {
        scale: settings.guidance,
        negative: Conditions::of_one(&conditions.negative, settings.size),
    });
    let prompt = Conditions::of_one(&conditions.prompt, settings.size);
    let step = |step: usize, _: &Tensor<4>| observe(step);
    let latents = sample(unet, &mut *sampler, noise, &prompt, guidance.as_ref(), step);
    if let Some(latents) = &latents {
        finite_values(Part::Unet, latents.clone())?;
    }
    Ok(latents)
}

impl Vae {
    /// The image of latents.
    ///
    /// - latents: as a UNet has them, `[1, latent_channels, height, width]`
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn image(&self, latents: Tensor<4>) -> Result<RgbImage, DiffusionError> {
        let config = self.config();
        let latents = latents / config.scaling_factor + config.shift_factor;
        let image = self.decode(latents);
        let [_, _, height, width] = image.dims();
        let values = finite_values(Part::Vae, image.permute([0, 2, 3, 1]))?;
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8;
        let pixels = values.into_iter().map(byte).collect();
        Ok(RgbImage::new(width, height, pixels))
    }
}

/// An image, or nothing if `observe` broke off: [`latents_of_prompt`], then [`Vae::image`].
///
/// # Errors
/// If a setting cannot be used or a value is not finite.
pub fn image_of_prompt(
    unet: &Unet,
    vae: &Vae,
    schedule: &NoiseSchedule,
    conditions: &PromptConditions,
    settings: &ImageSettings,
    observe: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<RgbImage>, DiffusionError> {
    let reduction = vae.config().reduction();
    latents_of_prompt(unet, schedule, reduction, conditions, settings, observe)?
        .map(|latents| vae.image(latents))
        .transpose()
}

/// The values of a part's output, if all of them are numbers.
///
/// # Errors
/// If one is NaN or infinite.
pub(crate) fn finite_values<const D: usize>(
    part: Part,
    output: Tensor<D>,
) -> Result<Vec<f32>, DiffusionError> {
    let values: Vec<f32> = output
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .unwrap_or_default();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(DiffusionError::NotFinite { part }),
    }
}
