//! The images of a split, encoded, with their captions.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_data::{DiffusionImages, EpochAugmentation};
use eigenmix_diffusion::Vae;
use eigenmix_images::Placement;
use eigenmix_moslora::random_stream;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use super::denoiser::Denoiser;
use super::denoising_batch::{
    DenoisingBatch, DenoisingGroup, DenoisingSettings, LatentImage, Texts,
};
use super::encoding::{Captions, moments};
use super::store::Store;
use crate::TrainerError;
use crate::host_values::host_values;
use crate::tasks::{Evaluation, EvaluationOptions, Examples};

/// The seed of the noise of evaluations, the same in every training.
const EVALUATION: u64 = 0;

/// What the images of all splits share.
pub(crate) struct Encoded {
    pub store: Store,
    pub captions: Captions,
    pub settings: Arc<DenoisingSettings>,
    /// Encodes images of which another part is drawn in every epoch; of all others the store has everything.
    pub vae: Option<Vae>,
    /// A digest of the VAE.
    pub vae_digest: String,
    /// Without autodiff.
    pub device: Device,
    /// In how many bands of times an evaluation judges each image.
    pub bands: usize,
    pub seed: u64,
    /// How many images go through the model at once in an evaluation, at most.
    pub at_once: usize,
    /// How much the loss of class images counts.
    pub prior_weight: f32,
}

/// A split of a training.
pub(crate) struct DenoisingExamples {
    pub images: Arc<DiffusionImages>,
    /// Class images for prior preservation, one of which goes along with every example.
    pub class_images: Option<Arc<DiffusionImages>>,
    /// How often an epoch goes through the images.
    pub repeats: usize,
    /// Height times width of the latents of each.
    pub sizes: Vec<usize>,
    pub encoded: Arc<Encoded>,
}

impl Encoded {
    /// The name in the store of an image as it is taken.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn key(
        &self,
        images: &DiffusionImages,
        index: usize,
        placement: &Placement,
    ) -> Result<String, TrainerError> {
        let fingerprint = images.fingerprint(index, placement)?;
        let depends_on = format!("{} {fingerprint}", self.vae_digest);
        Ok(Store::key("image", &depends_on))
    }

    /// An image of a batch.
    ///
    /// - epoch: of the draws of its part and its caption
    /// - number: by which its noise is drawn
    fn image(
        &self,
        images: &DiffusionImages,
        index: usize,
        epoch: usize,
        number: usize,
        weight: f32,
    ) -> Result<LatentImage, TrainerError> {
        let placement = images.place(index, self.seed, epoch);
        let moments = match &self.vae {
            Some(vae) if images.preparation().is_random() => {
                let pixels = images.load(index, &placement)?;
                Arc::new(moments(vae, pixels, placement.target, &self.device)?)
            }
            _ => self.store.get(&self.key(images, index, &placement)?)?,
        };
        let caption = images.caption(index, self.seed, epoch);
        Ok(LatentImage {
            number,
            moments,
            caption: self.captions.input(caption, &self.store)?,
            time_ids: placement.time_ids(),
            weight,
        })
    }
}

impl Examples<Denoiser> for DenoisingExamples {
    fn len(&self) -> usize {
        self.images.len() * self.repeats
    }

    fn lengths(&self) -> Vec<usize> {
        let once = self.sizes.iter().copied();
        let all = once.cycle();
        all.take(self.len()).collect()
    }

    fn truncated(&self) -> usize {
        0
    }

    fn default_metrics(&self) -> Vec<Metric> {
        vec![Metric::DenoisingLoss]
    }

    fn require_measurable(&self, metrics: &[Metric]) -> Result<(), MetricError> {
        metrics.iter().try_for_each(|metric| metric.of_denoising())
    }

    fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<DenoisingBatch, TrainerError> {
        let encoded = &*self.encoded;
        let epoch = augmented.map_or(0, |augmented| augmented.epoch);
        let mut images = Vec::new();
        for &example in examples {
            let count = self.images.len();
            let (index, repeat) = (example % count, example / count);
            let own = epoch * self.repeats + repeat;
            images.push(encoded.image(&self.images, index, own, example, 1.0)?);
            if let Some(class) = &self.class_images {
                // One after the other, through all of them.
                let index = (example + epoch * self.len()) % class.len();
                let (number, weight) = (self.len() + example, encoded.prior_weight);
                images.push(encoded.image(class, index, own, number, weight)?);
            }
        }
        Ok(DenoisingBatch::new(
            images,
            examples.len(),
            &encoded.settings,
        ))
    }

    fn evaluate(
        &self,
        model: &Denoiser,
        options: &EvaluationOptions,
    ) -> Result<Evaluation, TrainerError> {
        let at_once = options.batch_size.get().min(self.encoded.at_once);
        let all: Vec<usize> = (0..self.images.len()).collect();
        let mut by_band = vec![0.0; self.encoded.bands];
        for chosen in all.chunks(at_once) {
            let losses = self.losses(model, chosen, options.device)?;
            for (sum, band) in by_band.iter_mut().zip(losses) {
                *sum += band.iter().sum::<f64>();
            }
            (options.progress)(chosen.len());
        }
        let count = all.len() as f64;
        by_band.iter_mut().for_each(|sum| *sum /= count);
        let loss = by_band.iter().sum::<f64>() / by_band.len() as f64;
        let times = self.encoded.settings.schedule.times();
        let mut metrics = BTreeMap::from([(Metric::DenoisingLoss.name().to_owned(), loss)]);
        for (band, value) in by_band.iter().enumerate() {
            let [begin, end] = band_of(band, by_band.len(), times);
            let name = format!("{}/{begin}-{}", Metric::DenoisingLoss.name(), end - 1);
            metrics.insert(name, *value);
        }
        Ok(Evaluation {
            loss,
            metrics,
            by_label: Vec::new(),
        })
    }
}

impl DenoisingExamples {
    /// The losses of images at one time of each band, with the same noise in every training: a list for each
    /// band.
    ///
    /// - chosen: images
    pub fn losses(
        &self,
        model: &Denoiser,
        chosen: &[usize],
        device: &Device,
    ) -> Result<Vec<Vec<f64>>, TrainerError> {
        let encoded = &*self.encoded;
        let mut images = Vec::new();
        for &index in chosen {
            images.push(encoded.image(&self.images, index, 0, index, 1.0)?);
        }
        let batch = DenoisingBatch::new(images, chosen.len(), &encoded.settings);
        let mut by_band = vec![Vec::new(); encoded.bands];
        for group in &batch.groups {
            for (band, losses) in by_band.iter_mut().enumerate() {
                let found = group.judged(model, &encoded.settings, [band, encoded.bands], device);
                losses.extend(found.into_iter().map(f64::from));
            }
        }
        Ok(by_band)
    }
}

impl DenoisingGroup {
    /// The loss of each image at a time of a band.
    fn judged(
        &self,
        model: &Denoiser,
        settings: &DenoisingSettings,
        [band, bands]: [usize; 2],
        device: &Device,
    ) -> Vec<f32> {
        let schedule = &settings.schedule;
        let [begin, end] = band_of(band, bands, schedule.times());
        let [channels, height, width] = self.shape;
        let band = band.to_string();
        let (mut times, mut latents) = (Vec::new(), Vec::new());
        let mut noise: Vec<f32> = Vec::new();
        for image in &self.images {
            let names = [band.as_str(), &image.number.to_string()].join(" of image ");
            let uniform: f64 =
                StandardUniform.sample(&mut random_stream(EVALUATION, &["time", &names]));
            let time = begin + (uniform * (end - begin) as f64) as usize;
            times.push(time.min(end - 1));
            let stream = random_stream(EVALUATION, &["noise", &names]);
            let drawn: rand_distr::Iter<_, _, f32> = StandardNormal.sample_iter(stream);
            noise.extend(drawn.take(channels * height * width));
            latents.extend(image.drawn(std::iter::repeat(0.0), settings.scaling));
        }
        let (latents, noise) = (self.tensor(latents, device), self.tensor(noise, device));
        let sample = schedule.noisy(latents.clone(), noise.clone(), &times);
        let target = schedule.target(latents, noise, &times);
        let texts = Texts::of(self.images.iter().map(|image| &image.caption));
        let input = model.input(self, sample, &times, &texts, device);
        host_values(schedule.losses(model.unet.forward(&input), target))
    }
}

/// The times of a band: from the first to before the second.
fn band_of(band: usize, bands: usize, times: usize) -> [usize; 2] {
    [band, band + 1].map(|border| border * times / bands)
}
