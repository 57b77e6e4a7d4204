//! An image → pixels of a given size for a diffusion model: resized until it covers the size, cropped and
//! mirrored, as diffusers' training scripts do it.

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augmentation::Draw;
use crate::error::ImageError;
use crate::resample::{Filter, resize};
use crate::rgb_image::{RgbImage, checked_area};

/// Which part of a resized image is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The middle.
    #[default]
    Centre,
    /// Another part in every epoch, drawn by the seed.
    Random,
}

/// How a resized image gets its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Linear, over as many pixels as become one.
    #[default]
    Bilinear,
    /// Cubic, sharper.
    Bicubic,
    /// Lanczos' windowed sinc, the sharpest.
    Lanczos,
}

impl Interpolation {
    fn filter(self) -> Filter {
        match self {
            Self::Bilinear => Filter::Bilinear,
            Self::Bicubic => Filter::Bicubic,
            Self::Lanczos => Filter::Lanczos,
        }
    }
}

/// How images are brought to their sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    pub crop: Crop,
    /// Whether half of the images of an epoch are mirrored.
    pub flip: bool,
    pub interpolation: Interpolation,
}

/// Which pixels of an image are taken, and to what size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Of the upright image: height and width.
    pub original: [usize; 2],
    /// What it is resized to before it is cropped: height and width.
    pub resized: [usize; 2],
    /// Where the crop begins in the resized image, mirrored if it is: top and left.
    pub crop: [usize; 2],
    /// Of what comes out: height and width.
    pub target: [usize; 2],
    pub mirrored: bool,
    pub interpolation: Interpolation,
}

impl Framing {
    /// The part of an image that is taken for `target`: it is resized until it covers `target`, whatever
    /// its proportions, as torchvision's `Resize` does for a square; what stands over is cut off.
    ///
    /// - original: height and width of the image
    /// - target: height and width
    /// - draw: names the image in its epoch, for what is drawn
    ///
    /// # Panics
    /// If a side is zero.
    pub fn place(&self, original: [usize; 2], target: [usize; 2], draw: Draw) -> Placement {
        let resized = covering(original, target);
        let margin = [resized[0] - target[0], resized[1] - target[1]];
        let mut random = draw.random();
        let mirrored = self.flip && random.random_bool(0.5);
        let crop = match self.crop {
            // As Python rounds: halves to the even number.
            Crop::Centre => margin.map(|margin| (margin as f64 / 2.0).round_ties_even() as usize),
            Crop::Random => margin.map(|margin| random.random_range(0..=margin)),
        };
        Placement {
            original,
            resized,
            crop,
            target,
            mirrored,
            interpolation: self.interpolation,
        }
    }
}

/// The smallest size with the proportions of an image that covers a target; the side that stands over is
/// rounded down, as in torchvision.
fn covering([height, width]: [usize; 2], [lines, columns]: [usize; 2]) -> [usize; 2] {
    assert!(height > 0 && width > 0, "no pixels");
    // width / height against columns / lines, without a division
    match width * lines <= height * columns {
        true => {
            let longer = (columns * height) as f64 / width as f64;
            [(longer as usize).max(lines), columns]
        }
        false => {
            let longer = (lines * width) as f64 / height as f64;
            [lines, (longer as usize).max(columns)]
        }
    }
}

impl Placement {
    /// Whether pixels are made up: the image is smaller than what comes out.
    pub fn enlarges(&self) -> bool {
        self.resized[0] > self.original[0] || self.resized[1] > self.original[1]
    }

    /// SDXL's conditions on an image's size: height and width of the original, top and left of the crop,
    /// height and width of what comes out.
    pub fn time_ids(&self) -> [f32; 6] {
        let [[height, width], [top, left], [lines, columns]] =
            [self.original, self.crop, self.target];
        [height, width, top, left, lines, columns].map(|number| number as f32)
    }

    /// The pixels from −1 to 1.
    ///
    /// - image: the upright image, of the size that was placed
    /// - output: `[3, height, width]`
    ///
    /// # Errors
    /// If the image has another size, or the resized one would be absurdly large.
    pub fn pixels(&self, image: &RgbImage) -> Result<Vec<f32>, ImageError> {
        let found = [image.height(), image.width()];
        if found != self.original {
            return Err(ImageError::HeaderSize {
                header: self.original,
                found,
            });
        }
        let [lines, columns] = self.resized;
        checked_area(columns, lines)?;
        let resized = resize(image, columns, lines, self.interpolation.filter());
        let [height, width] = self.target;
        let [top, left] = self.crop;
        let part = match self.mirrored {
            true => resized
                .crop(columns - width - left, top, width, height)
                .mirrored(),
            false => resized.crop(left, top, width, height),
        };
        let (pixels, _) = part.pixels().as_chunks::<3>();
        let mut values = Vec::with_capacity(3 * pixels.len());
        for channel in 0..3 {
            values.extend(pixels.iter().map(|pixel| value(pixel[channel])));
        }
        Ok(values)
    }
}

/// As torchvision's `ToTensor` and `Normalize([0.5], [0.5])` compute it.
fn value(byte: u8) -> f32 {
    (f32::from(byte) / 255.0 - 0.5) / 0.5
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
