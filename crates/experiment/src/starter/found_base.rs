//! What a base model is for, from its `config.json`.

use eigenmix_models::{Description, HeadKind};
use eigenmix_trainer::{BaseModel, TaskKind};

use crate::ExperimentError;
/// The number of labels of a head before the data are known; it does not affect which modules are
/// adapted.
const LABELS: usize = 2;

/// A base model that was examined.
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

    /// Its usual task, if the data leave the task open.
    pub fn usual_task(&self) -> TaskKind {
        let architecture = &self.model.architecture;
        TaskKind::of_model(architecture, architecture.usual_head(LABELS))
    }

    pub fn is_decoder(&self) -> bool {
        self.model.architecture.supports(HeadKind::LanguageModel)
    }

    pub fn is_vision(&self) -> bool {
        let architecture = &self.model.architecture;
        architecture.image_shape().is_some() && architecture.image_tokens().is_none()
    }

    pub fn is_vision_language(&self) -> bool {
        self.model.architecture.image_tokens().is_some()
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
            (Some([_, size]), _) => format!("images of {size} × {size} pixels"),
            (_, Some(limit)) => format!("up to {limit} tokens"),
            (_, None) => String::new(),
        };
        format!(
            "{}: a {}, hidden size {d_model}, {} linear layers, {} parameters, for {takes}",
            self.name(),
            architecture.kind(),
            self.description.layers.len(),
            self.description.parameters
        )
    }
}
