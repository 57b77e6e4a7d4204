//! Encoded images → RGB → what a vision model takes, to the bit as Pillow and transformers do it.
//!
//! A model was trained on what one image library made of its images; another filter, another
//! rounding or another conversion to RGB shifts every activation a little. So this crate repeats the
//! library that transformers uses, and its tests compare the bytes.

mod augmentation;
mod decoding;
mod error;
mod preprocessor;
mod preprocessor_config;
mod resample;
mod rgb_image;

pub use augmentation::{Augment, Augmentation, CropScale, Draw};
pub use decoding::decode;
pub use error::{ImageError, PreprocessorError};
pub use preprocessor::ImagePreprocessor;
pub use resample::{Filter, resize};
pub use rgb_image::RgbImage;
