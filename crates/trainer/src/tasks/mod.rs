//! The kinds of tasks. A task is one file or directory here, and one line in this registry: rows →
//! examples → batches → objective → metrics and predictions.

mod causal_lm;
mod denoising;
mod evaluation;
mod examples;
mod image_classification;
mod labelled;
mod length_limit;
mod line_reader;
mod objective;
mod reader;
mod survey;
mod task;
mod text_classification;
mod vision_language;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, DataError, DataLocation, Split, TargetKind};
use eigenmix_models::{Architecture, HeadKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BaseModel, TrainerError};

pub use evaluation::{Evaluation, EvaluationOptions};
pub use examples::{Examples, LabelledBatch};
pub use image_classification::{ImageInputs, preprocessor};
pub use labelled::{Inputs, LabelLoss, LabelledExamples, label_metrics};
pub use line_reader::LineReader;
pub use objective::Objective;
pub use reader::{FoundSplit, SplitData, TaskReader, TrainRequest};
pub use survey::{LabelSurvey, LengthSurvey, Survey};
pub use task::Task;
pub use text_classification::TextInputs;
pub use vision_language::image_processor;

pub(crate) use labelled::{all_logits, host_loss};

/// The kind of task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Classification or regression of a text or a pair of texts.
    #[default]
    SequenceClassification,
    /// Classification or regression of an image.
    ImageClassification,
    /// Language modelling: predicting the next token.
    CausalLm,
    /// Language modelling of texts with images.
    VisionLanguage,
    /// Images from captions, of a diffusion model.
    TextToImage,
    /// Images of one subject under one prompt, of a diffusion model.
    Dreambooth,
}

impl TaskKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::SequenceClassification,
        Self::ImageClassification,
        Self::CausalLm,
        Self::VisionLanguage,
        Self::TextToImage,
        Self::Dreambooth,
    ];

    /// The definition of the kind.
    pub fn definition(self) -> &'static dyn Task {
        match self {
            Self::SequenceClassification => &text_classification::TextClassification,
            Self::ImageClassification => &image_classification::ImageClassification,
            Self::CausalLm => &causal_lm::CausalLm,
            Self::VisionLanguage => &vision_language::VisionLanguage,
            Self::TextToImage => &denoising::TEXT_TO_IMAGE,
            Self::Dreambooth => &denoising::DREAMBOOTH,
        }
    }

    /// Whether it predicts tokens, and no labels.
    pub fn is_of_language_models(self) -> bool {
        matches!(self, Self::CausalLm | Self::VisionLanguage)
    }

    /// Whether it is one of diffusion models.
    pub fn is_of_diffusion_models(self) -> bool {
        matches!(self, Self::TextToImage | Self::Dreambooth)
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        self.definition().name()
    }

    /// The task of a model with a head; the first if several are possible.
    pub fn of_model(architecture: &Architecture, head: HeadKind) -> Self {
        let does = |kind: &Self| {
            let task = kind.definition();
            task.fits(architecture) && task.is_of_head(head)
        };
        Self::ALL.into_iter().find(does).unwrap_or_default()
    }

    /// Opens a dataset for this task and one model.
    ///
    /// - metrics: those that will be computed
    ///
    /// # Errors
    /// If the model is not for the task, its tokenizer or preprocessor is missing or does not fit,
    /// or the data do not exist.
    pub fn open<'a>(
        self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
        let task = self.definition();
        if !task.fits(&base.architecture) {
            let mut known = Self::ALL.map(|kind| kind.definition().models()).to_vec();
            known.dedup();
            return Err(TrainerError::TaskModel {
                task: task.name(),
                model: base.name.clone(),
                found: base.architecture.kind(),
                known: known.join(", "),
            });
        }
        self.check_settings(config)?;
        task.open(base, config, metrics)
    }

    /// Refuses keys of `[data]` that the task does not read, which would have no effect.
    ///
    /// # Errors
    /// If one is set.
    pub fn check_settings(self, config: &DataConfig) -> Result<(), TrainerError> {
        let task = self.definition();
        let set = config.settings_of_tasks().into_iter();
        let Some(key) = { set }.find(|key| !task.settings().contains(key)) else {
            return Ok(());
        };
        let readers = Self::ALL.map(Self::definition);
        let readers = readers
            .iter()
            .filter(|other| other.settings().contains(&key));
        let readers: Vec<&str> = readers.map(|other| other.name()).collect();
        Err(TrainerError::SettingOfAnotherTask {
            key,
            task: task.name(),
            readers: readers.join(" and "),
        })
    }

    /// The number of outputs of a head for the labels of the training split; `None` if the data are
    /// not available locally or have no labels.
    ///
    /// # Errors
    /// If the data exist and can't be read.
    pub fn count_labels(
        self,
        config: &DataConfig,
        target: TargetKind,
    ) -> Result<Option<usize>, TrainerError> {
        let found = DataLocation::at_hand(config).and_then(|location| location.split(Split::Train));
        match found {
            Ok(config) => self.definition().count_labels(&config, target),
            Err(DataError::Hub(_) | DataError::NotADirectory { .. }) => Ok(None),
            // The cache may have other splits of a dataset on the Hub.
            Err(DataError::MissingSplit { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_model_that_is_not_for_a_task_is_refused_with_what_models_are_for() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart/base");
        let base = BaseModel::open_config(&base.display().to_string()).expect("a BERT");
        let config = DataConfig::new("unused");
        let error = TaskKind::CausalLm.open(&base, &config, &[]).err();
        let error = error.expect("a refusal").to_string();
        let expected = "which is a text encoder; encoders and decoders classify texts, vision \
                        models classify images, decoders continue texts, \
                        vision-language models continue texts with images, \
                        diffusion models make images of texts";
        assert!(error.ends_with(expected), "{error}");
        assert!(error.starts_with("task.kind = \"causal-lm\""), "{error}");
        let head = base.architecture.usual_head(3);
        let kind = TaskKind::of_model(&base.architecture, head);
        assert_eq!(kind, TaskKind::SequenceClassification);
    }

    #[test]
    fn keys_of_another_task_are_refused_by_name() {
        let with = |table: &str| -> DataConfig {
            let table = format!("path = \"d\"\n{table}");
            toml::from_str(&table).expect("a table")
        };
        for (kind, table, expected) in [
            (
                TaskKind::SequenceClassification,
                "prompt_template = \"{{ prompt }}\"",
                "`data.prompt_template` is read by task.kind = \"causal-lm and vision-language\" only, and this task is sequence-classification",
            ),
            (TaskKind::CausalLm, "text_pair = \"b\"", "data.text_pair"),
            (
                TaskKind::CausalLm,
                "label = \"b\"",
                "sequence-classification and image-classification",
            ),
            (
                TaskKind::ImageClassification,
                "format = \"text\"",
                "data.format",
            ),
        ] {
            let error = kind.check_settings(&with(table)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let usual = with("text = \"a\"\ntext_pair = \"b\"\nlabel = \"c\"\nmax_length = 9");
        assert!(
            TaskKind::SequenceClassification
                .check_settings(&usual)
                .is_ok()
        );
        let usual = with("image = \"a\"\naugment = \"flip\"");
        assert!(TaskKind::ImageClassification.check_settings(&usual).is_ok());
    }

    #[test]
    fn every_kind_is_written_in_files_as_its_task_is_named() {
        for kind in TaskKind::ALL {
            let written = serde_json::to_value(kind).expect("a word");
            assert_eq!(written, kind.name());
            let read: TaskKind = serde_json::from_value(written).expect("a kind");
            assert_eq!(read, kind);
        }
    }
}
