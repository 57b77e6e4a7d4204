//! What a base model is for, as its description says.

use eigenmix_models::{Description, HeadKind};
use eigenmix_trainer::{BaseModel, TaskKind};

use crate::ExperimentError;
/// How many labels a head has before the data are known; it changes nothing of what is adapted.
const LABELS: usize = 2;

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
        let head = model.architecture.usual_head(LABELS);
        let description = model.architecture.describe(head)?;
        Ok(Self { model, description })
    }

    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Its task, where the data leave it open.
    pub fn usual_task(&self) -> TaskKind {
        let architecture = &self.model.architecture;
        TaskKind::of_model(architecture, architecture.usual_head(LABELS))
    }

    pub fn is_decoder(&self) -> bool {
        self.model.architecture.supports(HeadKind::LanguageModel)
    }

    pub fn is_vision(&self) -> bool {
        self.model.architecture.image_shape().is_some()
    }

    /// The modules that PEFT adapts in this architecture.
    pub fn default_targets(&self) -> &'static [&'static str] {
        self.model.architecture.default_targets()
    }

    /// One line about it.
    pub fn summary(&self) -> String {
        let architecture = &self.model.architecture;
        let [d_model, _] = architecture.widths();
        let takes = match (architecture.image_shape(), architecture.max_length()) {
            (Some([_, size]), _) => format!("pictures of {size} × {size}"),
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
