//! The images and captions of a training, encoded before its UNet is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eigenmix_data::{DiffusionImages, InputContract};
use eigenmix_diffusion::Part;

use super::class_images::PreparedClass;
use super::denoiser::Denoiser;
use super::denoising_batch::DenoisingSettings;
use super::encoding::moments;
use super::examples::{DenoisingExamples, Encoded};
use super::store::Store;
use super::training::DiffusionTraining;
use crate::TrainerError;
use crate::outcome::{Observer, RunOptions};
use crate::run::Run;
use crate::tasks::Examples;
use crate::training::{Batches, TrainingData, TrainingLength};

/// The images of a training, encoded.
pub(super) struct EncodedData {
    pub data: TrainingData<Denoiser>,
    /// Training images, each once.
    pub judged: DenoisingExamples,
    pub encoded: Arc<Encoded>,
}

impl DiffusionTraining {
    /// Puts all images and captions through the frozen parts, which are let go before the UNet is read.
    pub(super) fn encode(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<EncodedData, TrainerError> {
        let config = &self.config;
        let diffusion = config.diffusion().into_owned();
        let device = options.device.clone().inner();
        let directory = match &diffusion.cache {
            Some(directory) => PathBuf::from(directory),
            None => Path::new(&config.output).join(Run::CACHE),
        };
        let store = Store::at(&directory);
        let mut encoded = Encoded {
            store,
            captions: std::mem::take(&mut self.captions),
            settings: Arc::new(DenoisingSettings::unconditional(&self.base, &diffusion)),
            vae: None,
            vae_digest: self.base.digest_of(Part::Vae)?,
            device: device.clone(),
            bands: diffusion.validation_times.get(),
            seed: config.seed,
            at_once: config.training.batch_size.map_or(1, |size| size.get()),
            prior_weight: diffusion.prior_weight,
        };
        let class = self.class_images(&encoded, options, observer)?;
        let (class, found) = match class {
            Some(PreparedClass { images, notes }) => (Some(images), notes),
            None => (None, Vec::new()),
        };
        let is_random = self.images.preparation.is_random();
        let splits = [
            Some((&self.images.train, true)),
            class.as_ref().map(|class| (class, true)),
            self.images
                .validation
                .as_ref()
                .map(|images| (images, false)),
            self.images.test.as_ref().map(|images| (images, false)),
        ];
        let mut wanted = Vec::new();
        for (images, is_trained) in splits.into_iter().flatten() {
            if is_random && is_trained {
                continue;
            }
            for index in 0..images.len() {
                let centred = images.place(index, config.seed, 0);
                let mirrored = match is_trained && self.images.preparation.mirrors() {
                    true => &[false, true][..],
                    false => &[false],
                };
                for &mirrored in mirrored {
                    let placement = eigenmix_images::Placement {
                        mirrored,
                        ..centred
                    };
                    let key = encoded.key(images, index, &placement)?;
                    if !encoded.store.has(&key) {
                        wanted.push((Arc::clone(images), index, placement, key));
                    }
                }
            }
        }
        let total = wanted.len() + encoded.captions.len();
        let mut done = 0;
        let mut advance = || {
            done += 1;
            observer.encoded(done, total);
            match options.stop.load(Ordering::Relaxed) {
                true => Err(TrainerError::Stopped),
                false => Ok(()),
            }
        };
        if !wanted.is_empty() || is_random {
            let vae = self.base.model.vae(&device)?;
            for (images, index, placement, key) in wanted {
                let pixels = images.load(index, &placement)?;
                let found = moments(&vae, pixels, placement.target, &device);
                let found = found.map_err(|error| self.base.explained(error));
                encoded.store.put(&key, found?)?;
                advance()?;
            }
            encoded.vae = is_random.then_some(vae);
        }
        if !self.base.trains_texts {
            let Encoded {
                captions, store, ..
            } = &mut encoded;
            captions.encode(&self.base, store, &device, &mut advance)?;
        }
        let empty = encoded.captions.input("", &encoded.store)?;
        Arc::make_mut(&mut encoded.settings).empty = empty;
        let encoded = Arc::new(encoded);
        let examples = |images: &Arc<DiffusionImages>, class, repeats| DenoisingExamples {
            sizes: self.base.latent_pixels(images),
            images: Arc::clone(images),
            class_images: class,
            repeats,
            encoded: Arc::clone(&encoded),
        };
        let train = examples(&self.images.train, class, diffusion.repeats.get());
        let boxed = |images: &Arc<DiffusionImages>| Box::new(examples(images, None, 1)) as Box<_>;
        let sizes = self.images.train.targets().iter().copied().cycle();
        let sizes = sizes.take(train.len()).collect();
        let batches = Batches::of_sizes(&config.training, config.seed, sizes)?;
        let length = TrainingLength::new(&config.training, &batches);
        self.notes.extend(found);
        self.notes.extend(length.short_epochs());
        let judged = examples(&self.images.train, None, 1);
        Ok(EncodedData {
            data: TrainingData {
                train: Box::new(train),
                batches,
                length,
                validation: self.images.validation.as_ref().map(boxed),
                test: self.images.test.as_ref().map(boxed),
                targets: None,
                tokenizer: None,
                metrics: self.metrics.clone(),
                notes: Vec::new(),
                input: InputContract::default(),
                chat_template: None,
            },
            judged,
            encoded: Arc::clone(&encoded),
        })
    }
}
