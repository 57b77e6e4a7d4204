//! Images with labels: in folders, in tables of paths, or inside parquet files.

mod class_folders;
mod image_dataset;
mod image_files;
mod image_row;
mod image_split;
mod parquet_images;
mod path_table;
#[cfg(test)]
mod test_images;
mod unreadable;

pub use image_dataset::{EpochAugmentation, ImageDataset};
pub(crate) use image_files::{is_image, listed_endings, visible};
pub use image_row::{ImageRow, ImageSource};
pub use image_split::{ImageSplit, read_image_split};
pub(crate) use path_table::file_beside;
#[cfg(test)]
pub(crate) use test_images::bmp;
pub(crate) use unreadable::leave_out_unreadable;
pub use unreadable::{Unreadable, undecodable};
