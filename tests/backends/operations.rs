//! Values and gradients of single operations on every backend that is built and finds a device, against the
//! kernels of the CPU.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::{
    Activation, AdaptedLayer, AttentionShape, FrozenWeight, LowRankFactors, Visibility, Weight,
    adapted_linear, cross_attention, layer_norm, linear_cross_entropy, rms_norm, rotary,
    self_attention,
};

use crate::comparisons::other_backends;

/// `[rows, cols]` of values between −1 and 1.
pub fn values([rows, cols]: [usize; 2], phase: f32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * cols)
        .map(|place| (place as f32 * 0.91 + phase).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}

type Operation = Box<dyn Fn(&[Tensor<2>], &Device) -> Tensor<2>>;

/// An operation of tracked inputs of these sizes; constants it makes itself.
struct Case {
    name: String,
    sizes: Vec<[usize; 2]>,
    operation: Operation,
}

/// The output and the gradients of the inputs.
fn run(case: &Case, device: &Device) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let inputs = case.sizes.iter().enumerate();
    let inputs: Vec<Tensor<2>> = inputs
        .map(|(index, size)| (values(*size, index as f32 * 1.3, &device) * 1.5).require_grad())
        .collect();
    let output = (case.operation)(&inputs, &device);
    let slopes = values(output.dims(), 3.1, &device);
    let gradients = (output.clone() * slopes).sum().backward();
    let found = inputs
        .iter()
        .map(|input| input.grad(&gradients).expect("a gradient"));
    std::iter::once(output.inner())
        .chain(found)
        .map(|tensor| tensor.into_data().try_to_vec().expect("f32"))
        .collect()
}

fn offsets(lengths: &[usize]) -> Arc<[usize]> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

const D_HEAD: usize = 8;

fn attention_cases(cases: &mut Vec<Case>) {
    // More scores than exist at a time, in rows that many units share; and a window that needs few of them.
    let (long, longer) = (vec![1030], vec![2100, 300]);
    let (uneven, even) = (vec![3, 9, 1, 6], vec![8, 8]);
    let cap = Some(0.7);
    for (lengths, seen, heads, softcap) in [
        (&uneven, Visibility::Everything, [2, 2], None),
        (&uneven, Visibility::Causal, [4, 2], None),
        (&uneven, Visibility::Window(3), [4, 2], cap),
        (&even, Visibility::Everything, [2, 2], cap),
        (&even, Visibility::Causal, [4, 2], None),
        (&long, Visibility::Window(700), [33, 33], None),
        (&longer, Visibility::Window(200), [4, 2], cap),
    ] {
        let [n_heads, n_key_heads] = heads;
        let shape = AttentionShape {
            offsets: offsets(lengths),
            key_offsets: offsets(lengths),
            n_heads,
            n_key_heads,
            scale: 0.4,
            visibility: seen,
            softcap,
        };
        let rows: usize = lengths.iter().sum();
        let of_lasts = AttentionShape {
            offsets: (0..=lengths.len()).collect(),
            ..shape.clone()
        };
        cases.push(Case {
            name: format!("attention, {seen:?}, {lengths:?}, heads {heads:?}, cap {softcap:?}"),
            sizes: vec![[rows, (n_heads + 2 * n_key_heads) * D_HEAD]],
            operation: Box::new(move |inputs, _| self_attention(inputs[0].clone(), &shape)),
        });
        cases.push(Case {
            name: format!("attention of one row each, {seen:?}, {lengths:?}"),
            sizes: vec![
                [lengths.len(), n_heads * D_HEAD],
                [rows, 2 * n_key_heads * D_HEAD],
            ],
            operation: Box::new(move |inputs, _| {
                cross_attention(inputs[0].clone(), inputs[1].clone(), &of_lasts)
            }),
        });
    }
}

/// Layers with one input, on top of a residual: how wide each is, and the rank of its update.
fn adapted(cases: &mut Vec<Case>, rows: usize, d_in: usize, layers: &[(usize, Option<usize>)]) {
    let width: usize = layers.iter().map(|(d_out, _)| d_out).sum();
    let mut sizes = vec![[rows, d_in], [rows, width]];
    for (d_out, rank) in layers {
        sizes.extend(rank.iter().flat_map(|&rank| [[*d_out, rank], [d_in, rank]]));
    }
    let layers = layers.to_vec();
    cases.push(Case {
        name: format!("adapted layers of {d_in} to {layers:?}, {rows} rows"),
        sizes,
        operation: Box::new(move |inputs, device| {
            let weights = layers.iter().map(|&(d_out, _)| {
                let values = values([d_out, d_in], d_out as f32, device);
                Weight::Frozen(FrozenWeight::from(values))
            });
            let weights: Vec<Weight> = weights.collect();
            let mut factors = inputs[2..].chunks_exact(2);
            let layers = layers.iter().zip(&weights).enumerate();
            let layers = layers.map(|(index, (&(d_out, rank), weight))| AdaptedLayer {
                weight,
                bias: (index != 1).then(|| values([1, d_out], 0.5, device).reshape([d_out])),
                update: rank
                    .and_then(|_| factors.next())
                    .map(|factors| LowRankFactors {
                        left: factors[0].clone(),
                        right: factors[1].clone(),
                        scaling: 0.5,
                    }),
            });
            let layers: Vec<AdaptedLayer> = layers.collect();
            adapted_linear(inputs[0].clone(), &layers, Some(inputs[1].clone()))
        }),
    });
}

fn layer_cases(cases: &mut Vec<Case>) {
    // Sizes below and beyond the tiles of kernels, ranks that are thin and that are not, layers without an update.
    adapted(cases, 21, 16, &[(16, Some(4)), (24, Some(2))]);
    adapted(
        cases,
        70,
        150,
        &[(65, Some(17)), (130, None), (64, Some(8))],
    );
    adapted(cases, 1, 40, &[(8, Some(40)), (72, Some(3))]);
    adapted(cases, 33, 64, &[(64, None)]);
    // So much to sum over that several cubes share it.
    adapted(cases, 600, 520, &[(40, Some(6)), (24, Some(2))]);
    for (softcap, smoothing) in [(None, 0.0), (Some(1.5), 0.1)] {
        cases.push(Case {
            name: format!("the loss of an output layer, cap {softcap:?}, smoothing {smoothing}"),
            sizes: vec![[21, 16]],
            operation: Box::new(move |inputs, device| {
                let weight = values([301, 16], 0.4, device);
                let weight = Weight::Frozen(FrozenWeight::from(weight));
                let targets: Vec<i32> = (0..21).map(|row| row * 37 % 301).collect();
                let hidden = inputs[0].clone();
                linear_cross_entropy(hidden, &weight, &targets, softcap, smoothing).reshape([1, 1])
            }),
        });
    }
}

fn row_cases(cases: &mut Vec<Case>) {
    let mut add = |name: &str, cols: usize, operation: Operation| {
        cases.push(Case {
            name: name.to_owned(),
            sizes: vec![[21, cols]],
            operation,
        });
    };
    let row =
        |phase: f32, device: &Device| -> Tensor<1> { values([1, 16], phase, device).reshape([16]) };
    add(
        "layer norm",
        16,
        Box::new(move |inputs, device| {
            let (gamma, beta) = (row(0.3, device) + 1.5, row(0.9, device));
            layer_norm(inputs[0].clone(), gamma, beta, 1e-5)
        }),
    );
    for (name, cols) in [("RMS norm", 16), ("RMS norm of heads", 48)] {
        add(
            name,
            cols,
            Box::new(move |inputs, device| {
                rms_norm(inputs[0].clone(), row(0.3, device) + 1.5, 1e-6)
            }),
        );
    }
    for function in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Relu,
    ] {
        add(
            &format!("{function:?}"),
            16,
            Box::new(move |inputs, _| function.forward(inputs[0].clone())),
        );
        add(
            &format!("a gate of {function:?}"),
            16,
            Box::new(move |inputs, _| function.gate(inputs[0].clone())),
        );
    }
    for heads in [4, 3] {
        add(
            &format!("{heads} of 4 heads turned"),
            32,
            Box::new(move |inputs, device| {
                let angles = values([21, 4], 0.5, device);
                rotary(inputs[0].clone(), angles.clone().cos(), angles.sin(), heads)
            }),
        );
    }
}

#[test]
fn operations_and_their_gradients_are_those_of_the_cpu() {
    let mut cases = Vec::new();
    attention_cases(&mut cases);
    layer_cases(&mut cases);
    row_cases(&mut cases);
    for choice in other_backends() {
        let other = choice.open().expect("the device");
        for case in &cases {
            let pairs = run(case, &other)
                .into_iter()
                .zip(run(case, &Device::flex()));
            let mut worst = 0.0f32;
            for (index, (found, expected)) in pairs.enumerate() {
                assert_eq!(found.len(), expected.len(), "{}, {index}", case.name);
                let largest = expected.iter().fold(0.1f32, |all, one| all.max(one.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    // Sums of f32 in another order, and other approximations of eˣ, erf and tanh.
                    let difference = (found - expected).abs() / largest;
                    let what = format!("{} on {choice}, {index}", case.name);
                    assert!(difference < 5e-5, "{what}: {found} {expected}");
                    worst = worst.max(difference);
                }
            }
            println!(
                "{} on {choice}: at most {worst:.1e} of the largest",
                case.name
            );
        }
    }
}
