//! How images are brought to the sizes that a diffusion model is trained at, as a configuration says it.

use eigenmix_images::{Buckets, Crop, Draw, Framing, Placement, Resolution};

use super::captioned_image::CaptionedImage;
use super::diffusion_images::DiffusionImages;
use super::error::DiffusionDataError;
use super::small_images::SmallImages;
use crate::config::DataConfig;

/// How the images of a training are prepared.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePreparation {
    framing: Framing,
    /// Height and width, without buckets of all images.
    size: [usize; 2],
    /// Nearest to each image's proportions.
    buckets: Option<Buckets>,
    small: SmallImages,
}

impl DataConfig {
    /// How images are prepared for a model.
    ///
    /// - usual: what the model was trained at, where `data.resolution` is not set
    /// - multiple: of how many pixels both sides must be a multiple, so that the VAE and the halvings of
    ///   the UNet leave no rest
    ///
    /// # Errors
    /// When a size is no such multiple, there is no bucket, or keys of buckets are set without buckets.
    pub fn preparation(
        &self,
        usual: Resolution,
        multiple: usize,
    ) -> Result<ImagePreparation, DiffusionDataError> {
        let resolution = self.resolution.unwrap_or(usual);
        let [height, width] = resolution.size();
        let fits = |side: usize| side > 0 && side.is_multiple_of(multiple);
        if !fits(height) || !fits(width) {
            return Err(DiffusionDataError::Resolution {
                width,
                height,
                multiple,
                nearest: nearest(resolution, multiple),
            });
        }
        Ok(ImagePreparation {
            framing: Framing {
                crop: self.crop,
                flip: self.flip,
                interpolation: self.interpolation,
            },
            size: resolution.size(),
            buckets: self.size_buckets(resolution, multiple)?,
            small: self.small_images,
        })
    }

    fn size_buckets(
        &self,
        resolution: Resolution,
        multiple: usize,
    ) -> Result<Option<Buckets>, DiffusionDataError> {
        if !self.buckets {
            let usual = Self::new("");
            let changed = [
                ("bucket_step", self.bucket_step != usual.bucket_step),
                ("bucket_aspect", self.bucket_aspect != usual.bucket_aspect),
            ];
            return match changed.into_iter().find(|(_, is_changed)| *is_changed) {
                Some((key, _)) => Err(DiffusionDataError::WithoutBuckets { key }),
                None => Ok(None),
            };
        }
        let (step, aspect) = (self.bucket_step, self.bucket_aspect);
        if step == 0 || !step.is_multiple_of(multiple) {
            return Err(DiffusionDataError::BucketStep { step, multiple });
        }
        if !(aspect >= 1.0 && aspect.is_finite()) {
            return Err(DiffusionDataError::BucketAspect { aspect });
        }
        let Resolution { width, height } = resolution;
        let buckets = Buckets::new(width.saturating_mul(height), step, aspect);
        match buckets.sizes() {
            [] => Err(DiffusionDataError::NoBucket {
                step,
                aspect,
                width,
                height,
            }),
            _ => Ok(Some(buckets)),
        }
    }
}

/// The resolutions next to one that does not fit, as a file would have them.
fn nearest(resolution: Resolution, multiple: usize) -> String {
    let fitted = |round: fn(usize, usize) -> usize| {
        let side = |side: usize| round(side, multiple).max(1) * multiple;
        let (width, height) = (side(resolution.width), side(resolution.height));
        match width == height {
            true => width.to_string(),
            false => format!("[{width}, {height}]"),
        }
    };
    let (smaller, larger) = (fitted(|side, step| side / step), fitted(usize::div_ceil));
    match smaller == larger {
        true => smaller,
        false => format!("{smaller} and {larger}"),
    }
}

impl ImagePreparation {
    /// The same for measuring, where nothing is drawn: the middle of each image, not mirrored.
    pub fn for_evaluation(&self) -> Self {
        Self {
            framing: Framing {
                interpolation: self.framing.interpolation,
                ..Framing::default()
            },
            ..self.clone()
        }
    }

    /// Whether an image is the same in every epoch, so that what a model makes of it may be kept.
    pub fn is_fixed(&self) -> bool {
        let same = Framing {
            interpolation: self.framing.interpolation,
            ..Framing::default()
        };
        self.framing == same
    }

    /// Whether another part of each image is taken in every epoch.
    pub fn is_random(&self) -> bool {
        self.framing.crop == Crop::Random
    }

    /// Whether images are mirrored at random.
    pub fn mirrors(&self) -> bool {
        self.framing.flip
    }

    /// Height and width that was asked for; with buckets, those of most of its pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Height and width of what becomes of an image.
    ///
    /// - size: height and width of the image
    pub fn target(&self, size: [usize; 2]) -> [usize; 2] {
        let bucket = self.buckets.as_ref().and_then(|all| all.nearest(size));
        bucket.unwrap_or(self.size)
    }

    /// The sizes that images may get: heights and widths.
    pub fn sizes(&self) -> Vec<[usize; 2]> {
        match &self.buckets {
            Some(buckets) => buckets.sizes().to_vec(),
            None => vec![self.size],
        }
    }

    /// Which part of an image is taken in an epoch.
    ///
    /// - size: height and width of the image
    pub fn place(&self, size: [usize; 2], draw: Draw) -> Placement {
        self.framing.place(size, self.target(size), draw)
    }

    /// Whether an image of this size would be enlarged.
    pub(super) fn enlarges(&self, size: [usize; 2]) -> bool {
        // What is drawn does not change the size.
        let any = Draw {
            seed: 0,
            epoch: 0,
            index: 0,
        };
        self.place(size, any).enlarges()
    }

    /// The images that a model is trained on, and what should be known of them: of small ones, and of the
    /// sizes that they get.
    ///
    /// # Errors
    /// When images are too small and may not be enlarged or left out.
    pub fn prepare(
        &self,
        images: Vec<CaptionedImage>,
    ) -> Result<(DiffusionImages, Vec<String>), DiffusionDataError> {
        let (images, note) = self.small.sift(images, self)?;
        let mut notes: Vec<String> = note.into_iter().collect();
        let images = DiffusionImages::new(images, self.clone());
        if self.buckets.is_some() {
            notes.push(images.distribution());
        }
        Ok((images, notes))
    }
}

#[cfg(test)]
#[path = "preparation_tests.rs"]
mod tests;
