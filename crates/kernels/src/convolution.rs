//! Convolutions of images whose pixels are rows.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Int, Tensor, TensorData, module};

use crate::backward::Differentiable;
use crate::buffer::tensor;
use crate::convolution_rows::{Kernel, forward, input_gradient, kernel_gradient};
use crate::convolution_shape::ConvolutionShape;
use crate::product::MatrixView;
use crate::stored_weight::{StoredWeight, WeightList};
use crate::tensor_list::TensorList;
use crate::{Weight, has_kernels};

/// x ∗ W + b, on top of `residual`, with a frozen kernel W and a frozen bias.
///
/// The channels of a pixel are a row, and so are all channels of one place of the kernel: no copy of
/// the image for every place is made, only one of a few windows at a time. For the backward pass
/// nothing is kept but W in the form in which it is stored; if it is trained, composed operations run.
///
/// # Shapes
/// - input: `[images · height · width, c_in]`
/// - weight: `[c_out, kernel height · kernel width · c_in]`
/// - bias: `[c_out]`
/// - residual, output: `[images · output height · output width, c_out]`
///
/// # Panics
/// If the sizes do not fit each other.
pub fn convolution(
    input: Tensor<2>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    shape: &ConvolutionShape,
) -> Tensor<2> {
    let [c_out, inner] = weight.dims();
    let [_, c_in] = input.dims();
    assert_eq!(inner, shape.taps() * c_in, "a kernel for {c_in} channels");
    assert!(bias.as_ref().is_none_or(|bias| bias.dims() == [c_out]));
    let kernel = KernelTensor::OfOutput(weight);
    run(input, kernel, bias, residual, shape)
}

/// x ∗ V with a trained kernel V of few outputs: the first factor of a convolution's low-rank update.
///
/// # Shapes
/// - input: `[images · height · width, c_in]`
/// - factor: `[kernel height · kernel width · c_in, rank]`
/// - output: `[images · output height · output width, rank]`
///
/// # Panics
/// If the sizes do not fit each other.
pub fn convolved_factor(
    input: Tensor<2>,
    factor: Tensor<2>,
    shape: &ConvolutionShape,
) -> Tensor<2> {
    let ([inner, _], [_, c_in]) = (factor.dims(), input.dims());
    assert_eq!(inner, shape.taps() * c_in, "a factor for {c_in} channels");
    run(input, KernelTensor::OfInput(&factor), None, None, shape)
}

/// A kernel, by how its matrix lies.
enum KernelTensor<'a> {
    /// `[c_out, taps · c_in]`
    OfOutput(&'a Weight),
    /// `[taps · c_in, c_out]`
    OfInput(&'a Tensor<2>),
}

fn run(
    input: Tensor<2>,
    kernel: KernelTensor,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    shape: &ConvolutionShape,
) -> Tensor<2> {
    assert_eq!(input.dims()[0], shape.input_rows(), "pixels of the input");
    if let Some(residual) = &residual {
        assert_eq!(
            residual.dims()[0],
            shape.output_rows(),
            "pixels of the residual"
        );
    }
    let is_trained = matches!(&kernel, KernelTensor::OfOutput(weight) if weight.is_tracked())
        || bias.as_ref().is_some_and(|bias| bias.is_tracked());
    if !has_kernels(&input.device()) || is_trained {
        return composed(input, kernel, bias, residual, shape);
    }
    let plan = Plan {
        shape: shape.clone(),
        is_frozen: matches!(kernel, KernelTensor::OfOutput(_)),
        has_residual: residual.is_some(),
    };
    let mut tracked: Vec<_> = residual.map(Tensor::into_dispatch).into_iter().collect();
    let mut weights = Vec::new();
    match kernel {
        KernelTensor::OfOutput(weight) => weights.push(weight.stored()),
        KernelTensor::OfInput(factor) => tracked.push(factor.clone().into_dispatch()),
    }
    let bias = bias.map(Tensor::into_dispatch).into_iter().collect();
    Tensor::from_dispatch(Dispatch::fused_convolution(
        input.into_dispatch(),
        TensorList::new(tracked),
        WeightList::new(weights),
        TensorList::new(bias),
        plan,
    ))
}

fn composed(
    input: Tensor<2>,
    kernel: KernelTensor,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    shape: &ConvolutionShape,
) -> Tensor<2> {
    let ([height, width], [kernel_height, kernel_width]) = (shape.input, shape.kernel);
    let [_, c_in] = input.dims();
    let device = input.device();
    let weight = match kernel {
        KernelTensor::OfOutput(weight) => {
            let [c_out, _] = weight.dims();
            let all = Tensor::arange(0..c_out as i64, &device);
            weight.composed_rows(all)
        }
        KernelTensor::OfInput(factor) => factor.clone().transpose(),
    };
    let [c_out, _] = weight.dims();
    let weight = weight
        .reshape([c_out, kernel_height, kernel_width, c_in])
        .permute([0, 3, 1, 2]);
    let mut image = input
        .reshape([shape.images, height, width, c_in])
        .permute([0, 3, 1, 2]);
    if shape.is_enlarged() {
        for axis in 0..2 {
            let (from, to) = (shape.input[axis], shape.enlarged[axis]);
            let sources: Vec<i32> = (0..to).map(|place| (place * from / to) as i32).collect();
            let sources = Tensor::<1, Int>::from_data(TensorData::new(sources, [to]), &device);
            image = image.select(2 + axis, sources);
        }
    }
    let [before, after] = shape.padding;
    let image = image.pad((before, after, before, after), PadMode::Constant(0.0));
    let options = ConvOptions::new([shape.stride; 2], [0, 0], [1, 1], 1);
    let output = module::conv2d(image, weight, bias, options)
        .permute([0, 2, 3, 1])
        .reshape([shape.output_rows(), c_out]);
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    shape: ConvolutionShape,
    /// Whether the kernel is a frozen weight; otherwise it is one of the tracked tensors.
    is_frozen: bool,
    has_residual: bool,
}

/// A kernel with its values, by how its matrix lies.
#[derive(Clone, Debug)]
pub(crate) enum KernelOf<B: Backend> {
    /// `[c_out, taps · c_in]`
    Output(StoredWeight<B>),
    /// `[taps · c_in, c_out]`
    Input(FloatTensor<B>),
}

impl KernelOf<Flex> {
    /// Gives `compute` the kernel in f32; an encoded one is decoded for it.
    fn with<T>(self, taps: usize, compute: impl FnOnce(Kernel) -> T) -> T {
        let (tensor, is_of_output) = match self {
            Self::Output(StoredWeight::Float(values)) => (values.to_contiguous(), true),
            Self::Output(StoredWeight::Encoded(matrix)) => {
                (tensor(matrix.to_f32(), matrix.shape()), true)
            }
            Self::Input(values) => (values.to_contiguous(), false),
        };
        let matrix = MatrixView::of(&tensor);
        let matrix = match is_of_output {
            true => matrix.transposed(),
            false => matrix,
        };
        compute(Kernel { matrix, taps })
    }
}

/// Which gradients are needed.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    input: bool,
    kernel: bool,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait Convolution: Backend {
    /// - tracked: the residual if there is one, and the kernel if it is trained
    /// - weights: the kernel if it is frozen
    /// - bias: none or one
    fn fused_convolution(
        input: FloatTensor<Self>,
        #[extension_type] tracked: TensorList<Self>,
        #[extension_type] weights: WeightList<Self>,
        #[extension_type] bias: TensorList<Self>,
        plan: Plan,
    ) -> FloatTensor<Self>;
}

pub(crate) trait ConvolutionBackward: Backend {
    /// The gradients of the input and of the kernel.
    ///
    /// - input: that of the forward pass, if the kernel's gradient is needed
    fn fused_convolution_backward(
        gradient: FloatTensor<Self>,
        input: Option<FloatTensor<Self>>,
        kernel: KernelOf<Self>,
        plan: &Plan,
        wanted: Wanted,
    ) -> [Option<FloatTensor<Self>>; 2];
}

impl Convolution for Flex {
    fn fused_convolution(
        input: FlexTensor,
        tracked: TensorList<Self>,
        weights: WeightList<Self>,
        bias: TensorList<Self>,
        plan: Plan,
    ) -> FlexTensor {
        let mut tracked = tracked.into_vec();
        let kernel = kernel_of(&mut tracked, weights.into_vec(), &plan);
        let contiguous = |tensors: Vec<FlexTensor>| tensors.first().map(FlexTensor::to_contiguous);
        let (residual, bias) = (contiguous(tracked), contiguous(bias.into_vec()));
        let input = input.to_contiguous();
        kernel.with(plan.shape.taps(), |kernel| {
            forward(
                &input,
                kernel,
                bias.as_ref(),
                residual.as_ref(),
                &plan.shape,
            )
        })
    }
}

/// The kernel, taken out of the tensors that it is among.
fn kernel_of<B: Backend>(
    tracked: &mut Vec<FloatTensor<B>>,
    weights: Vec<StoredWeight<B>>,
    plan: &Plan,
) -> KernelOf<B> {
    let kernel = match plan.is_frozen {
        true => weights.into_iter().next().map(KernelOf::Output),
        false => tracked.pop().map(KernelOf::Input),
    };
    kernel.expect("a kernel")
}

impl ConvolutionBackward for Flex {
    fn fused_convolution_backward(
        gradient: FlexTensor,
        input: Option<FlexTensor>,
        kernel: KernelOf<Self>,
        plan: &Plan,
        wanted: Wanted,
    ) -> [Option<FlexTensor>; 2] {
        let gradient = gradient.to_contiguous();
        let of_input = wanted.input.then(|| {
            kernel.with(plan.shape.taps(), |kernel| {
                input_gradient(&gradient, kernel, &plan.shape)
            })
        });
        let of_kernel = wanted.kernel.then(|| {
            let input = input
                .expect("the input of a trained kernel")
                .to_contiguous();
            kernel_gradient(&input, &gradient, &plan.shape)
        });
        [of_input, of_kernel]
    }
}

impl<B: Convolution + ConvolutionBackward, C: CheckpointStrategy> Convolution for Autodiff<B, C> {
    fn fused_convolution(
        input: FloatTensor<Self>,
        tracked: TensorList<Self>,
        weights: WeightList<Self>,
        bias: TensorList<Self>,
        plan: Plan,
    ) -> FloatTensor<Self> {
        let weights = weights.into_vec().into_iter();
        let weights: Vec<_> = weights.map(StoredWeight::into_inner).collect();
        let bias = bias.into_vec().into_iter();
        let bias = TensorList::new(bias.map(|bias| bias.into_primitive()).collect());
        let parents = std::iter::once(input).chain(tracked.into_vec());
        Self::differentiable_list(
            parents.collect(),
            |mut parents, _| {
                let input = parents.remove(0);
                let kept = Kept::<B> {
                    input: (!plan.is_frozen).then(|| input.clone()),
                    kernel: kernel_of::<B>(&mut parents.clone(), weights.clone(), &plan),
                    plan: plan.clone(),
                };
                let (tracked, weights) = (TensorList::new(parents), WeightList::new(weights));
                let output = B::fused_convolution(input, tracked, weights, bias, plan);
                (output, kept)
            },
            gradients::<B>,
        )
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    input: Option<FloatTensor<B>>,
    kernel: KernelOf<B>,
    plan: Plan,
}

/// The gradients of the input, of the residual if there is one, and of a trained kernel.
fn gradients<B: ConvolutionBackward>(
    kept: Kept<B>,
    gradient: FloatTensor<B>,
    wanted: &[bool],
) -> Vec<Option<FloatTensor<B>>> {
    let plan = kept.plan;
    let wanted = Wanted {
        input: wanted[0],
        kernel: !plan.is_frozen && wanted[wanted.len() - 1],
    };
    let [input, kernel] =
        B::fused_convolution_backward(gradient.clone(), kept.input, kept.kernel, &plan, wanted);
    let residual = plan.has_residual.then_some(Some(gradient));
    let kernel = (!plan.is_frozen).then_some(kernel);
    std::iter::once(input)
        .chain(residual)
        .chain(kernel)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waves::of_size_one;
    use burn::tensor::{Device, FloatDType};

    /// Sizes with a factor of their own for everything: packed and small, strided, padded on one side,
    /// enlarged, larger channels than a pass has terms.
    fn shapes() -> Vec<(ConvolutionShape, usize, usize)> {
        let plain = ConvolutionShape::new(2, [9, 7], [3, 3], 1, 1);
        let enlarged = ConvolutionShape {
            enlarged: [17, 14],
            ..plain.clone()
        };
        let one_sided = ConvolutionShape {
            padding: [0, 1],
            stride: 2,
            ..plain.clone()
        };
        vec![
            (plain.clone(), 5, 6),
            (plain, 90, 53),
            (ConvolutionShape::new(3, [5, 4], [3, 3], 2, 1), 5, 6),
            (ConvolutionShape::new(1, [13, 11], [1, 1], 1, 0), 7, 50),
            (enlarged, 5, 6),
            (one_sided, 4, 9),
        ]
    }

    fn compare(found: Vec<Tensor<2>>, expected: Vec<Tensor<2>>, what: &str) {
        for (index, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert_eq!(found.dims(), expected.dims(), "{what}");
            let size = expected.clone().abs().max().into_scalar::<f32>();
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            // f32 sums of up to 810 terms, in another order.
            let difference = difference / size;
            assert!(difference < 3e-6, "{what}: tensor {index}: {difference}");
        }
    }

    /// Of a frozen kernel, of one in half precision, and of a factor.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Case {
        Frozen,
        Half,
        Factor,
    }

    fn convolutions_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        for (shape, c_in, c_out) in shapes() {
            for case in [Case::Frozen, Case::Half, Case::Factor] {
                let run_with = |fused: bool| {
                    let input = of_size_one(shape.input_rows(), c_in, 0.1, &device).require_grad();
                    let inner = shape.taps() * c_in;
                    let factor = of_size_one(inner, c_out, 0.5, &device).require_grad();
                    let frozen = of_size_one(c_out, inner, 0.5, &device);
                    let half = frozen.clone().cast(FloatDType::F16);
                    let weight = match (case, fused) {
                        (Case::Half, true) => half.into(),
                        // The same values in f32.
                        (Case::Half, false) => half.cast(FloatDType::F32).into(),
                        _ => frozen.into(),
                    };
                    let weight = Weight::Frozen(weight);
                    let rows = shape.output_rows();
                    let residual = of_size_one(rows, c_out, 0.9, &device).require_grad();
                    let bias = of_size_one(1, c_out, 0.7, &device).reshape([c_out]);
                    let with = (case != Case::Factor).then(|| (bias, residual.clone()));
                    let (bias, added) = with.unzip();
                    let kernel = match case {
                        Case::Factor => KernelTensor::OfInput(&factor),
                        Case::Frozen | Case::Half => KernelTensor::OfOutput(&weight),
                    };
                    let operation = if fused { run } else { composed };
                    let output = operation(input.clone(), kernel, bias, added, &shape);
                    let weights = of_size_one(rows, c_out, 2.3, &device);
                    let gradients = (output.clone() * weights).sum().backward();
                    let mut found = vec![output.inner(), input.grad(&gradients).expect("dx")];
                    found.extend(residual.grad(&gradients));
                    found.extend(factor.grad(&gradients));
                    found
                };
                let what = format!("{shape:?} {case:?}");
                compare(run_with(true), run_with(false), &what);
            }
        }
    }

    #[test]
    fn outputs_and_gradients_agree_with_the_composed_operation() {
        let _unit = crate::unit::tests::SameUnit::of_machine();
        convolutions_agree_with_the_composed_operation();
    }

    #[test]
    fn narrower_vectors_agree_with_the_composed_operation_too() {
        let _unit = crate::unit::tests::SameUnit::without_avx512();
        convolutions_agree_with_the_composed_operation();
    }
}
