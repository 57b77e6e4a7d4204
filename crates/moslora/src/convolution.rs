//! The adapted convolution: `y = x ∗ W₀ + b + s · ((x ∗ V) · Mᵀ) · Uᵀ`.

use burn::module::Module;
use burn::tensor::Tensor;
use eigenmix_kernels::{ConvolutionShape, convolved_factor};

use crate::AdaptedLinear;
use crate::linear::LowRankUpdate;

/// A convolution whose kernel is frozen, with an optional low-rank update on top.
///
/// It is the adapted linear layer on windows of an image instead of rows: U `[c_out, p]` is a convolution
/// of single pixels, and V `[c_in · kernel height · kernel width, q]` one of the layer's own kernel.
#[derive(Module, Debug)]
pub struct AdaptedConvolution {
    /// W₀ `[c_out, kernel height · kernel width · c_in]`: all channels of a place together.
    linear: AdaptedLinear,
    kernel: [usize; 2],
}

impl AdaptedConvolution {
    /// - linear: the layer with its kernel as a matrix `[c_out, kernel height · kernel width · c_in]`,
    ///   all channels of a place together ([`AdaptedConvolution::by_places`]); its update as files have
    ///   it, all places of a channel together
    /// - kernel: height and width
    pub fn new(linear: AdaptedLinear, kernel: [usize; 2]) -> Self {
        Self { linear, kernel }
    }

    /// A kernel `[c_out, c_in, height, width]` in the order `[c_out, height, width, c_in]`.
    pub fn by_places(values: &[f32], [_, c_in, height, width]: [usize; 4]) -> Vec<f32> {
        let places = height * width;
        let of_output = |kernel: &[f32]| -> Vec<f32> {
            (0..places * c_in)
                .map(|index| kernel[index % c_in * places + index / c_in])
                .collect()
        };
        let outputs = values.chunks_exact((places * c_in).max(1));
        outputs.flat_map(of_output).collect()
    }

    /// Height and width of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// A convolution of single pixels.
    ///
    /// # Shapes
    /// - input: `[rows, c_in]`
    /// - residual, output: `[rows, c_out]`
    ///
    /// # Panics
    /// If the kernel is larger.
    pub fn of_pixels(&self, input: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        assert_eq!(self.kernel, [1, 1], "a kernel of a pixel");
        AdaptedLinear::forward_together(&[&self.linear], input, residual)
    }

    /// # Shapes
    /// - input: `[images · height · width, c_in]`
    /// - residual, output: `[images · output height · output width, c_out]`
    ///
    /// # Panics
    /// If the sizes do not fit each other, or `shape` is of another kernel.
    pub fn forward(
        &self,
        input: Tensor<2>,
        residual: Option<Tensor<2>>,
        shape: &ConvolutionShape,
    ) -> Tensor<2> {
        assert_eq!(shape.kernel, self.kernel, "the kernel of a convolution");
        let is_of_pixels = shape.taps() == 1
            && shape.stride == 1
            && shape.padding == [0, 0]
            && shape.enlarged == shape.input;
        if is_of_pixels {
            return self.of_pixels(input, residual);
        }
        let (weight, bias, update) = self.linear.parts();
        let output = eigenmix_kernels::convolution(input.clone(), weight, bias, residual, shape);
        match update {
            Some(update) => output + convolved(update, input, shape),
            None => output,
        }
    }
}

/// s · ((x ∗ V) · Mᵀ) · Uᵀ.
fn convolved(update: &LowRankUpdate, input: Tensor<2>, shape: &ConvolutionShape) -> Tensor<2> {
    let factors = update.thin_factors();
    let [d_in, rank] = factors.right.dims();
    let places = shape.taps();
    let right = factors
        .right
        .reshape([d_in / places, places, rank])
        .swap_dims(0, 1)
        .reshape([d_in, rank]);
    let thin = convolved_factor(update.dropped(input), right, shape) * factors.scaling;
    thin.matmul(factors.left.transpose())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Factor, MixerInit, ParameterNames, Update, moslora};
    use burn::tensor::{Device, TensorData};
    use eigenmix_tensors::Matrix;

    fn wave(count: usize, phase: f32) -> Vec<f32> {
        (0..count)
            .map(|index| (index as f32 * 0.91 + phase).sin())
            .collect()
    }

    fn rows(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(wave(rows * cols, phase), [rows, cols]),
            device,
        )
    }

    /// W₀ `[c_out, c_in, 3, 3]` plus what `update` adds to it, in the order of files.
    fn layer(weight: &[f32], update: Option<&Update>, device: &Device) -> AdaptedConvolution {
        let [c_out, c_in] = [5, 4];
        let values = AdaptedConvolution::by_places(weight, [c_out, c_in, 3, 3]);
        let data = TensorData::new(values, [c_out, 9 * c_in]);
        let linear = AdaptedLinear::frozen(Tensor::<2>::from_data(data, device), None);
        let mut names = ParameterNames::default();
        let linear = match update {
            Some(update) => linear.with_update(update, "conv", &mut names),
            None => linear,
        };
        AdaptedConvolution::new(linear, [3, 3])
    }

    #[test]
    fn an_update_of_a_convolution_is_its_dense_update_added_to_the_kernel() {
        let device = Device::flex();
        let (c_out, c_in, rank) = (5, 4, 3);
        let mut update = moslora(
            "conv",
            1,
            [c_out, 9 * c_in],
            rank,
            1.5,
            0.0,
            MixerInit::Kaiming,
        );
        update.left = Factor::trained(Matrix::new(c_out, rank, wave(c_out * rank, 0.3)));
        let weight = wave(c_out * 9 * c_in, 0.7);
        let dense = update.fold().update();
        let merged: Vec<f32> = weight
            .iter()
            .zip(dense.values())
            .map(|(weight, update)| weight + update)
            .collect();
        for (stride, padding) in [(1, 1), (2, 1), (1, 0)] {
            let shape = ConvolutionShape::new(2, [6, 5], [3, 3], stride, padding);
            let input = rows(shape.input_rows(), c_in, 0.2, &device);
            let found = layer(&weight, Some(&update), &device).forward(input.clone(), None, &shape);
            let expected = layer(&merged, None, &device).forward(input, None, &shape);
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            // f32 sums of 36 terms of size one.
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn a_kernel_is_put_in_the_order_of_its_places() {
        let values: Vec<f32> = (0..2 * 3 * 4).map(|index| index as f32).collect();
        // [c_out, c_in, height, width] = [2, 3, 2, 2].
        let found = AdaptedConvolution::by_places(&values, [2, 3, 2, 2]);
        let first = [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0];
        assert_eq!(found[..12], first);
        assert_eq!(found[12], 12.0);
    }
}
