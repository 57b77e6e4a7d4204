//! Images of a subject's class for prior preservation (DreamBooth, arXiv 2208.12242): those that are there, and
//! what the base model makes of the class's prompt where they are too few.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eigenmix_data::{DataConfig, DataError, DiffusionImages, read_dream_booth};
use eigenmix_diffusion::{
    AdaptedPipeline, Generator, ImageRecord, ImageRequest, ImageSettings, Part,
};
use eigenmix_tensors::FileError;

use super::examples::Encoded;
use super::store::Store;
use super::training::DiffusionTraining;
use crate::TrainerError;
use crate::outcome::{Observer, RunOptions};

/// As many steps as diffusers takes.
const STEPS: usize = 50;

impl DiffusionTraining {
    /// The images of the class, if there is one. Those that are missing are made by the base model and kept
    /// beside what is encoded, by what they depend on.
    ///
    /// # Errors
    /// If they cannot be made, written or read.
    pub(super) fn class_images(
        &self,
        encoded: &Encoded,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Arc<DiffusionImages>>, TrainerError> {
        let Some(class) = &self.images.class else {
            return Ok(None);
        };
        let mut images = class.images.clone();
        if class.missing > 0 {
            let size = self.images.preparation.sizes()[0];
            let settings = ImageSettings {
                size,
                steps: STEPS,
                guidance: self.base.usual_guidance(),
                sampler: self.base.usual_sampler(),
                seed: 0,
            };
            let mut depends_on = format!("{} {settings:?}", class.prompt);
            for part in Part::ALL
                .into_iter()
                .filter(|part| self.base.pipeline.has(*part))
            {
                depends_on += &format!(" {}", self.base.digest_of(part)?);
            }
            let key = Store::key("class", &depends_on);
            let directory = encoded.store.directory().join(key);
            self.make(
                &directory,
                &class.prompt,
                &settings,
                class.missing,
                options,
                observer,
            )?;
            let data = DataConfig {
                class_images: Some(directory),
                class_count: std::num::NonZeroUsize::new(class.missing),
                ..self.config.data.clone()
            };
            let made = read_dream_booth(&data)?.class;
            images.extend(made.into_iter().flat_map(|made| made.images));
        }
        let prepared = self.images.preparation.prepare(images);
        let (images, _) = prepared.map_err(DataError::from)?;
        Ok(Some(Arc::new(images)))
    }

    fn make(
        &self,
        directory: &Path,
        prompt: &str,
        settings: &ImageSettings,
        count: usize,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        std::fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
        let name = |seed: u64| format!("{seed:05}.png");
        let missing = (0..count as u64).filter(|seed| !directory.join(name(*seed)).is_file());
        let requests = missing.map(|seed| ImageRequest {
            prompt: 0,
            settings: ImageSettings {
                seed,
                ..settings.clone()
            },
        });
        let requests: Vec<ImageRequest> = requests.collect();
        if requests.is_empty() {
            return Ok(());
        }
        observer.note(&format!(
            "{} images of the class are missing, and are made by the base model of `{prompt}`",
            requests.len()
        ));
        let model = AdaptedPipeline::new(self.base.pipeline.clone(), Vec::new(), false)?;
        let generator = Generator::new(model, &options.device.clone().inner())?;
        let captions = &encoded_tokens(self, prompt)?;
        let [height, width] = settings.size;
        let total = requests.len() * settings.steps;
        let mut done = 0;
        let mut written = 0;
        generator.images(
            &captions[..1],
            &captions[1],
            &requests,
            &mut |_| {},
            || {
                done += 1;
                observer.encoded(done, total);
                match options.stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
            |request, image| {
                let settings = &request.settings;
                let record = ImageRecord {
                    file: name(settings.seed),
                    prompt: prompt.to_owned(),
                    negative_prompt: String::new(),
                    base: self.base.name.clone(),
                    adapters: Vec::new(),
                    step: None,
                    width,
                    height,
                    steps: settings.steps,
                    guidance: settings.guidance,
                    sampler: settings.sampler,
                    seed: settings.seed,
                };
                written += 1;
                Ok::<_, TrainerError>(record.write(&image, directory)?)
            },
        )?;
        match written == requests.len() {
            true => Ok(()),
            false => Err(TrainerError::Stopped),
        }
    }
}

/// The tokens of a prompt and of the empty one.
fn encoded_tokens(
    training: &DiffusionTraining,
    prompt: &str,
) -> Result<Vec<eigenmix_diffusion::PromptIds>, TrainerError> {
    let base = &training.base;
    let texts = [prompt, ""];
    let (captions, _) = super::encoding::Captions::tokenized(base, texts.into_iter())?;
    Ok(texts.map(|text| captions.tokens(text).clone()).to_vec())
}
