//! The entries of representations, formed block by block from thin factors and never all at once.

use std::ops::Range;

use eigenmix_adapter::ModuleMembers;
use eigenmix_tensors::Matrix;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::dare::DropMask;
use crate::factors::Factors;
use crate::method::EntryMethod;
use crate::space::ReducedFactors;

/// About how many entries of one representation a block has: few enough that those of all adapters
/// stay in the cache, enough that products of thin factors are fast.
const BLOCK: usize = 1 << 14;

/// The representations of one module in all adapters that have it.
pub(crate) struct Entries<'a> {
    /// `[rows, cols]` of each.
    pub(crate) shape: [usize; 2],
    pub(crate) tasks: Vec<TaskEntries<'a>>,
}

/// `w_t · τ_t = scale · L · R`, some entries dropped.
pub(crate) struct TaskEntries<'a> {
    /// Which adapter it is, among all.
    pub(crate) adapter: usize,
    /// L: `[rows, r_t]`.
    left: &'a Matrix,
    /// R: `[r_t, cols]`.
    right: &'a Matrix,
    scale: f32,
    mask: Option<DropMask>,
}

/// Some rows of the representations of all adapters, row-major, and room to work in.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) tasks: Vec<Vec<f32>>,
    /// The sum of the adapters, entry by entry.
    pub(crate) sums: Vec<f64>,
    /// 1 or −1, entry by entry.
    pub(crate) signs: Vec<f32>,
    /// How many adapters agree, entry by entry.
    pub(crate) counts: Vec<f32>,
}

impl Block {
    fn new(tasks: usize) -> Self {
        Self {
            tasks: vec![Vec::new(); tasks],
            ..Self::default()
        }
    }
}

/// Everything besides the factors that shapes the entries of a module.
pub(crate) struct EntrySetting<'a> {
    pub(crate) method: EntryMethod,
    /// The path of the module.
    pub(crate) path: &'a str,
    pub(crate) members: &'a ModuleMembers,
    /// w, of all adapters.
    pub(crate) weights: &'a [f64],
    pub(crate) seed: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        reduced: &'a ReducedFactors,
        factors: &'a [Factors<'_>],
        setting: &EntrySetting<'_>,
    ) -> Self {
        let masks = DropMask::of_tasks(factors, setting);
        let tasks = factors.iter().zip(masks).enumerate();
        let tasks = tasks.map(|(task, (factors, mask))| {
            let adapter = setting.members.adapters[task];
            // Reduced left factors have the scaling in them, an adapter's own B has not.
            let (left, scaling) = match &reduced.left {
                Some(left) => (&left[task], 1.0),
                None => (&factors.b, f64::from(factors.scaling)),
            };
            let kept = 1.0 - setting.method.drop;
            TaskEntries {
                adapter,
                left,
                right: match &reduced.right {
                    Some(right) => &right[task],
                    None => &factors.a,
                },
                scale: (setting.weights[adapter] * scaling / kept) as f32,
                mask,
            }
        });
        Self {
            shape: reduced.shape,
            tasks: tasks.collect(),
        }
    }

    /// How many rows a block has.
    fn block_rows(&self) -> usize {
        (BLOCK / self.shape[1].max(1)).max(1)
    }

    /// The blocks, as ranges of rows.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let ([rows, _], step) = (self.shape, self.block_rows());
        (0..rows.div_ceil(step)).map(move |block| block * step..rows.min((block + 1) * step))
    }

    /// Shows `visit` all entries of one adapter, block by block.
    pub(crate) fn for_each_block(&self, task: &TaskEntries<'_>, mut visit: impl FnMut(&[f32])) {
        let mut buffer = vec![0.0; self.block_rows() * self.shape[1]];
        for rows in self.blocks() {
            let block = &mut buffer[..rows.len() * self.shape[1]];
            task.fill(rows, block);
            visit(block);
        }
    }

    /// What `reduce` makes of each block of all adapters, in no particular order on any thread.
    pub(crate) fn par_blocks<T: Send>(
        &self,
        reduce: impl Fn(&mut Block) -> T + Send + Sync,
    ) -> impl ParallelIterator<Item = T> {
        let blocks: Vec<Range<usize>> = self.blocks().collect();
        let run = run_length(blocks.len());
        blocks.into_par_iter().with_min_len(run).map_init(
            || Block::new(self.tasks.len()),
            move |block, rows| {
                self.fill_all(rows, block);
                reduce(block)
            },
        )
    }

    /// The matrix `[rows, cols]` that `merge` writes block by block, given the block of every adapter.
    pub(crate) fn merged(&self, merge: impl Fn(&mut Block, &mut [f32]) + Sync) -> Matrix {
        let [rows, cols] = self.shape;
        let step = self.block_rows();
        let mut values = vec![0.0; rows * cols];
        values
            .par_chunks_mut((step * cols).max(1))
            .with_min_len(run_length(rows.div_ceil(step)))
            .enumerate()
            .for_each_init(
                || Block::new(self.tasks.len()),
                |block, (index, target)| {
                    let first = index * step;
                    self.fill_all(first..first + target.len() / cols, block);
                    merge(block, target);
                },
            );
        Matrix::new(rows, cols, values)
    }

    fn fill_all(&self, rows: Range<usize>, block: &mut Block) {
        for (task, buffer) in self.tasks.iter().zip(&mut block.tasks) {
            buffer.resize(rows.len() * self.shape[1], 0.0);
            task.fill(rows.clone(), buffer);
        }
    }
}

/// The minimum number of blocks per thread, so that memory is rarely reallocated.
fn run_length(blocks: usize) -> usize {
    blocks.div_ceil(2 * rayon::current_num_threads()).max(1)
}

impl TaskEntries<'_> {
    /// Writes the given rows into `block`, row-major.
    fn fill(&self, rows: Range<usize>, block: &mut [f32]) {
        let (rank, cols) = (self.right.rows(), self.right.cols());
        let left = &self.left.values()[rows.start * rank..rows.end * rank];
        matmul(
            MatMut::from_row_major_slice_mut(block, rows.len(), cols),
            Accum::Replace,
            MatRef::from_row_major_slice(left, rows.len(), rank),
            MatRef::from_row_major_slice(self.right.values(), rank, cols),
            self.scale,
            Par::Seq,
        );
        if let Some(mask) = &self.mask {
            mask.apply(rows.start * cols, block);
        }
    }
}
