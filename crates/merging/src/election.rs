//! TIES: trim, elect a sign, average what agrees with it (arXiv 2306.01708).

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use eigenmix_tensors::Matrix;
use rayon::prelude::*;

use crate::entries::{Block, Entries, TaskEntries};
use crate::error::MergeError;
use crate::magnitude::{LowerDigits, UpperDigits};

/// The values over all entries that are needed before the first one can be merged.
///
/// Of an adapter's d entries, those are kept whose magnitude is at least the (d − ⌊d·density⌋)-th
/// smallest: one more than ⌊d·density⌋, and all that equal the last one. The elected sign of an
/// entry is that of the sum of what is kept. Where this is zero it is the majority sign: that of
/// the sum of all elected signs, and negative if that is zero too, as in the authors' code.
pub(crate) struct Election {
    /// The smallest magnitude kept, of each of all adapters.
    thresholds: Vec<f32>,
    zero_is_positive: bool,
}

/// Up to this many entries, keeping them all costs less than the tables for counting their digits.
const SHORT: usize = 1 << 16;

/// Calls its argument for every module, on any threads.
pub(crate) type EachModule<'a> =
    &'a dyn Fn(&(dyn Fn(&Entries<'_>) + Sync)) -> Result<(), MergeError>;

/// How many passes over all modules an election over the whole model makes.
pub(crate) const MODEL_PASSES: usize = 3;

impl Election {
    /// The election within one module; `adapters` is the number of all adapters.
    pub(crate) fn of_layer(entries: &Entries<'_>, adapters: usize, density: f64) -> Self {
        let found: Vec<(usize, f32)> = entries
            .tasks
            .par_iter()
            .map(|task| (task.adapter, layer_threshold(entries, task, density)))
            .collect();
        let mut thresholds = vec![0.0; adapters];
        for (adapter, threshold) in found {
            thresholds[adapter] = threshold;
        }
        let zero_is_positive = sign_balance(entries, &thresholds) > 0;
        Self {
            thresholds,
            zero_is_positive,
        }
    }

    /// The election over all modules, none of which is kept in memory: one pass for either half of
    /// the digits of the thresholds, one for the majority sign.
    ///
    /// # Errors
    /// Those of `each_module`.
    pub(crate) fn of_model(
        each_module: EachModule<'_>,
        adapters: usize,
        density: f64,
    ) -> Result<Self, MergeError> {
        let upper = counters(adapters, |_| UpperDigits::new());
        each_module(&|entries| {
            let mut digits = UpperDigits::new();
            for task in &entries.tasks {
                digits.clear();
                entries.for_each_block(task, |block| digits.count(block));
                locked(&upper[task.adapter]).add(&digits);
            }
        })?;
        let brackets: Vec<_> = upper
            .iter()
            .map(|digits| {
                let digits = locked(digits);
                digits.bracket(threshold_order(digits.total(), density)?)
            })
            .collect();

        let lower = counters(adapters, |adapter| brackets[adapter].map(LowerDigits::new));
        each_module(&|entries| {
            for task in &entries.tasks {
                if let Some(bracket) = brackets[task.adapter] {
                    let mut digits = LowerDigits::new(bracket);
                    entries.for_each_block(task, |block| digits.count(block));
                    let mut total = locked(&lower[task.adapter]);
                    total.iter_mut().for_each(|total| total.add(&digits));
                }
            }
        })?;
        let thresholds: Vec<f32> = lower
            .iter()
            .map(|digits| locked(digits).as_ref().and_then(LowerDigits::magnitude))
            .map(Option::unwrap_or_default)
            .collect();

        let balance = AtomicI64::new(0);
        each_module(&|entries| {
            balance.fetch_add(sign_balance(entries, &thresholds), Ordering::Relaxed);
        })?;
        Ok(Self {
            zero_is_positive: balance.into_inner() > 0,
            thresholds,
        })
    }

    /// 1 or −1 for a sum of kept entries.
    fn elected_sign(&self, sum: f64) -> f32 {
        if sum > 0.0 || (sum == 0.0 && self.zero_is_positive) {
            1.0
        } else {
            -1.0
        }
    }

    /// The mean of the kept entries that agree with the elected sign, entry by entry; zero if none
    /// does.
    pub(crate) fn merge(&self, entries: &Entries<'_>) -> Matrix {
        entries.merged(|block, target| {
            sum_kept(entries, block, &self.thresholds);
            block.signs.clear();
            let signs = block.sums.iter().map(|&sum| self.elected_sign(sum));
            block.signs.extend(signs);
            block.counts.clear();
            block.counts.resize(target.len(), 0.0);
            // Branchless in f32 throughout, so that the compiler vectorises it.
            for task in &block.tasks {
                let votes = target.iter_mut().zip(&mut block.counts);
                for (((total, count), value), sign) in votes.zip(task).zip(&block.signs) {
                    let aligned = (value * sign).max(0.0);
                    *total += aligned;
                    *count += if aligned > 0.0 { 1.0 } else { 0.0 };
                }
            }
            for ((total, count), sign) in target.iter_mut().zip(&block.counts).zip(&block.signs) {
                *total *= sign / count.max(1.0);
            }
        })
    }
}

/// The order, counted from 1, of the smallest magnitude that is kept of `total`; `None` if all are.
fn threshold_order(total: u64, density: f64) -> Option<u64> {
    let kept = (total as f64 * density) as u64;
    (kept < total).then_some(total - kept)
}

/// The smallest magnitude that is kept of one adapter in one module.
pub(crate) fn layer_threshold(entries: &Entries<'_>, task: &TaskEntries<'_>, density: f64) -> f32 {
    let [rows, cols] = entries.shape;
    let find = || {
        let order = threshold_order((rows * cols) as u64, density)?;
        if rows * cols <= SHORT {
            let mut magnitudes = Vec::with_capacity(rows * cols);
            entries.for_each_block(task, |block| {
                magnitudes.extend(block.iter().map(|value| value.abs()));
            });
            let index = order as usize - 1;
            return Some(*magnitudes.select_nth_unstable_by(index, f32::total_cmp).1);
        }
        let mut upper = UpperDigits::new();
        entries.for_each_block(task, |block| upper.count(block));
        let mut lower = LowerDigits::new(upper.bracket(order)?);
        entries.for_each_block(task, |block| lower.count(block));
        lower.magnitude()
    };
    find().unwrap_or_default()
}

/// How many more positive signs than negative ones are elected.
fn sign_balance(entries: &Entries<'_>, thresholds: &[f32]) -> i64 {
    entries
        .par_blocks(|block| {
            sum_kept(entries, block, thresholds);
            let signs = block.sums.iter();
            signs
                .map(|&sum| i64::from(sum > 0.0) - i64::from(sum < 0.0))
                .sum::<i64>()
        })
        .sum()
}

/// Zeroes entries below the thresholds, and sums the rest, entry by entry.
///
/// In f64 the sum of f32 values hardly rounds, so a sign doesn't depend on the order of adapters.
fn sum_kept(entries: &Entries<'_>, block: &mut Block, thresholds: &[f32]) {
    block.sums.clear();
    block.sums.resize(block.tasks[0].len(), 0.0);
    for (task, values) in entries.tasks.iter().zip(&mut block.tasks) {
        let threshold = thresholds[task.adapter];
        for (sum, value) in block.sums.iter_mut().zip(values) {
            *value = if value.abs() >= threshold {
                *value
            } else {
                0.0
            };
            *sum += f64::from(*value);
        }
    }
}

fn counters<T>(count: usize, new: impl Fn(usize) -> T) -> Vec<Mutex<T>> {
    (0..count).map(|index| Mutex::new(new(index))).collect()
}

/// Counters stay usable whatever a panicking thread did: the panic itself is passed on by rayon.
fn locked<T>(counter: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    counter
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
