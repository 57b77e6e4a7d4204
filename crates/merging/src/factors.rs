//! The factors of one module in the adapters that have it.

use std::borrow::Cow;

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::error::MergeError;
use crate::plan::Members;
use crate::source::MergeSource;

/// How many rows are transposed at a time: few enough to stay in the cache.
const TILE: usize = 64;

/// One adapter's update of a module: `ΔW = s · B · A`.
pub(crate) struct Factors<'a> {
    /// B, a mixer W multiplied in: `[d_out, rank]`.
    pub(crate) b: Cow<'a, Matrix>,
    /// A: `[rank, d_in]`.
    pub(crate) a: Cow<'a, Matrix>,
    /// s.
    pub(crate) scaling: f32,
}

impl<'a> Factors<'a> {
    /// The factors of the module `path` in those of `adapters` that have it, in their order.
    ///
    /// # Errors
    /// If one can't be read, isn't finite, or is more than a low-rank update of the weight.
    pub(crate) fn load<S: MergeSource>(
        adapters: &'a [S],
        path: &str,
        members: &Members,
    ) -> Result<Vec<Self>, MergeError> {
        members
            .adapters
            .iter()
            .map(|&index| {
                let adapter = &adapters[index];
                let module = adapter.module(path)?;
                check(&module, path, adapter.location())?;
                Ok(Self::of(module))
            })
            .collect()
    }

    fn of(module: Cow<'a, LoraModule>) -> Self {
        let scaling = module.scaling;
        let mixed = module.mixer.as_ref().map(|mixer| module.b.product(mixer));
        let (b, a) = match module {
            Cow::Borrowed(module) => (Cow::Borrowed(&module.b), Cow::Borrowed(&module.a)),
            Cow::Owned(module) => (Cow::Owned(module.b), Cow::Owned(module.a)),
        };
        Self {
            b: mixed.map_or(b, Cow::Owned),
            a,
            scaling,
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.a.rows()
    }
}

/// `[s_1B_1 … s_TB_T]`: `[d_out, Σr]`, in f64.
pub(crate) fn stacked_left(tasks: &[Factors<'_>]) -> Mat<f64> {
    let d_out = tasks[0].b.rows();
    let mut stack = Mat::zeros(d_out, tasks.iter().map(Factors::rank).sum());
    let mut first = 0;
    for task in tasks {
        let (scaling, rank) = (f64::from(task.scaling), task.rank());
        let mut block = stack.as_mut().subcols_mut(first, rank);
        for (rows, top) in task
            .b
            .values()
            .chunks(TILE * rank)
            .zip((0..d_out).step_by(TILE))
        {
            let height = rows.len() / rank;
            for (col, column) in block.as_mut().col_iter_mut().enumerate() {
                let values = rows[col..].iter().step_by(rank);
                for (entry, &value) in column.subrows_mut(top, height).iter_mut().zip(values) {
                    *entry = scaling * f64::from(value);
                }
            }
        }
        first += rank;
    }
    stack
}

/// `[A_1ᵀ … A_Tᵀ]`: `[d_in, Σr]`, in f64.
pub(crate) fn stacked_right(tasks: &[Factors<'_>]) -> Mat<f64> {
    let rows = || {
        tasks
            .iter()
            .flat_map(|task| task.a.values().chunks_exact(task.a.cols()))
    };
    let mut stack = Mat::zeros(tasks[0].a.cols(), rows().count());
    for (column, values) in stack.as_mut().col_iter_mut().zip(rows()) {
        for (entry, &value) in column.iter_mut().zip(values) {
            *entry = f64::from(value);
        }
    }
    stack
}

/// Refuses what a merge of low-rank updates would lose or spoil.
fn check(module: &LoraModule, path: &str, location: &str) -> Result<(), MergeError> {
    if module.magnitude.is_some() {
        return Err(MergeError::Magnitude {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    if module.bias.is_some() {
        return Err(MergeError::LoraBias {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    let mixer_is_finite = module.mixer.as_ref().is_none_or(Matrix::is_finite);
    if !(module.a.is_finite()
        && module.b.is_finite()
        && mixer_is_finite
        && module.scaling.is_finite())
    {
        return Err(MergeError::NotFinite {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    Ok(())
}
