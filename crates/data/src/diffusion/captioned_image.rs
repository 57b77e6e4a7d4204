//! An image with its captions before it is decoded.

use eigenmix_images::Draw;
use rayon::prelude::*;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::images::{ImageRow, Unreadable, leave_out_unreadable};

/// An image with what is said of it, not yet decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionedImage {
    /// Without a label.
    pub image: ImageRow,
    /// Of the upright image: height and width.
    pub size: [usize; 2],
    /// At least one, and none of them empty.
    pub captions: Vec<String>,
}

impl CaptionedImage {
    /// The caption of an epoch: one of them, drawn.
    pub fn caption(&self, draw: Draw) -> &str {
        match self.captions.as_slice() {
            [only] => only,
            several => &several[draw.choose(several.len())],
        }
    }
}

/// An image whose header has not been read.
pub(super) type Unmeasured = (ImageRow, Vec<String>);

/// Reads the headers of all images, and with `data.unreadable = "skip"` leaves out those that do not
/// decode, with a note.
///
/// # Errors
/// When an image cannot be read, naming its row.
pub(super) fn measured(
    mut images: Vec<Unmeasured>,
    config: &DataConfig,
    notes: &mut Vec<String>,
) -> Result<Vec<CaptionedImage>, DataError> {
    if config.unreadable == Unreadable::Skip && !images.is_empty() {
        let (kept, note) = leave_out_unreadable(images, |(image, _)| image)?;
        images = kept;
        notes.extend(note);
    }
    images
        .into_par_iter()
        .map(|(image, captions)| {
            let size = image.header()?.size();
            Ok(CaptionedImage {
                image,
                size,
                captions,
            })
        })
        .collect()
}
