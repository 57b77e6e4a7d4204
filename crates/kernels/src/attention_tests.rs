use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::{attention, cross_attention, self_attention};
use crate::attention_reference::composed;
use crate::attention_shape::{AttentionShape, Visibility};

fn values(rows: usize, width: usize, phase: f32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * width)
        .map(|i| (i as f32 * 0.73 + phase).sin() * 1.5)
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

/// Lengths on both sides of a vector, of a register block and of a block of queries.
const LENGTHS: [usize; 5] = [1, 7, 70, 131, 16];

fn offsets(lengths: &[usize]) -> Arc<[usize]> {
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets[offsets.len() - 1] + length);
    }
    offsets.into()
}

fn shape(n_heads: usize, n_key_heads: usize, visibility: Visibility) -> AttentionShape {
    AttentionShape {
        offsets: offsets(&LENGTHS),
        key_offsets: offsets(&LENGTHS),
        n_heads,
        n_key_heads,
        scale: 0.37,
        visibility,
        softcap: None,
    }
}

/// Output and gradients of both ways.
fn compare(shape: &AttentionShape, d_head: usize) {
    let device = Device::flex().autodiff();
    let (width, key_width) = (shape.n_heads * d_head, shape.n_key_heads * d_head);
    let last = |offsets: &[usize]| offsets[offsets.len() - 1];
    let (rows, key_rows) = (last(&shape.offsets), last(&shape.key_offsets));
    let weights = values(rows, width, 3.0, &device);
    let run = |operation: fn(Tensor<2>, Tensor<2>, Tensor<2>, &AttentionShape) -> Tensor<2>| {
        let query = values(rows, width, 0.0, &device).require_grad();
        let [key, value] =
            [1.0, 2.0].map(|phase| values(key_rows, key_width, phase, &device).require_grad());
        let output = operation(query.clone(), key.clone(), value.clone(), shape);
        let gradients = (output.clone() * weights.clone()).sum().backward();
        let [query, key, value] =
            [query, key, value].map(|input| input.grad(&gradients).expect("a gradient"));
        [output.inner(), query, key, value]
    };
    for (found, expected) in run(attention).into_iter().zip(run(composed)) {
        // f32 sums over up to 131 · group terms of size one, in another order.
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 5e-5, "{difference}: {shape:?}");
    }
}

/// Gradients through tensors that lie side by side are those of the separate ones.
fn compare_side_by_side(shape: &AttentionShape, d_head: usize) {
    let device = Device::flex().autodiff();
    let (width, key_width) = (shape.n_heads * d_head, shape.n_key_heads * d_head);
    let rows = LENGTHS.iter().sum();
    let widths = [width, key_width, key_width];
    let run = |operation: &dyn Fn([Tensor<2>; 3]) -> Tensor<2>| {
        let inputs = [0, 1, 2]
            .map(|index| values(rows, widths[index], index as f32, &device).require_grad());
        let output = operation(inputs.clone());
        let weights = values(rows, width, 3.0, &device);
        let gradients = (output.clone() * weights).sum().backward();
        let [query, key, value] = inputs.map(|input| input.grad(&gradients).expect("a gradient"));
        [output.inner(), query, key, value]
    };
    let separate = run(&|[query, key, value]| attention(query, key, value, shape));
    let together = run(&|inputs| self_attention(Tensor::cat(inputs.to_vec(), 1), shape));
    let crossed =
        run(&|[query, key, value]| cross_attention(query, Tensor::cat(vec![key, value], 1), shape));
    for found in [together, crossed] {
        for (found, expected) in found.into_iter().zip(separate.clone()) {
            // The same sums in the same order.
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert_eq!(difference, 0.0, "{shape:?}");
        }
    }
}

#[test]
fn projections_side_by_side_are_attended_to_like_separate_ones() {
    compare_side_by_side(&shape(3, 3, Visibility::Everything), 5);
    compare_side_by_side(&shape(4, 2, Visibility::Causal), 16);
}

#[test]
fn one_long_sequence_is_cut_without_changing_its_values() {
    let lengths = [500];
    let shape = AttentionShape {
        offsets: offsets(&lengths),
        key_offsets: offsets(&lengths),
        ..shape(2, 1, Visibility::Window(70))
    };
    compare(&shape, 8);
}

#[test]
fn values_and_gradients_agree_with_the_composed_operation() {
    for visibility in [
        Visibility::Everything,
        Visibility::Causal,
        Visibility::Window(9),
        Visibility::Window(100),
    ] {
        compare(&shape(3, 3, visibility), 5);
        compare(&shape(4, 2, visibility), 16);
    }
}

#[test]
fn softcapped_scores_have_the_gradients_of_the_composed_operation() {
    let mut shape = shape(4, 1, Visibility::Causal);
    shape.softcap = Some(1.5);
    compare(&shape, 7);
}

#[test]
fn queries_at_the_end_of_longer_keys_agree_with_the_composed_operation() {
    for visibility in [Visibility::Causal, Visibility::Window(5)] {
        let mut shape = shape(4, 2, visibility);
        shape.offsets = offsets(&[1, 1, 3, 70, 16]);
        compare(&shape, 8);
    }
}

#[test]
fn a_causal_query_does_not_see_what_comes_after_it() {
    let device = Device::flex();
    let (rows, width) = (20, 12);
    let shape = AttentionShape {
        offsets: offsets(&[rows]),
        key_offsets: offsets(&[rows]),
        ..shape(3, 3, Visibility::Causal)
    };
    let [query, key, value] = [0.0, 1.0, 2.0].map(|phase| values(rows, width, phase, &device));
    let whole = attention(query.clone(), key.clone(), value.clone(), &shape);
    let first = |rows: Tensor<2>| rows.slice([0..7, 0..width]);
    let prefix = AttentionShape {
        offsets: offsets(&[7]),
        key_offsets: offsets(&[7]),
        ..shape
    };
    let alone = attention(first(query), first(key), first(value), &prefix);
    // The scores are computed in other blocks, the sums over them are the same.
    let difference = (first(whole) - alone).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn a_sequence_does_not_see_its_neighbours() {
    let device = Device::flex();
    let (rows, width) = (LENGTHS.iter().sum::<usize>(), 12);
    let shape = shape(3, 3, Visibility::Everything);
    let [query, key, value] = [0.0, 1.0, 2.0].map(|phase| values(rows, width, phase, &device));
    let together = attention(query.clone(), key.clone(), value.clone(), &shape);
    let (start, end) = (shape.offsets[2], shape.offsets[3]);
    let part = |rows: Tensor<2>| rows.slice([start..end, 0..width]);
    let alone = attention(
        part(query),
        part(key),
        part(value),
        &AttentionShape {
            offsets: offsets(&[end - start]),
            key_offsets: offsets(&[end - start]),
            ..shape.clone()
        },
    );
    let difference = (part(together) - alone).abs().max().into_scalar::<f32>();
    assert_eq!(difference, 0.0);
}

/// Attention of five rows to themselves, in sequences with these offsets.
fn attend_by(offsets: &[usize]) {
    let device = Device::flex();
    let rows = |phase| values(5, 12, phase, &device);
    let shape = AttentionShape {
        offsets: offsets.into(),
        key_offsets: offsets.into(),
        ..shape(3, 3, Visibility::Everything)
    };
    attention(rows(0.0), rows(1.0), rows(2.0), &shape);
}

#[test]
#[should_panic(expected = "the first and last offset of 5 rows")]
fn rows_before_the_first_sequence_are_refused() {
    attend_by(&[2, 5]);
}

#[test]
#[should_panic(expected = "the first and last offset of 5 rows")]
fn rows_after_the_last_sequence_are_refused() {
    attend_by(&[0, 4]);
}

#[test]
#[should_panic(expected = "offsets [4, 2] in this order")]
fn sequences_that_overlap_are_refused() {
    attend_by(&[0, 4, 2, 5]);
}

#[test]
#[should_panic(expected = "sizes of values and keys")]
fn values_of_another_width_than_the_keys_are_refused() {
    let device = Device::flex();
    let rows = |width| values(5, width, 1.0, &device);
    let shape = AttentionShape {
        offsets: offsets(&[5]),
        key_offsets: offsets(&[5]),
        ..shape(3, 3, Visibility::Everything)
    };
    attention(rows(12), rows(12), rows(24), &shape);
}

#[test]
fn queries_see_all_keys_of_another_sequence_of_any_length() {
    // As in a UNet: more queries than keys, and fewer.
    let shape = AttentionShape {
        key_offsets: offsets(&[3, 9, 20, 77, 40]),
        ..shape(4, 4, Visibility::Everything)
    };
    compare(&shape, 10);
}
