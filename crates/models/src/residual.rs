//! Residual connections.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use eigenmix_moslora::AdaptedLinear;

/// residual + dropout(layer(input)).
///
/// Without dropout the sum is part of the layer's own pass.
///
/// - input: `[rows, d_in]`
/// - residual, output: `[rows, d_out]`
pub(crate) fn add_output(
    layer: &AdaptedLinear,
    input: Tensor<2>,
    residual: Tensor<2>,
    dropout: &Dropout,
) -> Tensor<2> {
    if dropout.prob > 0.0 && input.device().is_autodiff() {
        return residual + dropout.forward(layer.forward(input));
    }
    AdaptedLinear::forward_together(&[layer], input, Some(residual))
}
