//! How an image was made, and the file of the image that says so.

use std::path::Path;

use eigenmix_images::{RgbImage, encode_png};
use eigenmix_tensors::{FileError, write_file};
use serde::Serialize;

use crate::SamplerKind;

/// How an image was made: it is in each PNG, and in a list beside them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageRecord {
    /// The name of its file.
    pub file: String,
    pub prompt: String,
    pub negative_prompt: String,
    pub base: String,
    /// Each with its weight.
    pub adapters: Vec<(String, f32)>,
    /// Of an image that a training made: after how many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    pub width: usize,
    pub height: usize,
    pub steps: usize,
    pub guidance: f64,
    pub sampler: SamplerKind,
    pub seed: u64,
}

impl ImageRecord {
    /// Writes the image as a PNG that carries the record: `parameters` as other programs read it, and
    /// `eigenmix` in full.
    ///
    /// - directory: where [`ImageRecord::file`] is written
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, image: &RgbImage, directory: &Path) -> Result<(), FileError> {
        let path = directory.join(&self.file);
        let bytes = self.png(image).map_err(FileError::io("write", &path))?;
        write_file(&path, &bytes)
    }

    fn png(&self, image: &RgbImage) -> std::io::Result<Vec<u8>> {
        let texts = [
            ("parameters", self.parameters()),
            ("eigenmix", serde_json::to_string(self)?),
        ];
        encode_png(image, &texts)
    }

    /// The text that other programs write into their images.
    fn parameters(&self) -> String {
        let negative = match self.negative_prompt.as_str() {
            "" => String::new(),
            text => format!("\nNegative prompt: {text}"),
        };
        format!(
            "{}{negative}\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}",
            self.prompt,
            self.steps,
            self.sampler.name(),
            self.guidance,
            self.seed,
            self.width,
            self.height
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_written_as_it_is_with_how_it_was_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let record = ImageRecord {
            file: "fox.png".into(),
            prompt: "a fox".into(),
            negative_prompt: "snow".into(),
            base: "base".into(),
            adapters: vec![("style".into(), 0.5)],
            step: Some(20),
            width: 2,
            height: 1,
            steps: 7,
            guidance: 4.5,
            sampler: SamplerKind::Ddim,
            seed: 3,
        };
        let image = RgbImage::new(2, 1, vec![1, 2, 3, 250, 251, 252]);
        record.write(&image, directory.path()).expect("a file");
        let bytes = std::fs::read(directory.path().join("fox.png")).expect("a file");
        assert_eq!(eigenmix_images::decode(&bytes).expect("a PNG"), image);
        let said = String::from_utf8_lossy(&bytes);
        let parameters = "a fox\nNegative prompt: snow\nSteps: 7, Sampler: ddim, CFG scale: 4.5, Seed: 3, Size: 2x1";
        assert!(said.contains(parameters), "{said}");
        assert!(
            said.contains("\"adapters\":[[\"style\",0.5]],\"step\":20"),
            "{said}"
        );
    }
}
