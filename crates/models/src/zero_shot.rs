//! CLIP's zero-shot head: an image is compared with the text features of each label.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use eigenmix_moslora::AdaptedLinear;

use crate::builder::Builder;
use crate::{LinearLayer, ModelError};

/// The name under which an [`Adaptation`](crate::Adaptation) holds the text features of a zero-shot
/// head: `[labels, projection_dim]`, each row of length 1.
pub const TEXT_FEATURES: &str = "text_features";

/// The logarithm of the factor on the similarities, as checkpoints name it.
const LOGIT_SCALE: &str = "logit_scale";

/// logits = exp(logit_scale) · x / ‖x‖ · Tᵀ, where x is the projection of an image and T holds the
/// features of the labels (arXiv 2103.00020, section 3.1.2). Gradients pass through it; nothing of it
/// is trained but the projection, and that only where everything is.
#[derive(Module, Debug)]
pub(crate) struct ZeroShotHead {
    projection: AdaptedLinear,
    /// T `[labels, projection_dim]`.
    text_features: Param<Tensor<2>>,
    scale: f64,
}

impl ZeroShotHead {
    /// - projection: the layer `[projection_dim, d_model]` of images
    pub fn build(
        builder: &mut Builder,
        projection: &LinearLayer,
        labels: usize,
    ) -> Result<Self, ModelError> {
        let text_features = builder.frozen_head(TEXT_FEATURES, [labels, projection.d_out])?;
        Ok(Self {
            text_features: Param::from_tensor(text_features).set_require_grad(false),
            scale: f64::from(builder.number(LOGIT_SCALE)?).exp(),
            projection: builder.linear(projection)?,
        })
    }

    /// - hidden: `[images, d_model]`
    /// - output: `[images, labels]`
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let image_features = normalised(self.projection.forward(hidden));
        image_features.matmul(self.text_features.val().transpose()) * self.scale
    }
}

/// x / ‖x‖, row by row.
fn normalised(features: Tensor<2>) -> Tensor<2> {
    let length = features.clone().square().sum_dim(1).sqrt();
    features / length
}
