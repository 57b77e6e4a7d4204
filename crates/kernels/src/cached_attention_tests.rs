use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::{cached_attention, cached_self_attention, composed};
use crate::waves::of_size_two as values;
use crate::{AttentionShape, KeyValueCache, Visibility, attention};

const N_HEADS: usize = 6;
const N_KEY_HEADS: usize = 2;
const D_HEAD: usize = 20;

/// The same tokens in parts: how many of each sequence are new in each step. Blocks of keys end within
/// parts and between them, and the window below is much shorter than a sequence.
const STEPS: [[usize; 3]; 6] = [
    [1, 40, 7],
    [70, 1, 1],
    [1, 1, 1],
    [1, 33, 90],
    [1, 1, 1],
    [60, 1, 2],
];

fn offsets(lengths: impl IntoIterator<Item = usize>) -> Arc<[usize]> {
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets[offsets.len() - 1] + length);
    }
    offsets.into()
}

fn shape(new: &[usize], all: &[usize], visibility: Visibility) -> AttentionShape {
    AttentionShape {
        offsets: offsets(new.iter().copied()),
        key_offsets: offsets(all.iter().copied()),
        n_heads: N_HEADS,
        n_key_heads: N_KEY_HEADS,
        scale: 0.37,
        visibility,
        softcap: (visibility == Visibility::Causal).then_some(3.0),
    }
}

/// Queries, keys and values of a sequence.
struct Sequence([Tensor<2>; 3]);

impl Sequence {
    fn new(index: usize, length: usize) -> Self {
        let device = Device::flex();
        let widths = [N_HEADS, N_KEY_HEADS, N_KEY_HEADS].map(|heads| heads * D_HEAD);
        let mut phase = index as f32;
        Self(widths.map(|width| {
            phase += 0.7;
            values(length, width, phase, &device)
        }))
    }

    fn rows(&self, part: usize, rows: Range<usize>) -> Tensor<2> {
        let [_, width] = self.0[part].dims();
        self.0[part].clone().slice([rows, 0..width])
    }

    /// Attention without a cache.
    fn whole(&self, visibility: Visibility) -> Tensor<2> {
        let [query, key, value] = self.0.clone();
        let [length, _] = query.dims();
        let shape = shape(&[length], &[length], visibility);
        attention(query, key, value, &shape)
    }
}

fn sequences() -> Vec<Sequence> {
    let length = |index: usize| STEPS.iter().map(|step| step[index]).sum();
    (0..3)
        .map(|index| Sequence::new(index, length(index)))
        .collect()
}

type Operation =
    fn(Tensor<2>, Tensor<2>, Tensor<2>, &mut KeyValueCache, &AttentionShape) -> Tensor<2>;

/// The outputs of each sequence, step by step.
fn in_steps(operation: Operation, visibility: Visibility) -> Vec<Tensor<2>> {
    let sequences = sequences();
    let mut cache = KeyValueCache::default();
    let mut lengths = [0; 3];
    let mut outputs = vec![Vec::new(); 3];
    for new in STEPS {
        let before = lengths;
        (0..3).for_each(|index| lengths[index] += new[index]);
        let part = |part: usize| {
            let rows =
                (0..3).map(|index| sequences[index].rows(part, before[index]..lengths[index]));
            Tensor::cat(rows.collect(), 0)
        };
        let shape = shape(&new, &lengths, visibility);
        let output = operation(part(0), part(1), part(2), &mut cache, &shape);
        for (index, pair) in shape.offsets.windows(2).enumerate() {
            let rows = output
                .clone()
                .slice([pair[0]..pair[1], 0..N_HEADS * D_HEAD]);
            outputs[index].push(rows);
        }
    }
    outputs
        .into_iter()
        .map(|parts| Tensor::cat(parts, 0))
        .collect()
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

const VISIBILITIES: [Visibility; 2] = [Visibility::Causal, Visibility::Window(9)];

#[test]
fn tokens_that_come_in_parts_attend_as_if_they_came_together() {
    for visibility in VISIBILITIES {
        let found = in_steps(cached_attention, visibility);
        for (found, sequence) in found.into_iter().zip(sequences()) {
            // The same sums in the same order.
            assert_eq!(
                host(found),
                host(sequence.whole(visibility)),
                "{visibility:?}"
            );
        }
    }
}

#[test]
fn composed_operations_attend_to_the_cache_alike() {
    for visibility in VISIBILITIES {
        let found = in_steps(composed, visibility);
        for (found, sequence) in found.into_iter().zip(sequences()) {
            let difference = (found - sequence.whole(visibility)).abs().max();
            // Averages of values of size two.
            assert!(difference.into_scalar::<f32>() < 1e-5);
        }
    }
}

#[test]
fn any_number_of_threads_attends_the_same() {
    let _unit = crate::unit::tests::SameUnit::of_machine();
    let on_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let run = || {
            let outputs = in_steps(cached_attention, Visibility::Causal);
            outputs.into_iter().map(host).collect::<Vec<_>>()
        };
        pool.expect("threads").install(run)
    };
    assert_eq!(on_threads(1), on_threads(3));
}

#[test]
fn projections_side_by_side_attend_as_apart() {
    let [first, second] = [Sequence::new(0, 40), Sequence::new(1, 40)];
    let mut caches = [KeyValueCache::default(), KeyValueCache::default()];
    let mut from = 0;
    for new in [33, 1, 6] {
        let (rows, all) = (from..from + new, from + new);
        from = all;
        let shape = shape(&[new, new], &[all, all], Visibility::Causal);
        let part = |part: usize| {
            let rows = [&first, &second].map(|one| one.rows(part, rows.clone()));
            Tensor::cat(rows.to_vec(), 0)
        };
        let apart = cached_attention(part(0), part(1), part(2), &mut caches[0], &shape);
        let joined = Tensor::cat((0..3).map(part).collect(), 1);
        let joined = cached_self_attention(joined, &mut caches[1], &shape);
        assert_eq!(host(apart), host(joined));
    }
}

#[test]
fn sequences_that_are_kept_go_on_in_their_new_order() {
    let sequences = [0, 1, 2].map(|index| Sequence::new(index, 41));
    let mut cache = KeyValueCache::default();
    let part = |part: usize, of: &[usize], rows: Range<usize>| {
        let rows = of
            .iter()
            .map(|&index| sequences[index].rows(part, rows.clone()));
        Tensor::cat(rows.collect(), 0)
    };
    let attend = |cache: &mut KeyValueCache, of: &[usize], rows: Range<usize>| {
        let [query, key, value] = [0, 1, 2].map(|index| part(index, of, rows.clone()));
        let (new, all) = (vec![rows.len(); of.len()], vec![rows.end; of.len()]);
        cached_attention(
            query,
            key,
            value,
            cache,
            &shape(&new, &all, Visibility::Causal),
        )
    };
    attend(&mut cache, &[0, 1, 2], 0..40);
    cache.keep(&[2, 0]);
    let found = host(attend(&mut cache, &[2, 0], 40..41));
    let expected = [2, 0].map(|index| {
        let whole = host(sequences[index].whole(Visibility::Causal));
        whole[40 * N_HEADS * D_HEAD..].to_vec()
    });
    assert_eq!(found, expected.concat());
}

#[test]
fn a_window_forgets_what_no_later_token_sees() {
    let sequence = Sequence::new(0, 400);
    let mut cache = KeyValueCache::default();
    for row in 0..400 {
        let [query, key, value] = [0, 1, 2].map(|part| sequence.rows(part, row..row + 1));
        let shape = shape(&[1], &[row + 1], Visibility::Window(9));
        cached_attention(query, key, value, &mut cache, &shape);
    }
    let super::CachedSequences::Host(sequences) = &cache.sequences else {
        panic!("a cache of the kernels");
    };
    assert_eq!(sequences[0].length(), 400);
    // Two blocks of 32 at the most.
    assert!(sequences[0].held() <= 2 * 32 + 9, "{}", sequences[0].held());
}
