//! Images with captions for diffusion models: read from tables and folders, or as one subject with its
//! prompt, and brought to the sizes that a model is trained at.

mod caption_columns;
mod caption_folder;
mod captioned_image;
mod captioned_split;
mod captioned_table;
mod diffusion_images;
mod dream_booth;
mod error;
mod image_names;
mod preparation;
mod small_images;

pub use captioned_image::CaptionedImage;
pub use captioned_split::{CaptionedSplit, read_captioned_split};
pub use diffusion_images::DiffusionImages;
pub use dream_booth::{ClassImages, DreamBooth, read_dream_booth};
pub use error::DiffusionDataError;
pub(crate) use image_names::{NameProblem, names_of_instances, names_of_split, names_with_images};
pub use preparation::ImagePreparation;
pub use small_images::SmallImages;
