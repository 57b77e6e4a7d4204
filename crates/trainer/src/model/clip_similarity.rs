//! How much images have of texts, and of other images, as CLIP sees them: the cosine of its features
//! (arXiv 2103.00020, section 3.1; CLIP-T and CLIP-I of DreamBooth, arXiv 2208.12242, section 4.2).

use burn::tensor::Device;
use eigenmix_data::TextTokenizer;
use eigenmix_images::{ImageError, ImagePreprocessor, RgbImage};
use eigenmix_models::{Adaptation, Batch, ClipText, HeadKind, ImageBatch, TokenBatch};

use super::loaded_model::LoadedModel;
use crate::host_values::host_values;
use crate::tasks::preprocessor;
use crate::{BaseModel, TrainerError};

/// A CLIP with both towers, to compare images with texts and with each other.
pub struct ClipSimilarity {
    images: LoadedModel,
    texts: ClipText,
    tokenizer: TextTokenizer,
    preprocessor: ImagePreprocessor,
    /// [channels, size] of an image as the tower takes it.
    shape: [usize; 2],
    device: Device,
}

/// The features of a text or an image: a vector of length 1, `[projection_dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipFeatures(Vec<f32>);

/// The features of a text, which may be longer than the tower takes.
#[derive(Clone, Debug, PartialEq)]
pub struct TextFeatures {
    pub features: ClipFeatures,
    /// Whether the end of the text was left out.
    pub is_cut: bool,
}

impl ClipSimilarity {
    /// # Errors
    /// If `base` is not a CLIP with both towers and their projections, or its tokenizer or its image
    /// processor is missing.
    pub fn load(base: &BaseModel, device: &Device) -> Result<Self, TrainerError> {
        let without_towers = || TrainerError::NoTextTower {
            model: base.name.clone(),
        };
        let config = base.architecture.clip_text().ok_or_else(without_towers)?;
        let shape = base.architecture.image_shape().ok_or_else(without_towers)?;
        let preprocessor = preprocessor(base)?;
        let tokenizer = base.tokenizer()?;
        let images = LoadedModel::load(base, None, false, device)?;
        if images.head != HeadKind::ImageFeatures {
            return Err(without_towers());
        }
        let device = device.clone().inner();
        let texts = ClipText::load(&base.checkpoint, config, &Adaptation::default(), &device)?;
        Ok(Self {
            images,
            texts,
            tokenizer,
            preprocessor,
            shape,
            device,
        })
    }

    /// The features of a text.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn of_text(&self, text: &str) -> Result<TextFeatures, TrainerError> {
        let encoding = self
            .tokenizer
            .encode(text, None, self.texts.max_positions())?;
        let batch = TokenBatch::from_sequences([(&encoding.ids[..], &encoding.type_ids[..])]);
        let features = host_values(self.texts.features(&batch, &self.device));
        Ok(TextFeatures {
            features: ClipFeatures::new(features),
            is_cut: encoding.truncated,
        })
    }

    /// The features of an image, which is resized and cropped as the model's own processor does it.
    ///
    /// # Errors
    /// If it cannot be made what the model takes.
    pub fn of_image(&self, image: &RgbImage) -> Result<ClipFeatures, ImageError> {
        let [channels, size] = self.shape;
        let values = self.preprocessor.preprocess(image)?;
        let batch = ImageBatch::new(values, [1, channels, size]);
        Ok(ClipFeatures::new(self.images.logits(&Batch::from(batch))))
    }
}

impl ClipFeatures {
    fn new(mut values: Vec<f32>) -> Self {
        let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        let length = square.sqrt();
        for value in &mut values {
            *value = (f64::from(*value) / length) as f32;
        }
        Self(values)
    }

    /// The cosine of the angle between two features, from −1 to 1.
    ///
    /// # Panics
    /// If they are of models of different widths.
    pub fn cosine(&self, other: &Self) -> f64 {
        assert_eq!(self.0.len(), other.0.len(), "features of one model");
        let pairs = self.0.iter().zip(&other.0);
        pairs
            .map(|(&one, &other)| f64::from(one) * f64::from(other))
            .sum()
    }

    /// The mean cosine with several others; `None` with none.
    pub fn mean_cosine(&self, others: &[Self]) -> Option<f64> {
        let sum: f64 = others.iter().map(|other| self.cosine(other)).sum();
        (!others.is_empty()).then(|| sum / others.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eigenmix_images::decode;
    use serde_json::Value;

    use super::*;

    /// Cosines are those of transformers (tests/golden/clip/make_similarity.py), but for the rounding of
    /// f32; they differ by 4e-2 between texts and by 6e-4 between images.
    #[test]
    fn similarities_are_those_of_transformers() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let golden = repository.join("tests/golden/clip");
        let text = std::fs::read_to_string(golden.join("similarity.json")).expect("a file");
        let expected: Value = serde_json::from_str(&text).expect("JSON");
        let base = BaseModel::open(golden.join("base").to_str().expect("UTF-8")).expect("a CLIP");
        let clip = ClipSimilarity::load(&base, &Device::default()).expect("two towers");
        let names = |key: &str| -> Vec<String> {
            serde_json::from_value(expected[key].clone()).expect("names")
        };
        let texts = names("texts");
        let texts = texts.iter().map(|text| clip.of_text(text).expect("a text"));
        let texts: Vec<ClipFeatures> = texts
            .map(|text| {
                assert!(!text.is_cut);
                text.features
            })
            .collect();
        let files = names("files");
        let images = files.iter().map(|file| {
            let path = repository.join("datasets/toys/pictures").join(file);
            let image = decode(&std::fs::read(path).expect("a file")).expect("an image");
            clip.of_image(&image).expect("features")
        });
        let images: Vec<ClipFeatures> = images.collect();
        for (key, others) in [("to_texts", &texts), ("to_images", &images)] {
            for (row, image) in images.iter().enumerate() {
                for (column, other) in others.iter().enumerate() {
                    let found = image.cosine(other);
                    let expected = expected[key][row][column].as_f64().expect("a number");
                    assert!(
                        (found - expected).abs() < 2e-6,
                        "{key} {row} {column}: {found} {expected}"
                    );
                }
            }
        }
        let long = clip
            .of_text(&"a photo of a dog ".repeat(20))
            .expect("a text");
        assert!(long.is_cut);
    }

    #[test]
    fn cosines_do_not_depend_on_the_length_of_features() {
        let one = ClipFeatures::new(vec![3.0, 4.0]);
        let longer = ClipFeatures::new(vec![300.0, 400.0]);
        let other = ClipFeatures::new(vec![0.0, -0.5]);
        assert!((one.cosine(&longer) - 1.0).abs() < 1e-6);
        assert!((one.cosine(&other) + 0.8).abs() < 1e-6);
        let mean = one.mean_cosine(&[longer, other]).expect("two others");
        assert!((mean - 0.1).abs() < 1e-6, "{mean}");
        assert_eq!(one.mean_cosine(&[]), None);
    }
}
