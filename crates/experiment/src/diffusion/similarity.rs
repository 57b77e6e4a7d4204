//! How well generated images fit their prompts and reference images, by a CLIP.

use std::path::{Path, PathBuf};

use eigenmix_diffusion::ImageRecord;
use eigenmix_images::{RgbImage, decode};
use eigenmix_tensors::FileError;
use eigenmix_trainer::{BaseModel, ClipFeatures, ClipSimilarity, DeviceChoice};
use serde::Serialize;

use crate::listener::Listener;
use crate::{BadInput, ExperimentError};

/// What images are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct SimilarityRequest {
    /// A CLIP: a directory or a Hub id.
    pub clip: String,
    /// A directory of images, or one.
    pub references: Option<PathBuf>,
}

/// The cosines of CLIP's features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// With the prompt (CLIP-T).
    pub text: f64,
    /// The mean over the reference images (CLIP-I).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<f64>,
}

/// An image that was made, and how similar it is to what it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasuredImage {
    #[serde(flatten)]
    pub record: ImageRecord,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
}

/// A CLIP and the features of the reference images.
pub(crate) struct SimilarityMeasure {
    clip: ClipSimilarity,
    references: Vec<ClipFeatures>,
}

impl SimilarityMeasure {
    /// # Errors
    /// If the model is no CLIP, or a reference image cannot be read.
    pub fn open(
        request: &SimilarityRequest,
        device: DeviceChoice,
    ) -> Result<Self, ExperimentError> {
        let device = device.open()?;
        let clip = ClipSimilarity::load(&BaseModel::open(&request.clip)?, &device)?;
        let files = match &request.references {
            Some(path) => image_files(path)?,
            None => Vec::new(),
        };
        let features = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(FileError::io("read", path))?;
            let found = decode(&bytes).and_then(|image| clip.of_image(&image));
            found.map_err(|error| -> ExperimentError {
                BadInput(format!("`{}`: {error}", path.display())).into()
            })
        };
        let references = files.iter().map(features).collect::<Result<_, _>>()?;
        Ok(Self { clip, references })
    }

    /// # Errors
    /// If the image or the prompt cannot be made what the model takes.
    pub fn of(
        &self,
        image: &RgbImage,
        prompt: &str,
        listener: &dyn Listener,
    ) -> Result<Similarity, ExperimentError> {
        let text = self.clip.of_text(prompt)?;
        if text.is_cut {
            listener.warn(&format_args!(
                "CLIP compares an image with the beginning of its prompt, which is longer than it takes"
            ));
        }
        let found = self.clip.of_image(image);
        let found = found.map_err(|error| BadInput(format!("a generated image: {error}")))?;
        Ok(Similarity {
            text: found.cosine(&text.features),
            image: found.mean_cosine(&self.references),
        })
    }
}

/// The images of a directory, by name; other files are left out.
fn image_files(path: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(FileError::io("read", path))? {
        let file = entry.map_err(FileError::io("read", path))?.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        let ending = ending.map(str::to_ascii_lowercase);
        let is_image = ending.is_some_and(|ending| {
            ["png", "jpg", "jpeg", "webp", "gif", "bmp"].contains(&ending.as_str())
        });
        if is_image {
            files.push(file);
        }
    }
    if files.is_empty() {
        let problem = format!("`{}` has no images to compare with", path.display());
        return Err(BadInput(problem).into());
    }
    files.sort();
    Ok(files)
}
