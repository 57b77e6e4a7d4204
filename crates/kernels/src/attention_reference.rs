//! Attention composed of Burn's own operations, which autodiff differentiates: what tests compare with.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::attention_shape::AttentionShape;

/// [`attention`](crate::attention) through padding: rows are gathered into `[sequences, longest]`,
/// unseen keys are masked out of the scores, and the rows that exist are gathered back.
pub(crate) fn composed(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [_, width] = query.dims();
    let device = query.device();
    let d_head = width / shape.n_heads;
    let group = shape.n_heads / shape.n_key_heads;
    let queries = Padded::new(&shape.offsets);
    let keys = Padded::new(&shape.key_offsets);
    let sequences = queries.lengths.len();
    let mut mask = vec![f32::MIN / 2.0; sequences * queries.longest * keys.longest];
    for (sequence, (&length, &key_length)) in queries.lengths.iter().zip(&keys.lengths).enumerate()
    {
        for row in 0..queries.longest {
            // Rows of padding see what the last query sees; they are never read.
            let position = (key_length + row.min(length - 1)).saturating_sub(length);
            let start = (sequence * queries.longest + row) * keys.longest;
            for seen in shape.visibility.of(position, key_length) {
                mask[start + seen] = 0.0;
            }
        }
    }
    let heads = |rows: Tensor<2>, padded: &Padded, n_heads: usize| {
        rows.select(0, indices(padded.rows.clone(), &device))
            .reshape([sequences, padded.longest, n_heads, d_head])
            .swap_dims(1, 2)
    };
    let repeated = |rows: Tensor<2>| {
        heads(rows, &keys, shape.n_key_heads)
            .reshape([sequences, shape.n_key_heads, 1, keys.longest, d_head])
            .expand([sequences, shape.n_key_heads, group, keys.longest, d_head])
            .reshape([sequences, shape.n_heads, keys.longest, d_head])
    };
    let mask = TensorData::new(mask, [sequences, 1, queries.longest, keys.longest]);
    let mask = Tensor::<4>::from_data(mask, &device);
    let query = heads(query, &queries, shape.n_heads);
    let mut scores = query.matmul(repeated(key).swap_dims(2, 3)) * shape.scale;
    if let Some(cap) = shape.softcap {
        scores = (scores / cap).tanh() * cap;
    }
    activation::softmax(scores + mask, 3)
        .matmul(repeated(value))
        .swap_dims(1, 2)
        .reshape([sequences * queries.longest, width])
        .select(0, indices(queries.present(), &device))
}

/// Packed sequences as a padded batch.
struct Padded {
    lengths: Vec<usize>,
    longest: usize,
    /// The packed row of each padded place; padding repeats a sequence's last row.
    rows: Vec<i32>,
}

impl Padded {
    fn new(offsets: &[usize]) -> Self {
        let lengths: Vec<usize> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let rows = lengths
            .iter()
            .zip(offsets)
            .flat_map(|(&length, &offset)| {
                (0..longest).map(move |place| (offset + place.min(length - 1)) as i32)
            })
            .collect();
        Self {
            lengths,
            longest,
            rows,
        }
    }

    /// The padded places that hold a row.
    fn present(&self) -> Vec<i32> {
        let places = self.lengths.iter().enumerate();
        places
            .flat_map(|(sequence, &length)| {
                (0..length).map(move |place| (sequence * self.longest + place) as i32)
            })
            .collect()
    }
}

fn indices(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
