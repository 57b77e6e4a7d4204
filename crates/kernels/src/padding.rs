//! Packed sequences as a padded batch on a device: where rows go, and which keys each query sees.

use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::attention_shape::{AttentionShape, Visibility};
use crate::latest::Latest;

/// How many batches' tables are kept: a model has a few forms of attention, and all its layers share them.
const KEPT: usize = 4;

/// What an unseen key's score is lowered by.
const UNSEEN: f32 = f32::MIN / 2.0;

/// The padded form of an attention's queries and keys.
#[derive(Clone, Debug)]
pub(crate) struct Padding {
    pub queries: PaddedRows,
    pub keys: PaddedRows,
    /// What is added to the scores: `[sequences, 1, longest query, longest key]`, with one sequence where all are
    /// alike. `None` if every query sees every key.
    pub mask: Option<Tensor<4>>,
}

/// Sequences of rows, padded to the longest of them.
#[derive(Clone, Debug)]
pub(crate) struct PaddedRows {
    pub sequences: usize,
    pub longest: usize,
    /// `None` if all sequences are equally long.
    moves: Option<Moves>,
}

#[derive(Clone, Debug)]
struct Moves {
    /// The packed row of each padded place; padding repeats a sequence's last row: `[sequences · longest]`.
    rows: Tensor<1, Int>,
    /// The padded place of each packed row: `[rows]`.
    places: Tensor<1, Int>,
    /// One where a row is, zero for padding: `[sequences, longest, 1, 1]`.
    is_row: Tensor<4>,
}

static LATEST: Latest<Form, Arc<Padding>> = Latest::new();

/// What padding follows from.
struct Form {
    offsets: Arc<[usize]>,
    key_offsets: Arc<[usize]>,
    visibility: Visibility,
    device: Device,
}

impl Padding {
    /// Made once for a batch, on the device; only the offsets are moved there.
    ///
    /// - device: without autodiff
    pub fn of(shape: &AttentionShape, device: &Device) -> Arc<Self> {
        let is_the_one = |form: &Form| {
            form.visibility == shape.visibility
                && form.device == *device
                && form.offsets == shape.offsets
                && form.key_offsets == shape.key_offsets
        };
        let make = || {
            let form = Form {
                offsets: shape.offsets.clone(),
                key_offsets: shape.key_offsets.clone(),
                visibility: shape.visibility,
                device: device.clone(),
            };
            (form, Arc::new(Self::new(shape, device)))
        };
        LATEST.get(KEPT, is_the_one, make)
    }

    fn new(shape: &AttentionShape, device: &Device) -> Self {
        let (lengths, key_lengths) = (lengths(&shape.offsets), lengths(&shape.key_offsets));
        let queries = PaddedRows::new(&shape.offsets, &lengths, device);
        let keys = PaddedRows::new(&shape.key_offsets, &key_lengths, device);
        let alike = queries.moves.is_none() && keys.moves.is_none();
        let mask = match (alike, shape.visibility) {
            (true, Visibility::Everything) => None,
            // A single query is the last one, which sees all keys.
            (true, Visibility::Causal) if queries.longest == 1 => None,
            _ => {
                let count = if alike { 1 } else { lengths.len() };
                let sizes = [queries.longest, keys.longest];
                let lengths = [&lengths[..count], &key_lengths[..count]];
                Some(mask(lengths, sizes, shape.visibility, device))
            }
        };
        Self {
            queries,
            keys,
            mask,
        }
    }
}

fn lengths(offsets: &[usize]) -> Vec<usize> {
    offsets.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// - sizes: the longest query and key
fn mask(
    [lengths, key_lengths]: [&[usize]; 2],
    [longest, longest_key]: [usize; 2],
    visibility: Visibility,
    device: &Device,
) -> Tensor<4> {
    let count = lengths.len();
    let column = |values: Vec<f32>| {
        Tensor::<4>::from_data(TensorData::new(values, [count, 1, 1, 1]), device)
    };
    let last_key = column(key_lengths.iter().map(|&keys| keys as f32 - 1.0).collect());
    let place = |count: usize| Tensor::<1, Int>::arange(0..count as i64, device).float();
    let key = place(longest_key).reshape([1, 1, 1, longest_key]);
    let unseen = |is_unseen: Tensor<4>| is_unseen * UNSEEN;
    if visibility == Visibility::Everything {
        let beyond = (key - last_key).greater_elem(0.0).float();
        return unseen(beyond).expand([count, 1, longest, longest_key]);
    }
    // The last query is at the position of the last key; padding sees what the last query sees.
    let query = place(longest).reshape([1, 1, longest, 1]);
    let last = column(lengths.iter().map(|&length| length as f32 - 1.0).collect());
    let until_end = (last - query).clamp_min(0.0);
    let ahead = key - (last_key - until_end);
    let later = ahead.clone().greater_elem(0.0).float();
    match visibility {
        Visibility::Window(width) => {
            unseen(later + ahead.lower_equal_elem(-(width as f32)).float())
        }
        Visibility::Everything | Visibility::Causal => unseen(later),
    }
}

impl PaddedRows {
    fn new(offsets: &[usize], lengths: &[usize], device: &Device) -> Self {
        let sequences = lengths.len();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let is_even = lengths.iter().all(|&length| length == longest);
        let moves = (!is_even).then(|| {
            let column = |values: Vec<i32>| {
                Tensor::<2, Int>::from_data(TensorData::new(values, [sequences, 1]), device)
            };
            let first = column(offsets[..sequences].iter().map(|&row| row as i32).collect());
            let last = column(lengths.iter().map(|&length| length as i32 - 1).collect());
            let place = Tensor::<1, Int>::arange(0..longest as i64, device).reshape([1, longest]);
            let place = place.expand([sequences, longest]);
            let within = place
                .clone()
                .min_pair(last.clone().expand([sequences, longest]));
            let rows = (within + first).reshape([sequences * longest]);
            let is_row = (place - last).lower_equal_elem(0).float();
            // Every row is at one place that is not padding.
            let places = Tensor::<1, Int>::arange(0..(sequences * longest) as i64, device);
            let count = offsets[sequences];
            let places = Tensor::<1>::zeros([count], device).select_assign(
                0,
                rows.clone(),
                places.float() * is_row.clone().reshape([sequences * longest]),
                IndexingUpdateOp::Add,
            );
            Moves {
                rows,
                places: places.int(),
                is_row: is_row.reshape([sequences, longest, 1, 1]),
            }
        });
        Self {
            sequences,
            longest,
            moves,
        }
    }

    /// - input: `[rows, heads · d_head]`
    /// - output: `[sequences, longest, heads, d_head]`; padding repeats a sequence's last row
    pub fn spread(&self, input: Tensor<2>, d_head: usize) -> Tensor<4> {
        let [_, width] = input.dims();
        let input = match &self.moves {
            Some(moves) => input.select(0, moves.rows.clone()),
            None => input,
        };
        input.reshape([self.sequences, self.longest, width / d_head, d_head])
    }

    /// [`spread`](Self::spread) of gradients, of which padding has none.
    pub fn spread_gradient(&self, gradient: Tensor<2>, d_head: usize) -> Tensor<4> {
        let gradient = self.spread(gradient, d_head);
        match &self.moves {
            Some(moves) => gradient * moves.is_row.clone(),
            None => gradient,
        }
    }

    /// The rows that exist.
    ///
    /// - input: `[sequences, longest, heads, d_head]`
    /// - output: `[rows, heads · d_head]`
    pub fn packed(&self, input: Tensor<4>) -> Tensor<2> {
        let [sequences, longest, heads, d_head] = input.dims();
        let input = input.reshape([sequences * longest, heads * d_head]);
        match &self.moves {
            Some(moves) => input.select(0, moves.places.clone()),
            None => input,
        }
    }
}
