//! The next token.

mod continuations;
mod evaluation;
mod example_images;
mod examples;
mod reader;

use std::borrow::Cow;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, DataLocation, Split, read_language_split};
use eigenmix_models::{Architecture, HeadKind};

use super::length_limit::check_length;
use super::{LabelSurvey, Survey, Task, TaskKind, TaskReader};
use crate::{BaseModel, TrainerError};
pub(super) use reader::{ImageReading, LanguageReader};

pub(super) struct CausalLm;

impl Task for CausalLm {
    fn name(&self) -> &'static str {
        "causal-lm"
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
        ]
    }

    fn models(&self) -> &'static str {
        "decoders continue texts"
    }

    fn fits(&self, architecture: &Architecture) -> bool {
        architecture.supports(HeadKind::LanguageModel) && architecture.image_tokens().is_none()
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
        let tokenizer = base.tokenizer()?;
        Ok(Box::new(LanguageReader {
            base,
            config: Cow::Borrowed(config),
            location: DataLocation::open(config)?,
            task: TaskKind::CausalLm,
            compares: metrics.contains(&Metric::ExactMatch),
            tokenizer,
            images: None,
        }))
    }

    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        _base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError> {
        let found = read_language_split(config.directory(), split, config)?;
        Ok(Survey {
            rows: found.rows.len(),
            labels: LabelSurvey::None,
            lengths: None,
        })
    }

    fn usual_max_length(&self) -> Option<(usize, &'static str)> {
        let reason = "what fits the memory of most machines; the model may take more";
        Some((512, reason))
    }
}
