//! What becomes of images that are smaller than what they are trained at: blown up, they teach a model to
//! draw blurred ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::captioned_image::CaptionedImage;
use super::error::DiffusionDataError;
use super::preparation::ImagePreparation;

/// What becomes of images that are smaller than the size at which they are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SmallImages {
    /// They are named, and nothing is trained.
    #[default]
    Error,
    /// They are enlarged, with a note.
    Enlarge,
    /// They are left out, with a note.
    Skip,
}

impl SmallImages {
    /// The images that are trained on, and a note about small ones if there are any.
    ///
    /// # Errors
    /// When there are some and none is allowed, or nothing is left without them.
    pub(super) fn sift(
        self,
        images: Vec<CaptionedImage>,
        preparation: &ImagePreparation,
    ) -> Result<(Vec<CaptionedImage>, Option<String>), DiffusionDataError> {
        let all = images.len();
        let is_small = |image: &CaptionedImage| preparation.enlarges(image.size);
        let small: Vec<&CaptionedImage> = images.iter().filter(|image| is_small(image)).collect();
        if small.is_empty() {
            return Ok((images, None));
        }
        let (count, named) = (small.len(), named(&small, preparation));
        match self {
            Self::Error => Err(DiffusionDataError::SmallImages { count, all, named }),
            Self::Enlarge => {
                let note = format!(
                    "{count} of {all} images are smaller than they are trained at and are enlarged: {named}"
                );
                Ok((images, Some(note)))
            }
            Self::Skip if count == all => Err(DiffusionDataError::AllSmall { all, named }),
            Self::Skip => {
                let note = format!(
                    "{count} of {all} images are smaller than they are trained at and are left out: {named}"
                );
                let large = images.into_iter().filter(|image| !is_small(image));
                Ok((large.collect(), Some(note)))
            }
        }
    }
}

/// The first few, with their sizes as width × height.
fn named(small: &[&CaptionedImage], preparation: &ImagePreparation) -> String {
    const NAMED: usize = 5;
    let one = |image: &&CaptionedImage| {
        let [height, width] = image.size;
        let [lines, columns] = preparation.target(image.size);
        let place = &image.image.place;
        format!("{place} ({width} × {height} for {columns} × {lines})")
    };
    let listed: Vec<String> = small.iter().take(NAMED).map(one).collect();
    let listed = listed.join(", ");
    match small.len() {
        count if count > NAMED => format!("{listed} and {} more", count - NAMED),
        _ => listed,
    }
}
