//! The images of a training file, read and measured, not yet encoded.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::diffusion_base::DiffusionBase;
use crate::TrainerError;
use crate::config::TrainConfig;
use crate::tasks::TaskKind;
use eigenmix_data::{
    CaptionedImage, ClassImages, DataError, DataLocation, DiffusionImages, ImagePreparation, Split,
    draw_rows, read_captioned_split, read_dream_booth,
};

/// The images of a training, split by split.
pub(crate) struct TaskImages {
    pub train: Arc<DiffusionImages>,
    pub validation: Option<Arc<DiffusionImages>>,
    pub test: Option<Arc<DiffusionImages>>,
    /// Of DreamBooth with prior preservation.
    pub class: Option<ClassImages>,
    /// How training images are prepared.
    pub preparation: ImagePreparation,
    pub notes: Vec<String>,
}

impl TaskImages {
    /// # Errors
    /// If images are missing, damaged or too small, or a key does not fit the task.
    pub fn read(config: &TrainConfig, base: &DiffusionBase) -> Result<Self, TrainerError> {
        config.task.kind.check_settings(&config.data)?;
        let preparation = config
            .data
            .preparation(base.usual_resolution(), base.multiple());
        let preparation = preparation.map_err(DataError::from)?;
        let mut notes = Vec::new();
        let is_dream_booth = config.task.kind == TaskKind::Dreambooth;
        let (train, class, found) = match is_dream_booth {
            true => {
                let location = DataLocation::open(&config.data)?;
                let found = read_dream_booth(&*location.dream_booth()?)?;
                (found.instances, found.class, found.notes)
            }
            false => {
                let (images, found) = split(config, Split::Train)?;
                (images, None, found)
            }
        };
        let drawn = draw_rows(train, &config.data, config.seed)?;
        let (train, held_out) = match config.data.fold {
            None => (drawn, None),
            Some(fold) => {
                let parted = fold.part_rows(drawn, config.seed)?;
                notes.push(format!(
                    "fold {fold} of the training images is the validation split ({} images; {} are trained on); \
                     the data's own is not read",
                    parted.held_out.len(),
                    parted.kept.len()
                ));
                (parted.kept, Some(parted.held_out))
            }
        };
        let mut prepare = |images: Vec<CaptionedImage>, preparation: &ImagePreparation| {
            let (images, found) = preparation.prepare(images).map_err(DataError::from)?;
            notes.extend(found);
            Ok::<_, TrainerError>(Arc::new(images))
        };
        let train = prepare(train, &preparation)?;
        let for_evaluation = preparation.for_evaluation();
        let mut other = |split_kind: Split| {
            if is_dream_booth {
                return Ok(None);
            }
            match split(config, split_kind) {
                Ok((images, found)) => Ok(Some((prepare(images, &for_evaluation)?, found))),
                Err(TrainerError::Data(DataError::MissingSplit { .. })) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let test = match config.training.evaluate_test {
            true => other(Split::Test)?,
            false => None,
        };
        let validation = match held_out {
            Some(_) => None,
            None => other(Split::Validation)?,
        };
        let held_out = held_out.map(|images| prepare(images, &for_evaluation));
        let held_out = held_out.transpose()?.map(|images| (images, Vec::new()));
        let validation = held_out.or(validation);
        notes.extend(found);
        let mut with_notes = |found: Option<(Arc<DiffusionImages>, Vec<String>)>| {
            let (images, found) = found?;
            notes.extend(found);
            Some(images)
        };
        Ok(Self {
            train,
            validation: with_notes(validation),
            test: with_notes(test),
            class,
            preparation,
            notes,
        })
    }

    /// All captions of all splits.
    pub fn captions(&self) -> BTreeSet<&str> {
        let splits = [
            Some(&self.train),
            self.validation.as_ref(),
            self.test.as_ref(),
        ];
        let images = splits
            .into_iter()
            .flatten()
            .flat_map(|split| split.images());
        let captions = images.flat_map(|image| &image.captions).map(String::as_str);
        let class = self.class.iter().map(|class| class.prompt.as_str());
        captions.chain(class).collect()
    }
}

/// The images of a split, and what is to be said of them.
fn split(
    config: &TrainConfig,
    split: Split,
) -> Result<(Vec<CaptionedImage>, Vec<String>), TrainerError> {
    let location = DataLocation::open(&config.data)?;
    let data = location.captioned_split(split)?;
    let found = read_captioned_split(data.directory(), split, &data)?;
    Ok((found.images, found.notes))
}
