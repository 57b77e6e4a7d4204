//! Classification or regression of images.

use std::path::PathBuf;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{
    DataConfig, DataError, EpochAugmentation, ImageDataset, ImageRow, ImageSource, InputContract,
    LabelMap, LabelPolicy, PredictionTable, Row, Split, TargetKind, read_image_split,
};
use eigenmix_images::ImagePreprocessor;
use eigenmix_models::{Architecture, Batch, HeadKind, ImageBatch};

use super::labelled::{Inputs, LabelledReader, LabelledSource, count_labels};
use super::{LabelSurvey, LineReader, Survey, Task, TaskReader};
use crate::{BaseModel, TrainerError};

/// Preprocessing converts every image to RGB.
const CHANNELS: usize = 3;

pub(super) struct ImageClassification;

impl Task for ImageClassification {
    fn name(&self) -> &'static str {
        "image-classification"
    }

    fn settings(&self) -> &'static [&'static str] {
        &[
            "image",
            "unreadable",
            "augment",
            "crop_scale",
            "label",
            "label_separator",
        ]
    }

    fn models(&self) -> &'static str {
        "vision models classify images"
    }

    fn fits(&self, architecture: &Architecture) -> bool {
        architecture.image_shape().is_some()
            && architecture.image_tokens().is_none()
            && architecture.supports(self.head(2, false))
    }

    fn is_of_head(&self, head: HeadKind) -> bool {
        !head.is_per_token()
    }

    fn head(&self, labels: usize, from_prompts: bool) -> HeadKind {
        match from_prompts {
            true => HeadKind::ZeroShot { labels },
            false => HeadKind::Classification { labels },
        }
    }

    fn takes_prompts(&self) -> bool {
        true
    }

    fn open<'a>(
        &self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        _metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
        let source = Images(preprocessor(base)?);
        Ok(Box::new(LabelledReader::new(source, config, base)?))
    }

    fn count_labels(
        &self,
        config: &DataConfig,
        target: TargetKind,
    ) -> Result<Option<usize>, TrainerError> {
        count_labels::<Images>(config, target)
    }

    fn line_reader(
        &self,
        base: &BaseModel,
        config: &DataConfig,
    ) -> Result<Option<Box<dyn LineReader>>, TrainerError> {
        Ok(Some(Box::new(ImageLines {
            preprocessor: preprocessor(base)?,
            config: config.clone(),
        })))
    }

    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        _base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError> {
        let (rows, of_rows) = LabelSurvey::take::<Images>(split, config)?;
        let labels = match (split, of_rows) {
            (Split::Train, LabelSurvey::Lists { .. }) => of_rows,
            (Split::Train, _) => {
                let labels = LabelMap::from_train(&rows)?;
                LabelSurvey::Classes(labels.names().len())
            }
            _ => LabelSurvey::None,
        };
        Ok(Survey {
            rows: rows.len(),
            labels,
            lengths: None,
        })
    }

    fn columns<'c>(&self, config: &'c DataConfig) -> Vec<(&'static str, &'c str)> {
        vec![("image", &config.image), ("label", &config.label)]
    }
}

/// The model's own preprocessing, which must give images of the size that the model expects.
///
/// # Errors
/// If it is missing, malformed, or does not.
pub fn preprocessor(base: &BaseModel) -> Result<ImagePreprocessor, TrainerError> {
    let preprocessor = ImagePreprocessor::from_dir(base.directory())?;
    if let Some([channels, size]) = base.architecture.image_shape() {
        let (expected, found) = ([size; 2], preprocessor.size());
        if found != expected || channels != CHANNELS {
            return Err(TrainerError::ImageSize {
                model: base.name.clone(),
                expected,
                channels,
                found,
            });
        }
    }
    Ok(preprocessor)
}

/// Images, decoded when they are needed.
pub struct ImageInputs(pub ImageDataset);

impl Inputs for ImageInputs {
    fn len(&self) -> usize {
        self.0.rows().len()
    }

    fn lengths(&self) -> Vec<usize> {
        vec![1; self.len()]
    }

    fn truncated(&self) -> usize {
        0
    }

    fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Batch, TrainerError> {
        let pixels = self.0.load_batch(examples, augmented)?;
        let [height, _] = self.0.preprocessor().size();
        Ok(ImageBatch::new(pixels, [examples.len(), CHANNELS, height]).into())
    }
}

/// Rows of images, and what prepares them.
struct Images(ImagePreprocessor);

impl LabelledSource for Images {
    type Row = ImageRow;

    fn rows(
        split: Split,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<(Vec<ImageRow>, Vec<String>), DataError> {
        let found = read_image_split(config.directory(), split, config, labels)?;
        Ok((found.rows, found.notes))
    }

    fn inputs(
        &self,
        rows: Vec<ImageRow>,
        _config: &DataConfig,
    ) -> Result<Box<dyn Inputs>, TrainerError> {
        let images = ImageDataset::new(rows, self.0.clone());
        Ok(Box::new(ImageInputs(images)))
    }

    fn contract(&self, config: &DataConfig) -> InputContract {
        InputContract {
            task: ImageClassification.name().to_owned(),
            image: Some(config.image.clone()),
            label: Some(config.label.clone()),
            ..InputContract::default()
        }
    }
}

/// A path of an image file per row.
struct ImageLines {
    preprocessor: ImagePreprocessor,
    config: DataConfig,
}

impl LineReader for ImageLines {
    fn rows(&self, table: &PredictionTable) -> Result<Vec<Row>, DataError> {
        let paths = table.image_paths(&self.config)?.into_iter();
        let row = |(text, place)| Row {
            text,
            text_pair: None,
            label: None,
            place,
        };
        Ok(paths.map(row).collect())
    }

    fn batch(&self, rows: &[Row]) -> Result<(Batch, usize), TrainerError> {
        let row = |row: &Row| ImageRow {
            source: ImageSource::File(PathBuf::from(&row.text)),
            label: None,
            place: row.place.clone(),
        };
        let rows: Vec<ImageRow> = rows.iter().map(row).collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let images = ImageDataset::new(rows, self.preprocessor.clone());
        Ok((ImageInputs(images).batch(&all, None)?, 0))
    }
}
