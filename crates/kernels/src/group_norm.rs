//! Group normalisation of images whose pixels are rows, with the activation that follows it.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};

use crate::backward::Differentiable;
use crate::buffer::{tensor, values_of};
use crate::group_norm_rows::{Image, add_slopes, column_sums, write, write_slopes};
use crate::has_kernels;
use crate::tensor_list::TensorList;

/// How the values of an image are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormShape {
    pub images: usize,
    /// Channels are divided into as many groups of neighbours.
    pub groups: usize,
    pub epsilon: f64,
    /// Whether x · σ(x) of the result is taken.
    pub silu: bool,
}

/// y = f((x + t − mean) / √(variance + ε) · γ + β), mean and variance over the pixels of an image and the
/// channels of a group, t a value for each channel of an image (the time embedding of a residual
/// block), f the identity or x · σ(x).
///
/// The kernel computes the gradients of x and t and keeps them alone; γ and β are frozen.
///
/// # Shapes
/// - input, output: `[images · pixels, channels]`
/// - shift: t, `[images, channels]`
/// - gamma, beta: `[channels]`
///
/// # Panics
/// If the rows cannot be divided into images, or the channels into groups.
pub fn group_norm(
    input: Tensor<2>,
    shift: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    shape: GroupNormShape,
) -> Tensor<2> {
    let [rows, channels] = input.dims();
    assert!(
        rows.is_multiple_of(shape.images) && channels.is_multiple_of(shape.groups),
        "{rows} pixels of {} images, {channels} channels in {} groups",
        shape.images,
        shape.groups
    );
    if !has_kernels(&input.device()) {
        return composed(input, shift, gamma, beta, shape);
    }
    let shift = shift.map(Tensor::into_dispatch).into_iter().collect();
    Tensor::from_dispatch(Dispatch::fused_group_norm(
        input.into_dispatch(),
        TensorList::new(shift),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        shape,
    ))
}

fn composed(
    input: Tensor<2>,
    shift: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    shape: GroupNormShape,
) -> Tensor<2> {
    let [rows, channels] = input.dims();
    let GroupNormShape { images, groups, .. } = shape;
    let mut values = input.reshape([images, rows / images, channels]);
    if let Some(shift) = shift {
        values = values + shift.reshape([images, 1, channels]);
    }
    let grouped = values
        .reshape([images, rows / images, groups, channels / groups])
        .swap_dims(1, 2)
        .reshape([images, groups, rows / images * (channels / groups)]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let deviation = (centred.clone().square().mean_dim(2) + shape.epsilon).sqrt();
    let normalised = (centred / deviation)
        .reshape([images, groups, rows / images, channels / groups])
        .swap_dims(1, 2)
        .reshape([rows, channels]);
    let output = normalised * gamma.unsqueeze::<2>() + beta.unsqueeze::<2>();
    match shape.silu {
        true => activation::silu(output),
        false => output,
    }
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait GroupNorm: Backend {
    fn fused_group_norm(
        input: FloatTensor<Self>,
        #[extension_type] shift: TensorList<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shape: GroupNormShape,
    ) -> FloatTensor<Self>;
}

/// With x̂ the normalised input, z = γ x̂ + β, dz = g · f'(z), h = γ ⊙ dz and means over the group:
/// dx = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / √(variance + ε), and dt its sum over the pixels.
pub(crate) trait GroupNormBackward: Backend {
    /// - affine: γ and β
    /// - wants_shift: whether the gradient of the shift is needed
    fn fused_group_norm_backward(
        input: FloatTensor<Self>,
        shift: Option<FloatTensor<Self>>,
        affine: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
        shape: GroupNormShape,
        wants_shift: bool,
    ) -> [Option<FloatTensor<Self>>; 2];
}

impl GroupNorm for Flex {
    fn fused_group_norm(
        input: FlexTensor,
        shift: TensorList<Self>,
        gamma: FlexTensor,
        beta: FlexTensor,
        shape: GroupNormShape,
    ) -> FlexTensor {
        let input = input.to_contiguous();
        let shift = shift.into_vec().first().map(FlexTensor::to_contiguous);
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let image = Image::new(&input, shape);
        let shift = shift.as_ref().map(values_of);
        let affine = image.affine(shift, values_of(&gamma), values_of(&beta));
        image.filled(None, |image, values, _, output| {
            let (scale, offset) = (
                affine.of(image, &affine.scale),
                affine.of(image, &affine.offset),
            );
            write(values, scale, offset, shape.silu, output);
        })
    }
}

impl GroupNormBackward for Flex {
    fn fused_group_norm_backward(
        input: FlexTensor,
        shift: Option<FlexTensor>,
        [gamma, beta]: [FlexTensor; 2],
        gradient: FlexTensor,
        shape: GroupNormShape,
        wants_shift: bool,
    ) -> [Option<FlexTensor>; 2] {
        let (input, gradient) = (input.to_contiguous(), gradient.to_contiguous());
        let shift = shift.map(|shift| shift.to_contiguous());
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let image = Image::new(&input, shape);
        let (channels, gamma) = (image.channels, values_of(&gamma));
        let affine = image.affine(shift.as_ref().map(values_of), gamma, values_of(&beta));
        let gradients = Image::new(&gradient, shape).chunks();
        let [mut of_h, mut of_hx] = image.sums(|index, image, values| {
            let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
            let slopes = affine.slopes(image, shape.silu);
            add_slopes(values, gradients[index].1, slopes, &mut sums, &mut products);
            [sums, products]
        });
        for sums in [&mut of_h, &mut of_hx] {
            let channels = gamma.iter().cycle();
            sums.iter_mut()
                .zip(channels)
                .for_each(|(sum, &gamma)| *sum *= f64::from(gamma));
        }
        let means = [of_h, of_hx].map(|sums| {
            let means = image.group_means(&sums).into_iter();
            means.map(|mean| mean as f32).collect::<Vec<f32>>()
        });
        let values = values_of(&gradient);
        let found = image.filled(Some(values), |image, values, gradient, output| {
            let slopes = affine.slopes(image, shape.silu);
            let [mean_h, mean_hx] = [0, 1].map(|index: usize| affine.of(image, &means[index]));
            write_slopes(values, gradient, slopes, mean_h, mean_hx, output);
        });
        let of_shift = wants_shift.then(|| {
            let found = Image::new(&found, shape);
            let [sums] = found.sums(|_, _, values| [column_sums(values, channels)]);
            let sums = sums.into_iter().map(|sum| sum as f32).collect();
            tensor(sums, [shape.images, channels])
        });
        [Some(found), of_shift]
    }
}

impl<B: GroupNorm + GroupNormBackward, C: CheckpointStrategy> GroupNorm for Autodiff<B, C> {
    fn fused_group_norm(
        input: FloatTensor<Self>,
        shift: TensorList<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shape: GroupNormShape,
    ) -> FloatTensor<Self> {
        let affine = [gamma.into_primitive(), beta.into_primitive()];
        let parents = std::iter::once(input).chain(shift.into_vec());
        Self::differentiable_list(
            parents.collect(),
            |mut parents, _| {
                let input = parents.remove(0);
                let kept = (
                    input.clone(),
                    parents.first().cloned(),
                    affine.clone(),
                    shape,
                );
                let [gamma, beta] = affine;
                let shift = TensorList::new(parents);
                (B::fused_group_norm(input, shift, gamma, beta, shape), kept)
            },
            |(input, shift, affine, shape), gradient, wanted| {
                let wants_shift = wanted.get(1).is_some_and(|&wanted| wanted);
                let found = B::fused_group_norm_backward(
                    input,
                    shift,
                    affine,
                    gradient,
                    shape,
                    wants_shift,
                );
                found.into_iter().take(wanted.len()).collect()
            },
        )
    }
}

#[cfg(test)]
#[path = "group_norm_tests.rs"]
mod tests;
