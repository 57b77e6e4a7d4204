//! Images of a subject's class for prior preservation (DreamBooth, arXiv 2208.12242): those that are there, and
//! what the base model makes of the class's prompt where they are too few.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eigenmix_data::{DataConfig, DataError, DiffusionImages, read_dream_booth};
use eigenmix_diffusion::{Generator, ImageRecord, ImageRequest, ImageSettings, Part, PromptIds};
use eigenmix_tensors::FileError;

use super::examples::Encoded;
use super::store::Store;
use super::training::DiffusionTraining;
use crate::TrainerError;
use crate::outcome::{Observer, RunOptions};

/// As many steps as diffusers takes.
const STEPS: usize = 50;

/// The images of a class, ready to be trained on.
pub(super) struct PreparedClass {
    pub images: Arc<DiffusionImages>,
    pub notes: Vec<String>,
}

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
    ) -> Result<Option<PreparedClass>, TrainerError> {
        let Some(class) = &self.images.class else {
            return Ok(None);
        };
        let mut images = class.images.clone();
        if class.missing > 0 {
            let settings = ImageSettings {
                size: self.images.preparation.size(),
                steps: STEPS,
                guidance: self.base.model.kind.usual_guidance(),
                sampler: self.base.usual_sampler(),
                seed: 0,
            };
            let mut depends_on = format!("{} {settings:?}", class.prompt);
            for part in Part::ALL
                .into_iter()
                .filter(|part| self.base.model.pipeline.has(*part))
            {
                depends_on += &format!(" {}", self.base.digest_of(part)?);
            }
            let key = Store::key("class", &depends_on);
            let directory = encoded.store.directory().join(key);
            let prompt = &class.prompt;
            let tokens = [prompt, ""].map(|text| encoded.captions.tokens(text).clone());
            let place = (directory.as_path(), prompt.as_str());
            self.make(place, &tokens, &settings, class.missing, options, observer)?;
            let data = DataConfig {
                class_images: Some(directory),
                class_count: std::num::NonZeroUsize::new(class.missing),
                ..self.config.data.clone()
            };
            let made = read_dream_booth(&data)?.class;
            images.extend(made.into_iter().flat_map(|made| made.images));
        }
        let prepared = self.images.preparation.prepare(images);
        let (images, notes) = prepared.map_err(DataError::from)?;
        let images = Arc::new(images);
        Ok(Some(PreparedClass { images, notes }))
    }

    /// Makes those of the images that are not there.
    ///
    /// - tokens: of the prompt and of the empty one
    fn make(
        &self,
        (directory, prompt): (&Path, &str),
        [tokens, negative]: &[PromptIds; 2],
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
        let model = self.base.model.clone();
        let generator = Generator::new(model, &options.device.clone().inner())?;
        let [height, width] = settings.size;
        let total = requests.len() * settings.steps;
        let mut done = 0;
        let mut written = 0;
        generator.images(
            std::slice::from_ref(tokens),
            negative,
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
