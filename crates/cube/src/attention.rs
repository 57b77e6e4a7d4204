//! Multi-head attention over packed sequences. Scores exist while they are used; the backward pass computes them
//! again.

use std::sync::Arc;

use burn::tensor::{Device, Int, IntDType, Shape, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;

use crate::heads::HeadRegions;
use crate::limits::most_values_of;
use crate::operation::{
    Operation, Queued, in_order, queued, queued_numbers, run, tensor, unwritten,
};
use crate::product::{product, transposed};
use crate::regions::{Place, Regions, Writing, some_rows};
use crate::softmax::ScoreRule;
use crate::tasks::{Lengths, Task, TaskSizes, tasks};

/// How many scores exist at a time, if the device has tensors as large: 256 MiB.
const SCORES: usize = 64 * 1024 * 1024;
/// Sequences are padded to a multiple of this, so that products read several values at a time.
pub(crate) const PADDED: usize = 8;

/// Which keys of its sequence a query attends to; the last query is at the position of the last key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// All of them.
    Everything,
    /// Those up to its own position.
    Causal,
    /// This many up to its own position.
    Window(usize),
}

/// Where the sequences of a batch are. Made once for it.
#[derive(Clone, Debug)]
pub struct PackedSequences {
    /// `[sequences + 1]`
    offsets: Tensor<1, Int>,
    key_offsets: Tensor<1, Int>,
    lengths: Arc<[Lengths]>,
    longest: usize,
    longest_key: usize,
}

impl PackedSequences {
    /// - offsets: the queries of sequence i are the rows `offsets[i]..offsets[i + 1]`
    /// - key_offsets: the same of keys and values
    /// - device: without autodiff
    pub fn new(offsets: &[usize], key_offsets: &[usize], device: &Device) -> Self {
        let numbers = |offsets: &[usize]| {
            let values: Vec<i32> = offsets.iter().map(|&row| row as i32).collect();
            let count = values.len();
            let numbers = Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device);
            numbers.cast(IntDType::I32)
        };
        let queries = numbers(offsets);
        let keys = match offsets == key_offsets {
            true => queries.clone(),
            false => numbers(key_offsets),
        };
        let lengths = offsets.windows(2).zip(key_offsets.windows(2));
        let lengths = lengths.map(|(queries, keys)| Lengths {
            queries: queries[1] - queries[0],
            keys: keys[1] - keys[0],
        });
        Self {
            lengths: lengths.collect(),
            offsets: queries,
            key_offsets: keys,
            longest: longest(offsets),
            longest_key: longest(key_offsets),
        }
    }
}

/// The places that the longest sequence has.
fn longest(offsets: &[usize]) -> usize {
    let lengths = offsets.windows(2).map(|pair| pair[1] - pair[0]);
    lengths.max().unwrap_or(0).next_multiple_of(PADDED)
}

/// softmax(scale · Q Kᵀ) V of every head of every sequence, over the keys that each query sees.
#[derive(Clone, Debug)]
pub struct Attention {
    /// For query, key and value: which tensor, and the first of its columns. They fill their tensors, in this
    /// order: all three are in one, keys and values are, or each is in its own.
    pub places: [(usize, usize); 3],
    pub n_heads: usize,
    /// Heads of keys and values; each serves `n_heads / n_key_heads` heads of queries.
    pub n_key_heads: usize,
    pub d_head: usize,
    pub scale: f32,
    /// Scores x become c · tanh(x / c).
    pub softcap: Option<f32>,
    pub seen: Seen,
}

impl Attention {
    /// - inputs: `[rows, heads · d_head]` each
    /// - output: `[rows, n_heads · d_head]`
    pub fn forward(&self, inputs: Vec<Tensor<2>>, sequences: &PackedSequences) -> Tensor<2> {
        let count = inputs.len();
        let rule = Rule::new(self, sequences, count);
        let inputs = inputs.into_iter().map(queued).chain(numbers(sequences));
        tensor(run(Forward(rule), inputs.collect()).remove(0))
    }

    /// The gradients of the inputs. With P the probabilities, S the scores and dP = dO · Vᵀ:
    /// dS = P ⊙ (dP − Σ P ⊙ dP), dQ = dS · K, dK = dSᵀ · Q, dV = Pᵀ · dO.
    pub fn gradients(
        &self,
        inputs: Vec<Tensor<2>>,
        gradient: Tensor<2>,
        sequences: &PackedSequences,
    ) -> Vec<Tensor<2>> {
        let count = inputs.len();
        let rule = Rule::new(self, sequences, count);
        let inputs = inputs.into_iter().map(queued);
        let inputs = inputs.chain(numbers(sequences)).chain([queued(gradient)]);
        let found = run(Backward(rule), inputs.collect());
        found.into_iter().map(tensor).collect()
    }

    /// How many heads of queries share one of keys.
    fn group(&self) -> usize {
        self.n_heads / self.n_key_heads
    }
}

fn numbers(sequences: &PackedSequences) -> [Queued; 2] {
    [&sequences.offsets, &sequences.key_offsets].map(|offsets| queued_numbers(offsets.clone()))
}

#[derive(Debug)]
struct Forward(Rule);

#[derive(Debug)]
struct Backward(Rule);

/// An attention, its inputs and the sizes of a batch.
#[derive(Clone, Debug)]
struct Rule {
    attention: Attention,
    inputs: usize,
    lengths: Arc<[Lengths]>,
    longest: usize,
    longest_key: usize,
}

/// The tensors of an operation.
struct Arguments {
    inputs: Vec<CubeTensor>,
    offsets: CubeTensor,
    key_offsets: CubeTensor,
    gradient: Option<CubeTensor>,
}

impl Rule {
    fn new(attention: &Attention, sequences: &PackedSequences, inputs: usize) -> Self {
        Self {
            attention: attention.clone(),
            inputs,
            lengths: sequences.lengths.clone(),
            longest: sequences.longest,
            longest_key: sequences.longest_key,
        }
    }

    fn arguments(&self, tensors: Vec<CubeTensor>) -> Arguments {
        let mut inputs: Vec<CubeTensor> = tensors.into_iter().map(in_order).collect();
        let mut rest = inputs.split_off(self.inputs).into_iter();
        let mut next = || rest.next().expect("offsets of queries and keys");
        Arguments {
            inputs,
            offsets: next(),
            key_offsets: next(),
            gradient: rest.next(),
        }
    }

    /// Blocks of scores: a head of keys of a sequence, with all heads of queries that it serves.
    fn blocks(&self) -> usize {
        self.lengths.len() * self.attention.n_key_heads
    }

    /// The shapes of queries, of keys and of values by heads: `[sequences · key heads, group · longest, d_head]`, and
    /// `[sequences · key heads, longest key, d_head]`.
    fn shapes(&self) -> [Shape; 3] {
        let (d_head, group) = (self.attention.d_head, self.attention.group());
        let keys = Shape::new([self.blocks(), self.longest_key, d_head]);
        let queries = Shape::new([self.blocks(), group * self.longest, d_head]);
        [queries, keys.clone(), keys]
    }

    /// The part of the buffer that a tensor's heads are.
    fn heads_of(&self, tensor: usize, arguments: &Arguments, starts: &[usize]) -> HeadRegions {
        let attention = &self.attention;
        let counts = [
            attention.n_heads,
            attention.n_key_heads,
            attention.n_key_heads,
        ];
        let of_it = attention.places.iter().zip(counts.into_iter().zip(starts));
        let of_it = of_it.filter(|((other, _), _)| *other == tensor);
        let has_queries = attention.places[0].0 == tensor;
        let (offsets, longest) = match has_queries {
            true => (&arguments.offsets, self.longest),
            false => (&arguments.key_offsets, self.longest_key),
        };
        HeadRegions {
            d_head: attention.d_head,
            offsets: offsets.clone(),
            longest,
            regions: of_it.map(|(_, (count, &start))| (count, start)).collect(),
        }
    }

    /// Queries, keys and values by heads.
    fn spread(&self, arguments: &Arguments) -> [CubeTensor; 3] {
        let regions = Regions::unwritten(&arguments.inputs[0], self.shapes());
        for (tensor, input) in arguments.inputs.iter().enumerate() {
            let heads = self.heads_of(tensor, arguments, &regions.starts);
            heads.spread(input, &regions.buffer);
        }
        let mut parts = regions.parts.into_iter();
        [(); 3].map(|()| parts.next().expect("a part of each shape"))
    }

    /// The heads of queries alone, such as those of an output.
    fn queries(&self, arguments: &Arguments) -> HeadRegions {
        HeadRegions {
            d_head: self.attention.d_head,
            offsets: arguments.offsets.clone(),
            longest: self.longest,
            regions: vec![(self.attention.n_heads, 0)],
        }
    }

    fn score_rule(&self, arguments: &Arguments, task: &Task) -> ScoreRule {
        ScoreRule {
            offsets: arguments.offsets.clone(),
            key_offsets: arguments.key_offsets.clone(),
            longest: self.longest,
            blocks: self.attention.n_key_heads,
            first_block: task.blocks.start,
            first_query: task.first_query,
            first_key: task.keys.start,
            scale: self.attention.scale,
            softcap: self.attention.softcap,
            seen: self.attention.seen,
        }
    }

    fn tasks(&self, like: &CubeTensor) -> Vec<Task> {
        tasks(&TaskSizes {
            blocks: self.blocks(),
            group: self.attention.group(),
            longest: self.longest,
            longest_key: self.longest_key,
            seen: self.attention.seen,
            lengths: &self.lengths,
            scores: SCORES.min(most_values_of(&like.client)),
        })
    }
}

impl Operation for Forward {
    const NAME: &'static str = "attention";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let attention = &self.0.attention;
        let rows = inputs[attention.places[0].0][0];
        vec![Shape::new([rows, attention.n_heads * attention.d_head])]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let rule = &self.0;
        let arguments = rule.arguments(inputs);
        let queries = &arguments.inputs[rule.attention.places[0].0];
        let [rows, _] = queries.meta.shape().dims();
        let [query, key, value] = rule.spread(&arguments);
        let [shape, ..] = rule.shapes();
        let found = unwritten(queries, shape);
        for task in rule.tasks(&found) {
            let query = some_rows(&query, &task.blocks, &task.rows);
            let [key, value] = [&key, &value].map(|all| some_rows(all, &task.blocks, &task.keys));
            let scores = product(query, transposed(key));
            rule.score_rule(&arguments, &task)
                .probabilities(&scores, false);
            let place = Place::of(&found, &task.blocks, &task.rows);
            place.product(scores, value, Writing::Set);
        }
        let width = rule.attention.n_heads * rule.attention.d_head;
        let output = unwritten(queries, [rows, width]);
        rule.queries(&arguments).pack(&found, &output);
        vec![output]
    }
}

impl Operation for Backward {
    const NAME: &'static str = "attention_gradients";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        inputs[..self.0.inputs].to_vec()
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let rule = &self.0;
        let arguments = rule.arguments(inputs);
        let [query, key, value] = rule.spread(&arguments);
        let gradient = arguments.gradient.as_ref().expect("a gradient");
        let [shape, ..] = rule.shapes();
        let of_output = unwritten(gradient, shape);
        rule.queries(&arguments).spread(gradient, &of_output);
        let found = Regions::unwritten(gradient, rule.shapes());
        let tasks = rule.tasks(&of_output);
        // Of parts of blocks, several may see a key, which gets the sum of what each finds, and none another.
        let [queries, of_keys, _] = rule.shapes();
        let is_whole = |task: &Task| task.rows.len() == queries[1] && task.keys.len() == of_keys[1];
        let keys = match tasks.iter().all(is_whole) {
            true => Writing::Set,
            false => Writing::Add,
        };
        if keys == Writing::Add {
            found.clear();
        }
        for task in tasks {
            let [query, of_output] =
                [&query, &of_output].map(|all| some_rows(all, &task.blocks, &task.rows));
            let [key, value] = [&key, &value].map(|all| some_rows(all, &task.blocks, &task.keys));
            let place = |which: usize, rows| Place::of(&found.parts[which], &task.blocks, rows);
            let scores = product(query.clone(), transposed(key.clone()));
            let score_rule = rule.score_rule(&arguments, &task);
            let slope = score_rule.probabilities(&scores, true);
            let value_place = place(2, &task.keys);
            value_place.product(transposed(scores.clone()), of_output.clone(), keys);
            let of_scores = product(of_output, transposed(value));
            score_rule.gradient(&scores, slope.as_ref(), &of_scores);
            place(0, &task.rows).product(of_scores.clone(), key, Writing::Set);
            place(1, &task.keys).product(transposed(of_scores), query, keys);
        }
        let outputs = arguments.inputs.iter().enumerate().map(|(tensor, input)| {
            let output = unwritten(input, input.meta.shape().clone());
            let heads = rule.heads_of(tensor, &arguments, &found.starts);
            heads.pack(&found.buffer, &output);
            output
        });
        outputs.collect()
    }
}
