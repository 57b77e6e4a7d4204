//! Multi-head attention over packed sequences: rows of several sequences, one after the other,
//! without padding between them; bidirectional, causal or within a sliding window.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::attention_gradient::{GroupGradients, backward};
use crate::attention_rows::{Group, HeadRows, HeadTarget, Heads, QUERY_BLOCK, forward};
use crate::attention_shape::{AttentionShape, Visibility};
use crate::backward::Differentiable;
use crate::buffer::{Unwritten, values_of};
use crate::composition::compose;
use crate::has_kernels;
use crate::padded_attention::PaddedAttention;
use crate::padding::Padding;
use crate::tensor_list::TensorList;

/// softmax(scale · Q Kᵀ) V, for every head of every sequence, over the keys that each query sees.
///
/// # Shapes
/// - query: `[rows, n_heads · d_head]`
/// - key, value: `[key_rows, n_key_heads · d_head]`
/// - output: `[rows, n_heads · d_head]`
///
/// # Panics
/// If the offsets do not cover the rows from the first to the last in order, keys and values have
/// other sizes, a width is not a multiple of its heads, or a sequence has no query, no key or, unless
/// every query sees all keys, fewer keys than queries.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let ([_, width], [_, key_width]) = (query.dims(), key.dims());
    assert_eq!(value.dims(), key.dims(), "sizes of values and keys");
    let places = [(0, 0), (1, 0), (2, 0)];
    attend(vec![query, key, value], places, [width, key_width], shape)
}

/// [`attention`] of queries, keys and values that are side by side, as
/// [`adapted_linear`](crate::adapted_linear) returns them; so are the gradients.
///
/// # Shapes
/// - projections: `[rows, (n_heads + 2 · n_key_heads) · d_head]`
/// - output: `[rows, n_heads · d_head]`
///
/// # Panics
/// As [`attention`].
pub fn self_attention(projections: Tensor<2>, shape: &AttentionShape) -> Tensor<2> {
    let [_, all] = projections.dims();
    let heads = shape.n_heads + 2 * shape.n_key_heads;
    assert!(all.is_multiple_of(heads), "{all} in {heads} heads");
    let d_head = all / heads;
    let (width, key_width) = (shape.n_heads * d_head, shape.n_key_heads * d_head);
    let places = [(0, 0), (0, width), (0, width + key_width)];
    attend(vec![projections], places, [width, key_width], shape)
}

/// [`attention`] of separate queries to keys and values that are side by side.
///
/// # Shapes
/// - query, output: `[rows, n_heads · d_head]`
/// - keys_and_values: `[key_rows, 2 · n_key_heads · d_head]`
///
/// # Panics
/// As [`attention`].
pub fn cross_attention(
    query: Tensor<2>,
    keys_and_values: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let ([_, width], [_, both]) = (query.dims(), keys_and_values.dims());
    assert!(both.is_multiple_of(2), "keys and values in {both}");
    let key_width = both / 2;
    let places = [(0, 0), (1, 0), (1, key_width)];
    let inputs = vec![query, keys_and_values];
    attend(inputs, places, [width, key_width], shape)
}

/// - places: for query, key and value the tensor that contains it and its first column
fn attend(
    mut inputs: Vec<Tensor<2>>,
    places: [(usize, usize); 3],
    [width, key_width]: [usize; 2],
    shape: &AttentionShape,
) -> Tensor<2> {
    let (n_heads, n_key_heads) = (shape.n_heads, shape.n_key_heads);
    let [[rows, _], [key_rows, _], _] = places.map(|(tensor, _)| inputs[tensor].dims());
    // The kernels write every row that the offsets cover once, without clearing it first.
    let queries = lengths(&shape.offsets, rows);
    let keys = lengths(&shape.key_offsets, key_rows);
    assert!(
        n_heads.is_multiple_of(n_key_heads)
            && width.is_multiple_of(n_heads)
            && key_width * n_heads == width * n_key_heads,
        "{width} in {n_heads} heads, {key_width} in {n_key_heads}"
    );
    let is_enough = |(&queries, &keys): (&usize, &usize)| match shape.visibility {
        Visibility::Everything => queries > 0 && keys > 0,
        Visibility::Causal | Visibility::Window(_) => (1..=keys).contains(&queries),
    };
    assert!(
        queries.len() == keys.len() && queries.iter().zip(&keys).all(is_enough),
        "a query in every sequence, and a key for each of them"
    );
    let plan = AttentionPlan {
        shape: shape.clone(),
        places,
        d_head: width / n_heads,
    };
    let device = inputs[0].device().inner();
    if !has_kernels(&device) {
        #[cfg(feature = "gpu")]
        if crate::computes_later(&device) {
            let attention = crate::gpu::LaunchedAttention::new(&plan, &device);
            return compose(inputs, attention);
        }
        let padding = Padding::of(shape, &device);
        return compose(inputs, PaddedAttention::new(plan, padding));
    }
    let others = inputs.split_off(1).into_iter();
    let others = TensorList::new(others.map(Tensor::into_dispatch).collect());
    let first = inputs.remove(0).into_dispatch();
    Tensor::from_dispatch(Dispatch::fused_attention(first, others, plan))
}

/// The lengths of the sequences.
///
/// # Panics
/// If the offsets do not lead from the first of `rows` rows to the last in order.
fn lengths(offsets: &[usize], rows: usize) -> Vec<usize> {
    assert_eq!(
        (offsets.first(), offsets.last()),
        (Some(&0), Some(&rows)),
        "the first and last offset of {rows} rows"
    );
    let lengths = offsets.windows(2).map(|pair| {
        assert!(pair[0] <= pair[1], "offsets {pair:?} in this order");
        pair[1] - pair[0]
    });
    lengths.collect()
}

/// An attention and the places of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct AttentionPlan {
    pub shape: AttentionShape,
    /// For query, key and value: which tensor, and the first of its columns.
    pub places: [(usize, usize); 3],
    pub d_head: usize,
}

/// The gradients of the tensors that queries, keys and values are in.
pub(crate) struct AttentionGradients<B: Backend>(Vec<FloatTensor<B>>);

#[backend_extension(Autodiff, Flex)]
pub(crate) trait AttentionForward: Backend {
    /// - first, others: the tensors that the plan counts
    fn fused_attention(
        first: FloatTensor<Self>,
        #[extension_type] others: TensorList<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self>;
}

pub(crate) trait AttentionBackward: Backend {
    fn fused_attention_backward(
        inputs: Vec<FloatTensor<Self>>,
        gradient: FloatTensor<Self>,
        plan: &AttentionPlan,
    ) -> AttentionGradients<Self>;
}

/// The heads of one sequence that share a head of keys.
struct AttentionTask {
    /// Rows of queries and of keys.
    rows: Range<usize>,
    key_rows: Range<usize>,
    key_head: usize,
}

impl AttentionPlan {
    /// How many heads of queries share one of keys.
    pub fn group_size(&self) -> usize {
        self.shape.n_heads / self.shape.n_key_heads
    }

    /// The heads of queries, of keys and of values.
    pub fn head_counts(&self) -> [usize; 3] {
        let AttentionShape {
            n_heads,
            n_key_heads,
            ..
        } = self.shape;
        [n_heads, n_key_heads, n_key_heads]
    }

    fn tasks(&self) -> Vec<AttentionTask> {
        self.shape
            .sequences()
            .flat_map(|(rows, key_rows)| {
                (0..self.shape.n_key_heads).map(move |key_head| AttentionTask {
                    rows: rows.clone(),
                    key_rows: key_rows.clone(),
                    key_head,
                })
            })
            .collect()
    }

    /// The rows of a task.
    fn group<'a>(&self, task: &AttentionTask, inputs: &'a [FlexTensor]) -> Group<'a> {
        let group = self.shape.n_heads / self.shape.n_key_heads;
        let [query, key, value] = self.places.map(|(tensor, column)| {
            let input = &inputs[tensor];
            let rows = HeadRows {
                values: values_of(input),
                stride: input.layout().shape()[1],
            };
            (rows, column)
        });
        let head = task.key_head * self.d_head;
        let first = task.key_rows.start;
        Group {
            query: query.0.from(task.rows.start, query.1 + head * group),
            key: key.0.from(first, key.1 + head),
            value: value.0.from(first, value.1 + head),
            queries: task.rows.len(),
            keys: task.key_rows.len(),
        }
    }
}

impl AttentionForward for Flex {
    fn fused_attention(
        first: FlexTensor,
        others: TensorList<Self>,
        plan: AttentionPlan,
    ) -> FlexTensor {
        let inputs = std::iter::once(first).chain(others.into_vec());
        let inputs: Vec<_> = inputs.map(|input| input.to_contiguous()).collect();
        let heads = Heads::new(&plan.shape, plan.d_head);
        let rows = inputs[plan.places[0].0].layout().shape()[0];
        let width = heads.n_heads * heads.d_head;
        let mut output = Unwritten::new(rows * width);
        let target = HeadTarget {
            values: output.as_mut_ptr(),
            stride: width,
        };
        let tasks = plan.tasks();
        // If there are only a few long sequences, they are divided, so that every thread gets some
        // queries.
        let is_few = tasks.len() < 4 * rayon::current_num_threads();
        let pieces: Vec<(&AttentionTask, Range<usize>)> = tasks
            .iter()
            .flat_map(|task| {
                let queries = task.rows.len();
                let step = if is_few { QUERY_BLOCK } else { queries };
                let starts = (0..queries).step_by(step);
                starts.map(move |start| (task, start..queries.min(start + step)))
            })
            .collect();
        pieces.into_par_iter().for_each(|(task, chosen)| {
            let column = task.key_head * heads.group() * heads.d_head;
            // Every piece writes its own heads of its own rows.
            let output = target.from(task.rows.start, column);
            forward(&plan.group(task, &inputs), &heads, chosen, output);
        });
        // SAFETY: the pieces together have every head of every row.
        unsafe { output.into_tensor([rows, width]) }
    }
}

impl AttentionBackward for Flex {
    fn fused_attention_backward(
        inputs: Vec<FlexTensor>,
        gradient: FlexTensor,
        plan: &AttentionPlan,
    ) -> AttentionGradients<Self> {
        let inputs: Vec<_> = inputs.iter().map(FlexTensor::to_contiguous).collect();
        let gradient = gradient.to_contiguous();
        let heads = Heads::new(&plan.shape, plan.d_head);
        let shapes = inputs.iter().map(|input| input.layout().shape());
        let mut gradients: Vec<Unwritten> = shapes
            .clone()
            .map(|shape| Unwritten::new(shape.num_elements()))
            .collect();
        let targets: Vec<HeadTarget> = gradients
            .iter_mut()
            .zip(shapes.clone())
            .map(|(gradient, shape)| HeadTarget {
                stride: shape[1],
                values: gradient.as_mut_ptr(),
            })
            .collect();
        let gradient = HeadRows {
            values: values_of(&gradient),
            stride: heads.n_heads * heads.d_head,
        };
        plan.tasks().into_par_iter().for_each(|task| {
            let head = task.key_head * heads.d_head;
            let (row, key_row) = (task.rows.start, task.key_rows.start);
            let [query, key, value] = plan
                .places
                .map(|(tensor, column)| (targets[tensor], column + head));
            let query_column = query.1 - head + head * heads.group();
            // Every task writes its own heads of its own rows.
            let found = GroupGradients {
                query: query.0.from(row, query_column),
                key: key.0.from(key_row, key.1),
                value: value.0.from(key_row, value.1),
            };
            let gradient = gradient.from(row, head * heads.group());
            backward(&plan.group(&task, &inputs), gradient, &heads, found);
        });
        let gradients = gradients.into_iter().zip(shapes).map(|(gradient, shape)| {
            // SAFETY: queries, keys and values fill their tensors, and every task wrote its own.
            unsafe { gradient.into_tensor(shape.clone()) }
        });
        AttentionGradients(gradients.collect())
    }
}

impl<B: AttentionForward + AttentionBackward, C: CheckpointStrategy> AttentionForward
    for Autodiff<B, C>
{
    fn fused_attention(
        first: FloatTensor<Self>,
        others: TensorList<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self> {
        let inputs = std::iter::once(first).chain(others.into_vec());
        Self::differentiable_list(
            inputs.collect(),
            |inputs, _| {
                let mut tensors = inputs.clone();
                let others = TensorList::new(tensors.split_off(1));
                let output = B::fused_attention(tensors.remove(0), others, plan.clone());
                (output, (inputs, plan))
            },
            |(inputs, plan), gradient, _| {
                let AttentionGradients(found) =
                    B::fused_attention_backward(inputs, gradient, &plan);
                found.into_iter().map(Some).collect()
            },
        )
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
