//! Every composed operation against the kernel, with its gradients. Here both run on the CPU; `tests/backends` compares
//! what runs on other devices.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::{Composition, compose};
use crate::adapted_linear::without_kernels;
use crate::attention::AttentionPlan;
use crate::chunked_cross_entropy::ChunkedCrossEntropy;
use crate::composed_norm::ComposedNorm;
use crate::composed_turn::ComposedTurn;
use crate::padded_attention::PaddedAttention;
use crate::padding::Padding;
use crate::waves::of_size_one as values;
use crate::{
    Activation, AdaptedLayer, AttentionShape, FrozenWeight, LowRankFactors, Visibility, Weight,
    adapted_linear, attention, cross_attention, layer_norm, linear_cross_entropy, rms_norm, rotary,
    self_attention,
};

fn device() -> Device {
    Device::flex().autodiff()
}

/// Matrices that differ.
fn matrices<const N: usize>(sizes: [[usize; 2]; N]) -> Vec<Tensor<2>> {
    let sizes = sizes.into_iter().enumerate();
    sizes
        .map(|(index, [rows, cols])| values(rows, cols, index as f32 * 1.3, &device()))
        .collect()
}

type Operation<'a> = &'a dyn Fn(Vec<Tensor<2>>) -> Tensor<2>;

/// The output of an operation and the gradients of all its inputs.
fn run(inputs: &[Tensor<2>], operation: Operation) -> Vec<Tensor<2>> {
    let inputs = inputs.iter().cloned().map(Tensor::require_grad);
    let inputs: Vec<Tensor<2>> = inputs.collect();
    let output = operation(inputs.clone());
    let [rows, cols] = output.dims();
    let weights = values(rows, cols, 3.1, &device());
    let gradients = (output.clone() * weights).sum().backward();
    let found = inputs
        .iter()
        .map(|input| input.grad(&gradients).expect("a gradient"));
    std::iter::once(output.inner()).chain(found).collect()
}

fn compare(what: &str, inputs: &[Tensor<2>], kernel: Operation, composed: Operation) {
    let pairs = run(inputs, composed).into_iter().zip(run(inputs, kernel));
    for (index, (found, expected)) in pairs.enumerate() {
        assert_eq!(found.dims(), expected.dims(), "{what}, {index}");
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        // f32 sums in another order.
        assert!(
            difference <= 1e-5 * largest.max(0.1),
            "{what}, {index}: {difference} of {largest}"
        );
    }
}

fn offsets(lengths: &[usize]) -> Arc<[usize]> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn shape(
    lengths: &[usize],
    [n_heads, n_key_heads]: [usize; 2],
    seen: Visibility,
) -> AttentionShape {
    AttentionShape {
        offsets: offsets(lengths),
        key_offsets: offsets(lengths),
        n_heads,
        n_key_heads,
        scale: 0.8,
        visibility: seen,
        softcap: None,
    }
}

const D_HEAD: usize = 4;

/// Attention with few scores at a time, or all of them.
fn padded(
    shape: &AttentionShape,
    places: [(usize, usize); 3],
    scores: Option<usize>,
) -> impl Fn(Vec<Tensor<2>>) -> Tensor<2> {
    let plan = AttentionPlan {
        shape: shape.clone(),
        places,
        d_head: D_HEAD,
    };
    let attention = PaddedAttention::new(plan, Padding::of(shape, &Device::flex()));
    let attention = match scores {
        Some(scores) => attention.in_blocks_of(scores),
        None => attention,
    };
    move |inputs| compose(inputs, attention.clone())
}

#[test]
fn attention_and_its_gradients_are_the_kernels() {
    let uneven = [3, 7, 1, 5];
    let even = [6, 6];
    let all = [
        Visibility::Everything,
        Visibility::Causal,
        Visibility::Window(3),
    ];
    for (lengths, seen) in all
        .into_iter()
        .flat_map(|seen| [(&uneven[..], seen), (&even, seen)])
    {
        for heads in [[2, 2], [6, 2]] {
            for softcap in [None, Some(0.7)] {
                let shape = AttentionShape {
                    softcap,
                    ..shape(lengths, heads, seen)
                };
                let rows: usize = lengths.iter().sum();
                let [width, key_width] = heads.map(|heads| heads * D_HEAD);
                let what = format!("{shape:?}");
                let inputs = matrices([[rows, width], [rows, key_width], [rows, key_width]]);
                let separate = [(0, 0), (1, 0), (2, 0)];
                let kernel: Operation = &|inputs| {
                    attention(
                        inputs[0].clone(),
                        inputs[1].clone(),
                        inputs[2].clone(),
                        &shape,
                    )
                };
                // All scores, and those of two queries or one at a time.
                for scores in [None, Some(2 * 7 * 4 * 6), Some(1)] {
                    compare(&what, &inputs, kernel, &padded(&shape, separate, scores));
                }
                let inputs = matrices([[rows, width + 2 * key_width]]);
                let together = [(0, 0), (0, width), (0, width + key_width)];
                let kernel: Operation = &|inputs| self_attention(inputs[0].clone(), &shape);
                compare(&what, &inputs, kernel, &padded(&shape, together, None));
            }
        }
    }
}

#[test]
fn attention_to_other_rows_and_its_gradients_are_the_kernels() {
    let keys = [4, 6, 2];
    for (lengths, seen) in [
        ([1, 1, 1], Visibility::Everything),
        ([1, 1, 1], Visibility::Causal),
        ([2, 3, 1], Visibility::Causal),
        ([9, 2, 5], Visibility::Everything),
    ] {
        let shape = AttentionShape {
            key_offsets: offsets(&keys),
            ..shape(&lengths, [4, 2], seen)
        };
        let (rows, key_rows) = (lengths.iter().sum(), keys.iter().sum());
        let inputs = matrices([[rows, 4 * D_HEAD], [key_rows, 4 * D_HEAD]]);
        let kernel: Operation =
            &|inputs| cross_attention(inputs[0].clone(), inputs[1].clone(), &shape);
        let places = [(0, 0), (1, 0), (1, 2 * D_HEAD)];
        for scores in [None, Some(1)] {
            compare(
                &format!("{shape:?}"),
                &inputs,
                kernel,
                &padded(&shape, places, scores),
            );
        }
    }
}

#[test]
fn adapted_layers_and_their_gradients_are_the_kernels() {
    let device = device();
    let weight = |d_out: usize, phase: f32| {
        Weight::Frozen(FrozenWeight::from(values(d_out, 7, phase, &device)))
    };
    let weights = [weight(5, 0.2), weight(6, 0.4), weight(3, 0.6)];
    let bias = values(1, 5, 0.5, &device).reshape([5]);
    let rows = 9;
    // x, the residual, and left and right of the updates of the first and the last layer.
    let sizes = [[rows, 7], [rows, 14], [5, 2], [7, 2], [3, 4], [7, 4]];
    let layers = |factors: &[Tensor<2>]| {
        let update = |place: usize, scaling: f32| LowRankFactors {
            left: factors[place].clone(),
            right: factors[place + 1].clone(),
            scaling,
        };
        let layer = |index: usize, update: Option<LowRankFactors>| AdaptedLayer {
            weight: &weights[index],
            bias: (index == 0).then(|| bias.clone()),
            update,
        };
        vec![
            layer(0, Some(update(0, 0.5))),
            layer(1, None),
            layer(2, Some(update(2, 1.5))),
        ]
    };
    type Linear = fn(Tensor<2>, &[AdaptedLayer], Option<Tensor<2>>) -> Tensor<2>;
    let of_all = |linear: Linear| {
        move |inputs: Vec<Tensor<2>>| {
            linear(
                inputs[0].clone(),
                &layers(&inputs[2..]),
                Some(inputs[1].clone()),
            )
        }
    };
    let (kernel, composed) = (of_all(adapted_linear), of_all(without_kernels));
    compare("three layers", &matrices(sizes), &kernel, &composed);
    let of_one = |linear: Linear| {
        move |inputs: Vec<Tensor<2>>| linear(inputs[0].clone(), &layers(&inputs[1..])[..1], None)
    };
    let sizes = [[rows, 7], [5, 2], [7, 2], [3, 4], [7, 4]];
    let (kernel, composed) = (of_one(adapted_linear), of_one(without_kernels));
    let mut inputs = matrices(sizes);
    inputs.truncate(3);
    let with_rest = |inputs: Vec<Tensor<2>>| [inputs, matrices([[3, 4], [7, 4]])].concat();
    compare(
        "one layer",
        &inputs,
        &|inputs| kernel(with_rest(inputs)),
        &|inputs| composed(with_rest(inputs)),
    );
}

#[test]
fn the_loss_of_an_output_layer_and_its_gradient_are_the_kernels() {
    let (rows, d_model, vocabulary) = (11, 6, 23);
    let weight = values(vocabulary, d_model, 0.4, &device());
    let weight = Weight::Frozen(FrozenWeight::from(weight));
    let targets: Vec<i32> = (0..rows).map(|row| (row * 5 % vocabulary) as i32).collect();
    let inputs = matrices([[rows, d_model]]);
    for (softcap, smoothing) in [(None, 0.0), (Some(1.5), 0.0), (None, 0.1), (Some(1.5), 0.3)] {
        let kernel: Operation = &|inputs| {
            let hidden = inputs[0].clone();
            linear_cross_entropy(hidden, &weight, &targets, softcap, smoothing).reshape([1, 1])
        };
        let loss = ChunkedCrossEntropy::new(
            weight.on_device(),
            &targets,
            softcap,
            smoothing,
            &Device::flex(),
        );
        let in_chunks = loss.clone().in_chunks_of(3 * vocabulary);
        let what = format!("{softcap:?} {smoothing}");
        for loss in [loss, in_chunks] {
            compare(&what, &inputs, kernel, &|inputs| {
                compose(inputs, loss.clone())
            });
        }
    }
}

/// A kernel and the operation composed for it.
fn compare_composition(
    what: &str,
    sizes: [usize; 2],
    kernel: Operation,
    composed: &impl Composition,
) {
    let inputs: Vec<Tensor<2>> = matrices([sizes]);
    let inputs = [inputs[0].clone() * 2.5];
    compare(what, &inputs, kernel, &|inputs| {
        compose(inputs, composed.clone())
    });
}

#[test]
fn norms_and_their_gradients_are_the_kernels() {
    let gamma = values(1, 6, 0.3, &device()).reshape([6]) + 1.5;
    let beta = values(1, 6, 0.9, &device()).reshape([6]);
    let norm = ComposedNorm::new(gamma.clone(), Some(beta.clone()), true, 1e-5);
    let kernel: Operation =
        &|inputs| layer_norm(inputs[0].clone(), gamma.clone(), beta.clone(), 1e-5);
    compare_composition("a layer norm", [13, 6], kernel, &norm);
    let norm = ComposedNorm::new(gamma.clone(), None, false, 1e-6);
    let kernel: Operation = &|inputs| rms_norm(inputs[0].clone(), gamma.clone(), 1e-6);
    // Of whole rows, and of the heads of a row.
    for width in [6, 18] {
        compare_composition("an RMS norm", [13, width], kernel, &norm);
    }
}

#[test]
fn functions_and_gates_and_their_gradients_are_the_kernels() {
    for function in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Relu,
    ] {
        let what = format!("{function:?}");
        let kernel: Operation = &|inputs| function.forward(inputs[0].clone());
        compare_composition(&what, [13, 6], kernel, &function);
        let kernel: Operation = &|inputs| function.gate(inputs[0].clone());
        compare_composition(&what, [13, 6], kernel, &function.before_value());
        let kernel: Operation = &|inputs| function.gate_behind(inputs[0].clone());
        compare_composition(&what, [13, 6], kernel, &function.behind_value());
    }
}

#[test]
fn turned_heads_and_their_gradients_are_the_kernels() {
    let angles = values(13, 3, 0.5, &device());
    let (cosines, sines) = (angles.clone().cos(), angles.sin());
    for heads in [4, 3] {
        let kernel: Operation =
            &|inputs| rotary(inputs[0].clone(), cosines.clone(), sines.clone(), heads);
        let turn = ComposedTurn::new(cosines.clone(), sines.clone(), heads);
        compare_composition("turned heads", [13, 4 * 6], kernel, &turn);
    }
}
