//! The next token of texts with images.

use std::borrow::Cow;
use std::path::Path;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, DataLocation, Split, read_language_split};
use eigenmix_images::ImagePreprocessor;
use eigenmix_models::{Architecture, HeadKind};
use eigenmix_tensors::FileError;
use serde_json::Value;

use super::causal_lm::{ImageReading, LanguageReader};
use super::length_limit::check_length;
use super::{LabelSurvey, Survey, Task, TaskKind, TaskReader, preprocessor};
use crate::{BaseModel, TrainerError};

pub(super) struct VisionLanguage;

impl Task for VisionLanguage {
    fn name(&self) -> &'static str {
        "vision-language"
    }

    fn peft_name(&self) -> Option<&'static str> {
        Some("CAUSAL_LM")
    }

    fn settings(&self) -> &'static [&'static str] {
        &[
            "text",
            "format",
            "columns",
            "train_on",
            "chat_template",
            "prompt_template",
            "image",
            "unreadable",
        ]
    }

    fn models(&self) -> &'static str {
        "vision-language models continue texts with images"
    }

    fn fits(&self, architecture: &Architecture) -> bool {
        architecture.image_tokens().is_some()
    }

    fn is_of_head(&self, head: HeadKind) -> bool {
        head == HeadKind::LanguageModel
    }

    fn head(&self, _labels: usize, _from_prompts: bool) -> HeadKind {
        HeadKind::LanguageModel
    }

    fn check_length(
        &self,
        architecture: &Architecture,
        config: &DataConfig,
    ) -> Result<(), TrainerError> {
        check_length(architecture, config)
    }

    fn open<'a>(
        &self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
        check_length(&base.architecture, config)?;
        Ok(Box::new(LanguageReader {
            base,
            config: Cow::Owned(config.with_images()),
            location: DataLocation::open(config)?,
            task: TaskKind::VisionLanguage,
            compares: metrics
                .iter()
                .any(|metric| matches!(metric, Metric::ExactMatch | Metric::VqaAccuracy)),
            tokenizer: base.tokenizer()?,
            images: Some(ImageReading {
                preprocessor: image_processor(base)?,
                unreadable: config.unreadable,
            }),
        }))
    }

    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        _base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError> {
        let config = config.with_images();
        let found = read_language_split(config.directory(), split, &config)?;
        Ok(Survey {
            rows: found.rows.len(),
            labels: LabelSurvey::None,
            lengths: None,
        })
    }

    fn usual_max_length(&self) -> Option<(usize, &'static str)> {
        let reason =
            "a conversation with an image or two; images count as many tokens as they have";
        Some((1024, reason))
    }
}

/// The processor of the model's images, whose files have to be those of this model: they say how many
/// tokens an image takes.
///
/// # Errors
/// If it is missing, malformed, or for another model.
pub fn image_processor(base: &BaseModel) -> Result<ImagePreprocessor, TrainerError> {
    let preprocessor = preprocessor(base)?;
    let Architecture::VisionLanguage(model) = &base.architecture else {
        return Ok(preprocessor);
    };
    let path = base.directory().join(ImagePreprocessor::PROCESSOR_FILE);
    if !path.is_file() {
        return Ok(preprocessor);
    }
    let processor = read_json(&path)?;
    let number = |key: &str| processor.get(key).and_then(Value::as_u64);
    let strategy = processor
        .get("vision_feature_select_strategy")
        .and_then(Value::as_str);
    let refused = |reason: String| TrainerError::Processor {
        path: path.clone(),
        reason,
    };
    let patch = model.tower.patch_size;
    if let Some(found) = number("patch_size").filter(|&found| found != patch as u64) {
        return Err(refused(format!(
            "its patches are {found} pixels wide, the model's {patch}"
        )));
    }
    let takes_class_token = strategy.map(|strategy| strategy == "full");
    if let Some(found) = takes_class_token.filter(|&found| found != model.takes_class_token) {
        let word = |takes: bool| if takes { "full" } else { "default" };
        return Err(refused(format!(
            "it takes `{}` features of an image, the model `{}`",
            word(found),
            word(model.takes_class_token)
        )));
    }
    let of_class = u64::from(model.tower.family.has_class_token());
    if let Some(found) = number("num_additional_image_tokens").filter(|&found| found > of_class) {
        return Err(refused(format!(
            "it counts {found} tokens of an image beside its patches, the model's tower has {of_class}"
        )));
    }
    Ok(preprocessor)
}

fn read_json(path: &Path) -> Result<Value, TrainerError> {
    let content = std::fs::read(path).map_err(FileError::io("read", path))?;
    let json = serde_json::from_slice(&content).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(json)
}
