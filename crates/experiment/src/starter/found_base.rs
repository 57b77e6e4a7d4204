//! What a base model is for, as its description says.

use eigenmix_models::{Architecture, Description, Task};
use eigenmix_trainer::{BaseModel, TaskKind};

use crate::ExperimentError;

/// A base model that was looked at.
pub struct FoundBase {
    pub model: BaseModel,
    pub description: Description,
}

impl FoundBase {
    /// Opens a base model without its weights.
    ///
    /// # Errors
    /// If there is none, or it is not supported.
    pub fn open(name: &str) -> Result<Self, ExperimentError> {
        let model = BaseModel::open_config(name)?;
        // The number of labels changes nothing of what is adapted.
        let task = match model.architecture {
            Architecture::Decoder(_) => Task::LanguageModel,
            _ => Task::Classification { labels: 2 },
        };
        let description = model.architecture.describe(task)?;
        Ok(Self { model, description })
    }

    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Its task, where the data leave it open.
    pub fn usual_task(&self) -> TaskKind {
        match self.model.architecture {
            Architecture::Encoder(_) => TaskKind::SequenceClassification,
            Architecture::Decoder(_) => TaskKind::CausalLm,
            Architecture::Vision(_) => TaskKind::ImageClassification,
        }
    }

    pub fn is_decoder(&self) -> bool {
        matches!(self.model.architecture, Architecture::Decoder(_))
    }

    pub fn is_vision(&self) -> bool {
        matches!(self.model.architecture, Architecture::Vision(_))
    }

    /// The modules that PEFT adapts in this architecture.
    pub fn default_targets(&self) -> &'static [&'static str] {
        self.model.architecture.default_targets()
    }

    /// One line about it.
    pub fn summary(&self) -> String {
        let architecture = &self.model.architecture;
        let [d_model, _] = architecture.widths();
        let takes = match (architecture, architecture.max_length()) {
            (Architecture::Vision(config), _) => {
                format!("pictures of {0} × {0}", config.image_size)
            }
            (_, Some(limit)) => format!("up to {limit} tokens"),
            (_, None) => String::new(),
        };
        format!(
            "{}: a {} of width {d_model} with {} linear layers and {} numbers, takes {takes}",
            self.name(),
            architecture.kind(),
            self.description.layers.len(),
            self.description.parameters
        )
    }
}
