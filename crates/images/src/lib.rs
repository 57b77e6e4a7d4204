//! Encoded images → RGB → what a vision model takes, to the bit as Pillow and transformers do it.
//!
//! A model was trained on images prepared by one library; another filter, rounding or conversion to
//! RGB shifts every activation a little. So this crate repeats the library that transformers uses,
//! and its tests compare the bytes.
//!
//! ```
//! use std::path::Path;
//!
//! use eigenmix_images::{ImagePreprocessor, RgbImage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What `preprocessor_config.json` of a model would say.
//! let config = serde_json::json!({
//!     "image_processor_type": "ViTImageProcessor",
//!     "size": {"height": 2, "width": 2},
//!     "image_mean": [0.5, 0.5, 0.5],
//!     "image_std": [0.5, 0.5, 0.5],
//! });
//! let preprocessor = ImagePreprocessor::from_config(&config, Path::new("a model"))?;
//!
//! // `decode` would make it of the bytes of a JPEG, PNG, WebP, GIF or BMP file.
//! let red = RgbImage::new(4, 3, [255, 0, 0].repeat(4 * 3));
//! let values = preprocessor.preprocess(&red)?;
//! // [3, height, width]: red is 1, green and blue are −1.
//! assert_eq!(values, [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
//! # Ok(())
//! # }
//! ```

mod augmentation;
mod buckets;
mod decoding;
mod error;
mod framing;
mod header;
mod orientation;
mod png;
mod preprocessor;
mod preprocessor_config;
mod resample;
mod resolution;
mod rgb_image;

pub use augmentation::{Augment, Augmentation, CropScale, Draw};
pub use buckets::Buckets;
pub use decoding::decode;
pub use error::{ImageError, PreprocessorError};
pub use framing::{Crop, Framing, Interpolation, Placement};
pub use header::{ImageHeader, decode_upright};
pub use orientation::Orientation;
pub use png::encode_png;
pub use preprocessor::ImagePreprocessor;
pub use resample::{Filter, resize};
pub use resolution::Resolution;
pub use rgb_image::RgbImage;
