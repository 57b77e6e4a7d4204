use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::{AdaptedLayer, LowRankFactors, adapted_linear, composed};
use crate::waves::of_size_one as values;
use crate::{FrozenWeight, Weight};

/// A layer with all its parts, or without those that are left out.
#[derive(Clone, Copy, Debug)]
struct Case {
    d_out: usize,
    rank: Option<usize>,
    bias: bool,
    stored: FloatDType,
    transposed: bool,
}

const PLAIN: Case = Case {
    d_out: 37,
    rank: Some(5),
    bias: true,
    stored: FloatDType::F32,
    transposed: false,
};

const D_IN: usize = 29;

/// The weights of the cases.
fn weights(cases: &[Case], device: &Device) -> Vec<Weight> {
    let weights = cases.iter().enumerate().map(|(index, case)| {
        let weight = match case.transposed {
            true => values(D_IN, case.d_out, index as f32, device).transpose(),
            false => values(case.d_out, D_IN, index as f32, device),
        };
        Weight::Frozen(FrozenWeight::from(weight.cast(case.stored)))
    });
    weights.collect()
}

/// The layers of the cases, and their factors with gradients.
fn layers<'a>(
    cases: &[Case],
    weights: &'a [Weight],
    device: &Device,
) -> (Vec<AdaptedLayer<'a>>, Vec<Tensor<2>>) {
    let mut factors = Vec::new();
    let layers = cases.iter().zip(weights).enumerate();
    let layers = layers.map(|(index, (case, weight))| {
        let phase = index as f32;
        let update = case.rank.map(|rank| {
            let tracked = |factor: Tensor<2>| match device.is_autodiff() {
                true => factor.require_grad(),
                false => factor,
            };
            let left = tracked(values(case.d_out, rank, phase + 0.3, device));
            let right = tracked(values(D_IN, rank, phase + 0.6, device));
            factors.extend([left.clone(), right.clone()]);
            let scaling = 0.75;
            LowRankFactors {
                left,
                right,
                scaling,
            }
        });
        let bias = values(1, case.d_out, phase + 0.9, device).reshape([case.d_out]);
        AdaptedLayer {
            weight,
            bias: case.bias.then_some(bias),
            update,
        }
    });
    (layers.collect(), factors)
}

type Operation = fn(Tensor<2>, &[AdaptedLayer], Option<Tensor<2>>) -> Tensor<2>;

/// The output, and the gradients of everything that has one.
fn run(operation: Operation, rows: usize, cases: &[Case], tracked: bool) -> Vec<Tensor<2>> {
    let device = Device::flex().autodiff();
    let weights = weights(cases, &device);
    let (layers, factors) = layers(cases, &weights, &device);
    let width: usize = cases.iter().map(|case| case.d_out).sum();
    let mut inputs = vec![
        values(rows, D_IN, 2.0, &device),
        values(rows, width, 4.0, &device),
    ];
    if tracked {
        inputs = inputs.into_iter().map(Tensor::require_grad).collect();
    }
    let output = operation(inputs[0].clone(), &layers, Some(inputs[1].clone()));
    let mut found = vec![output.clone().inner()];
    if output.is_tracked() {
        let slopes = values(rows, width, 3.0, &device);
        let gradients = (output * slopes).sum().backward();
        inputs.extend(factors);
        found.extend(inputs.iter().filter_map(|input| input.grad(&gradients)));
    }
    found
}

#[test]
fn outputs_and_gradients_agree_with_the_composed_operation() {
    let frozen = Case {
        rank: None,
        ..PLAIN
    };
    let bare = Case {
        rank: None,
        bias: false,
        d_out: 8,
        ..PLAIN
    };
    let wide = Case {
        rank: Some(16),
        bias: false,
        d_out: 64,
        ..PLAIN
    };
    let half = Case {
        stored: FloatDType::BF16,
        ..PLAIN
    };
    let turned = Case {
        transposed: true,
        ..PLAIN
    };
    let cases: [&[Case]; 8] = [
        &[PLAIN],
        &[frozen],
        &[bare],
        &[half],
        &[turned],
        &[wide, PLAIN],
        &[PLAIN, frozen, wide],
        &[half, bare, turned],
    ];
    for cases in cases {
        // One row, a few, and more than a part of the backward pass.
        for rows in [1, 7, 150] {
            for tracked in [false, true] {
                let found = run(adapted_linear, rows, cases, tracked);
                let expected = run(composed, rows, cases, tracked);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.into_iter().zip(expected) {
                    assert_eq!(found.dims(), expected.dims());
                    // f32 sums over up to 150 terms of size ten, in another order.
                    let difference = (found - expected).abs().max().into_scalar::<f32>();
                    assert!(difference < 2e-3, "{difference}: {rows} rows of {cases:?}");
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let rows = 9;
    let cases = [
        PLAIN,
        Case {
            d_out: 8,
            rank: Some(3),
            ..PLAIN
        },
    ];
    let width = 45;
    // The loss is linear in each tensor alone, so a difference is exact but for rounding.
    let loss = |moved: usize, index: usize, step: f32| {
        let weights = weights(&cases, &device);
        let (mut layers, _) = layers(&cases, &weights, &device);
        let mut tensors = vec![
            values(rows, D_IN, 2.0, &device),
            values(rows, width, 4.0, &device),
        ];
        for layer in &layers {
            let update = layer.update.as_ref().expect("an update");
            tensors.extend([update.left.clone(), update.right.clone()]);
        }
        let [tall, wide] = tensors[moved].dims();
        let mut shift = vec![0.0f32; tall * wide];
        shift[index % (tall * wide)] = step;
        let shift = Tensor::from_data(TensorData::new(shift, [tall, wide]), &device);
        tensors[moved] = tensors[moved].clone() + shift;
        let tensors: Vec<_> = tensors
            .into_iter()
            .map(|one| one.detach().require_grad())
            .collect();
        for (layer, pair) in layers.iter_mut().zip(tensors[2..].chunks(2)) {
            let update = layer.update.as_mut().expect("an update");
            (update.left, update.right) = (pair[0].clone(), pair[1].clone());
        }
        let output = adapted_linear(tensors[0].clone(), &layers, Some(tensors[1].clone()));
        let loss = (output * values(rows, width, 3.0, &device)).sum();
        let gradients = loss.clone().backward();
        let gradient = tensors[moved].grad(&gradients).expect("a gradient");
        let gradient = gradient
            .reshape([tall * wide])
            .into_data()
            .try_to_vec::<f32>()
            .expect("f32");
        (
            f64::from(loss.into_scalar::<f32>()),
            gradient[index % (tall * wide)],
        )
    };
    for moved in 0..6 {
        for index in [0, 17, 101] {
            let (above, found) = loss(moved, index, 0.5);
            let (below, _) = loss(moved, index, -0.5);
            let expected = above - below;
            // Losses of a hundred, in f32.
            let difference = (f64::from(found) - expected).abs();
            assert!(
                difference < 2e-3 * (1.0 + expected.abs()),
                "{moved}[{index}]: {found} {expected}"
            );
        }
    }
}

#[test]
fn without_a_graph_the_output_is_the_same() {
    let device = Device::flex();
    let cases = [
        PLAIN,
        Case {
            d_out: 8,
            bias: false,
            ..PLAIN
        },
    ];
    let weights = weights(&cases, &device);
    let (layers, _) = layers(&cases, &weights, &device);
    let input = values(70, D_IN, 2.0, &device);
    let found = adapted_linear(input.clone(), &layers, None);
    let difference = (found - composed(input, &layers, None)).abs().max();
    // Sums over 29 terms of size one.
    assert!(difference.into_scalar::<f32>() < 1e-4);
}
