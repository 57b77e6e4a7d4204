//! The factors of one module in the adapters that have it.

use std::borrow::Cow;

use eigenmix_adapter::{AdapterSet, LoraModule, ModuleMembers};
use faer::Mat;

use crate::error::MergeError;
use crate::source::MergeSource;

/// How many rows are transposed at a time: few enough to stay in the cache.
const TILE: usize = 64;

/// One adapter's update of a module, `ΔW = s · B · A`: a mixer is multiplied into B.
pub(crate) type Factors<'a> = Cow<'a, LoraModule>;

/// The factors of the module `path` in the adapters that have it, in their order.
///
/// # Errors
/// If one can't be read, isn't finite, or is more than a low-rank update of the weight.
pub(crate) fn load<'a, S: MergeSource>(
    set: &AdapterSet<'a, S>,
    path: &str,
    members: &ModuleMembers,
) -> Result<Vec<Factors<'a>>, MergeError> {
    set.updates(path, members)
        .map(|update| {
            let (index, module) = update?;
            if module.bias.is_some() {
                return Err(has_bias(&set.adapters()[index], path));
            }
            Ok(LoraModule::without_mixer(module))
        })
        .collect()
}

/// Refuses adapters whose configuration says that B has biases.
pub(crate) fn refuse_biases<S: MergeSource>(adapters: &[S]) -> Result<(), MergeError> {
    for adapter in adapters.iter().filter(|it| it.config().lora_bias()) {
        if let Some((path, _)) = adapter.shapes()?.first() {
            return Err(has_bias(adapter, path));
        }
    }
    Ok(())
}

fn has_bias<S: MergeSource>(adapter: &S, module: &str) -> MergeError {
    MergeError::LoraBias {
        module: module.to_owned(),
        adapter: adapter.location().to_owned(),
    }
}

/// `[s_1B_1 … s_TB_T]`: `[d_out, Σr]`, in f64.
pub(crate) fn stacked_left(tasks: &[Factors<'_>]) -> Mat<f64> {
    let d_out = tasks[0].b.rows();
    let mut stack = Mat::zeros(d_out, tasks.iter().map(|task| task.rank()).sum());
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
