//! An image → what a vision model takes: resized, cropped, rescaled and normalized.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::augmentation::{Augment, Augmentation, Draw};
use crate::error::{ImageError, PreprocessorError};
use crate::preprocessor_config::PreprocessorConfig;
use crate::resample::{Filter, resize};
use crate::rgb_image::{RgbImage, checked_area};

/// Prepares images for a vision model, as its processor in transformers does.
///
/// Equal, to the last bit, to the processors written with Pillow and NumPy (`use_fast=False`); the
/// ones written with torchvision resize with another rounding and differ from these by a few units
/// of 1/255.
#[derive(Clone, Debug)]
pub struct ImagePreprocessor {
    /// The colour of what makes an image a square before it is resized.
    pad: Option<[u8; 3]>,
    resize: Option<Resize>,
    /// `[height, width]`
    crop: Option<[usize; 2]>,
    size: [usize; 2],
    /// What each of the 256 values of a channel becomes: `[3][256]`.
    values: [Vec<f32>; 3],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Resize {
    pub target: ResizeTarget,
    pub filter: Filter,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ResizeTarget {
    /// `[height, width]`
    Exact([usize; 2]),
    /// The other edge follows, so that the proportions stay.
    ShortestEdge(usize),
}

impl ImagePreprocessor {
    pub const FILE_NAME: &str = "preprocessor_config.json";

    /// The file of a whole processor, which may have that of images in it (transformers 5).
    pub const PROCESSOR_FILE: &str = "processor_config.json";

    pub(crate) fn new(
        resize: Option<Resize>,
        crop: Option<[usize; 2]>,
        size: [usize; 2],
        values: [Vec<f32>; 3],
    ) -> Self {
        Self {
            pad: None,
            resize,
            crop,
            size,
            values,
        }
    }

    /// The same for images that are made squares first, in the middle of this colour.
    pub(crate) fn padding(self, colour: [u8; 3]) -> Self {
        Self {
            pad: Some(colour),
            ..self
        }
    }

    /// The preprocessor of a model's directory.
    ///
    /// It is in `preprocessor_config.json`, or in `processor_config.json` where that has it. Keys that it
    /// leaves out have the defaults of ViT's and CLIP's
    /// processors; of any other processor, all keys must be there.
    ///
    /// # Errors
    /// When the file is missing, malformed or asks for what is not supported, or when it makes
    /// images of another size than `config.json`, where there is one, says the model takes.
    pub fn from_dir(dir: &Path) -> Result<Self, PreprocessorError> {
        let whole = dir.join(Self::PROCESSOR_FILE);
        let of_whole = read_if_there(&whole)?
            .and_then(|mut processor| Some(processor.get_mut("image_processor")?.take()))
            .filter(Value::is_object);
        let (path, config) = match of_whole {
            Some(config) => (whole, config),
            None => {
                let path = dir.join(Self::FILE_NAME);
                let Some(config) = read_if_there(&path)? else {
                    return Err(PreprocessorError::Missing {
                        dir: dir.to_owned(),
                    });
                };
                (path, config)
            }
        };
        let preprocessor = Self::from_config(&config, &path)?;
        let Some(model) = read_if_there(&dir.join("config.json"))? else {
            return Ok(preprocessor);
        };
        match image_size(&model) {
            Some(expected) if expected != preprocessor.size => Err(PreprocessorError::ModelSize {
                dir: dir.to_owned(),
                expected,
                found: preprocessor.size,
            }),
            _ => Ok(preprocessor),
        }
    }

    /// The preprocessor that the content of a `preprocessor_config.json` describes.
    ///
    /// - path: names the source in errors
    ///
    /// # Errors
    /// When the content is malformed or asks for what is not supported.
    pub fn from_config(config: &Value, path: &Path) -> Result<Self, PreprocessorError> {
        use serde::Deserialize;
        let config = PreprocessorConfig::deserialize(config).map_err(|source| {
            PreprocessorError::MalformedJson {
                path: path.to_owned(),
                source,
            }
        })?;
        config
            .resolve()
            .map_err(|problem| PreprocessorError::Invalid {
                path: path.to_owned(),
                problem,
            })
    }

    /// Of every image that comes out: `[height, width]`.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// How many values an image becomes: 3 · height · width.
    pub fn values_per_image(&self) -> usize {
        3 * self.size[0] * self.size[1]
    }

    /// Resizes, crops, rescales and normalises.
    ///
    /// - output: `[3, height, width]`
    ///
    /// # Errors
    /// When the image is so much longer than wide that the resized one would be absurdly large.
    pub fn preprocess(&self, image: &RgbImage) -> Result<Vec<f32>, ImageError> {
        self.fit(image).map(|fitted| self.normalize(&fitted))
    }

    /// The same for training, with the changes that `augmentation` draws for this image.
    ///
    /// A random part is resized to the model's size at once, in place of resizing and centre crop.
    ///
    /// - output: `[3, height, width]`
    ///
    /// # Errors
    /// As [`ImagePreprocessor::preprocess`].
    pub fn preprocess_augmented(
        &self,
        image: &RgbImage,
        augmentation: &Augmentation,
        draw: Draw,
    ) -> Result<Vec<f32>, ImageError> {
        let mut random = draw.random();
        let mut fitted = if augmentation.kind == Augment::CropFlip {
            let [height, width] = self.size;
            let filter = self.resize.map_or(Filter::Bilinear, |resize| resize.filter);
            let part = augmentation.random_part(image, &mut random);
            resize(&part, width, height, filter)
        } else {
            self.fit(image)?
        };
        if augmentation.flips(&mut random) {
            fitted = fitted.mirrored();
        }
        Ok(self.normalize(&fitted))
    }

    /// Resizes and crops to the model's size.
    ///
    /// # Errors
    /// As [`ImagePreprocessor::preprocess`].
    pub fn fit(&self, image: &RgbImage) -> Result<RgbImage, ImageError> {
        let (padded, resized);
        let mut fitted = image;
        if let Some(colour) = self.pad {
            let side = image.width().max(image.height());
            checked_area(side, side)?;
            padded = image.padded_to_square(colour);
            fitted = &padded;
        }
        if let Some(Resize { target, filter }) = self.resize {
            let [height, width] = target.of(fitted);
            checked_area(width, height)?;
            resized = resize(fitted, width, height, filter);
            fitted = &resized;
        }
        Ok(match self.crop {
            Some([height, width]) => fitted.center_crop(width, height),
            None => fitted.clone(),
        })
    }

    fn normalize(&self, image: &RgbImage) -> Vec<f32> {
        let (pixels, _) = image.pixels().as_chunks::<3>();
        let mut tensor = Vec::with_capacity(3 * pixels.len());
        for (channel, values) in self.values.iter().enumerate() {
            let channel = pixels.iter().map(|pixel| usize::from(pixel[channel]));
            tensor.extend(channel.map(|value| values[value]));
        }
        tensor
    }
}

impl ResizeTarget {
    /// The size that an image gets: `[height, width]`.
    fn of(self, image: &RgbImage) -> [usize; 2] {
        let (width, height) = (image.width(), image.height());
        match self {
            Self::Exact(size) => size,
            Self::ShortestEdge(edge) => {
                let (short, long) = (width.min(height), width.max(height));
                // As Python divides: in 64 bits, then cut off.
                let longer = ((edge * long) as f64 / short as f64) as usize;
                if width <= height {
                    [longer, edge]
                } else {
                    [edge, longer]
                }
            }
        }
    }
}

/// The size a model takes: `[height, width]`; CLIP has those of its vision model in a nested
/// object.
fn image_size(model: &Value) -> Option<[usize; 2]> {
    let size = model.get("image_size").or_else(|| {
        let vision = model.get("vision_config")?;
        vision.get("image_size")
    })?;
    let side = |side: &Value| usize::try_from(side.as_u64()?).ok();
    match size.as_array().map(Vec::as_slice) {
        Some([height, width]) => Some([side(height)?, side(width)?]),
        _ => side(size).map(|side| [side; 2]),
    }
}

/// A file's content, if there is such a file.
fn read_if_there(path: &Path) -> Result<Option<Value>, PreprocessorError> {
    match read_json(path) {
        Err(PreprocessorError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(None)
        }
        content => content.map(Some),
    }
}

fn read_json(path: &Path) -> Result<Value, PreprocessorError> {
    let content = fs::read(path).map_err(|source| PreprocessorError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&content).map_err(|source| PreprocessorError::MalformedJson {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "preprocessor_tests.rs"]
mod tests;
