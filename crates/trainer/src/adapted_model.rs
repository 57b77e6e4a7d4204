//! What a method has to know of the model that it adapts, whatever kind of model that is.

use eigenmix_adapter::LayerKind;
use eigenmix_models::LinearLayer;
use eigenmix_tensors::Matrix;

use crate::{BaseModel, TrainerError};

/// A model whose layers are adapted.
pub(crate) trait AdaptedModel: Sync {
    /// As adapters name it, without a revision.
    fn adapters_name(&self) -> &str;

    /// The modules that are adapted where nothing else is said.
    fn default_targets(&self) -> &[&'static str];

    /// Whether the layer of that path has a part in what the model computes.
    fn is_computed(&self, path: &str) -> bool;

    /// What the layer of that path is: its weight is `[d_out, d_in]` of a convolution as of a linear layer.
    fn layer_kind(&self, path: &str) -> LayerKind;

    /// The weight of a layer: W `[d_out, d_in]`.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    fn layer_weight(&self, layer: &LinearLayer) -> Result<Matrix, TrainerError>;

    /// The model, if it is one that texts or images go into: what names and orders of rows in adapters mean
    /// depends on it.
    fn as_base_model(&self) -> Option<&BaseModel>;
}

impl AdaptedModel for BaseModel {
    fn adapters_name(&self) -> &str {
        self.name_and_revision().0
    }

    fn default_targets(&self) -> &[&'static str] {
        self.architecture.default_targets()
    }

    fn is_computed(&self, path: &str) -> bool {
        self.architecture.is_computed(path)
    }

    fn layer_kind(&self, _path: &str) -> LayerKind {
        LayerKind::Linear
    }

    fn layer_weight(&self, layer: &LinearLayer) -> Result<Matrix, TrainerError> {
        Self::layer_weight(self, layer)
    }

    fn as_base_model(&self) -> Option<&BaseModel> {
        Some(self)
    }
}
