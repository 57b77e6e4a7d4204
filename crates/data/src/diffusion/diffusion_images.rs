//! Images with captions as a diffusion model takes them, decoded when they are wanted.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use eigenmix_images::{Draw, Interpolation, Placement};
use sha2::{Digest, Sha256};

use super::captioned_image::CaptionedImage;
use super::preparation::ImagePreparation;
use crate::error::DataError;

/// What fingerprints begin with: changed when the same image would become other pixels.
const VERSION: &[u8] = b"eigenmix pixels 1\0";

/// Images with captions, each with the size that it gets.
#[derive(Debug)]
pub struct DiffusionImages {
    images: Vec<CaptionedImage>,
    preparation: ImagePreparation,
    /// Of each image: height and width.
    targets: Vec<[usize; 2]>,
    /// Of the encoded images, once they have been read: `[images]`.
    digests: Vec<OnceLock<[u8; 32]>>,
}

impl DiffusionImages {
    pub(super) fn new(images: Vec<CaptionedImage>, preparation: ImagePreparation) -> Self {
        let targets = images.iter().map(|image| preparation.target(image.size));
        Self {
            targets: targets.collect(),
            digests: images.iter().map(|_| OnceLock::new()).collect(),
            images,
            preparation,
        }
    }

    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    pub fn images(&self) -> &[CaptionedImage] {
        &self.images
    }

    pub fn preparation(&self) -> &ImagePreparation {
        &self.preparation
    }

    /// The sizes that the images get: heights and widths. Images of one batch need the same (see
    /// [`BatchPlan::by_size`](crate::BatchPlan::by_size)).
    pub fn targets(&self) -> &[[usize; 2]] {
        &self.targets
    }

    /// Which part of an image is taken in an epoch; the same for the same arguments, so a resumed training
    /// sees what it would have seen.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn place(&self, index: usize, seed: u64, epoch: usize) -> Placement {
        let draw = draw(index, seed, epoch);
        self.preparation.place(self.images[index].size, draw)
    }

    /// The caption of an image in an epoch; the same for the same arguments.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn caption(&self, index: usize, seed: u64, epoch: usize) -> &str {
        self.images[index].caption(draw(index, seed, epoch))
    }

    /// The pixels of an image from −1 to 1: `[3, height, width]` of the placement's target.
    ///
    /// # Errors
    /// When the image cannot be read or decoded; the error names the row.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn load(&self, index: usize, placement: &Placement) -> Result<Vec<f32>, DataError> {
        let row = &self.images[index].image;
        let image = row.decode_upright()?;
        placement
            .pixels(&image)
            .map_err(|source| row.bad_image(source))
    }

    /// What the pixels of [`DiffusionImages::load`] depend on, as the SHA-256 of it in hexadecimal: the
    /// encoded image and which part of it is taken, whatever the file is called. Equal fingerprints are
    /// equal pixels.
    ///
    /// # Errors
    /// When the image cannot be read.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn fingerprint(&self, index: usize, placement: &Placement) -> Result<String, DataError> {
        let digest = match self.digests[index].get() {
            Some(digest) => *digest,
            None => {
                let found = Sha256::digest(self.images[index].image.bytes()?).into();
                *self.digests[index].get_or_init(|| found)
            }
        };
        let mut hash = Sha256::new_with_prefix(VERSION);
        hash.update(digest);
        let Placement {
            original,
            resized,
            crop,
            target,
            mirrored,
            interpolation,
        } = placement;
        for number in [original, resized, crop, target].into_iter().flatten() {
            hash.update((*number as u64).to_le_bytes());
        }
        let filter: &[u8] = match interpolation {
            Interpolation::Bilinear => b"bilinear",
            Interpolation::Bicubic => b"bicubic",
            Interpolation::Lanczos => b"lanczos",
        };
        hash.update([u8::from(*mirrored)]);
        hash.update(filter);
        Ok(format!("{:x}", hash.finalize()))
    }

    /// How many images get which size, in words.
    pub(super) fn distribution(&self) -> String {
        let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        for target in &self.targets {
            *counts.entry(*target).or_default() += 1;
        }
        let one = |([height, width], count): (&[usize; 2], &usize)| {
            format!("{width} × {height}: {count}")
        };
        let listed: Vec<String> = counts.iter().map(one).collect();
        format!(
            "the sizes that {} images get (width × height): {}",
            self.images.len(),
            listed.join(", ")
        )
    }
}

/// Names an image in an epoch.
fn draw(index: usize, seed: u64, epoch: usize) -> Draw {
    Draw {
        seed,
        epoch: epoch as u64,
        index: index as u64,
    }
}

#[cfg(test)]
#[path = "diffusion_images_tests.rs"]
mod tests;
