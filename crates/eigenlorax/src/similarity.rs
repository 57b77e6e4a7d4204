//! What the adapters of a set have in common, pair by pair.

use eigenmix_adapter::{AdapterSet, AdapterSource, ModuleMembers};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::decomposition::{ThinSvd, product};
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;

/// Similarities of every pair of T adapters, each `[T][T]` and symmetric. `None` if a pair has no
/// module in common in which both change something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// ⟨ΔW_i, ΔW_j⟩ / (‖ΔW_i‖·‖ΔW_j‖) over all modules together, a missing one being 0.
    pub cosine: Pairs,
    /// ‖U_iᵀ·U_j‖² / min(r_i, r_j), mean over the modules: the share of the smaller left subspace
    /// that lies in the larger one, U orthonormal bases of the columns of ΔW.
    pub left_overlap: Pairs,
    /// The same of the rows of ΔW. Adapters whose A was drawn from one seed share much of it by
    /// accident.
    pub right_overlap: Pairs,
}

/// One value per pair.
pub type Pairs = Vec<Vec<Option<f64>>>;

/// Compares `adapters` pair by pair, through their factors alone:
/// `⟨ΔW_i, ΔW_j⟩ = Σ (L_iᵀ·L_j) ∘ (R_iᵀ·R_j)` of `ΔW = L·Rᵀ`.
///
/// # Errors
/// If there are no modules, two adapters disagree on the shape of one, or a module can't be read,
/// isn't finite or has a DoRA magnitude.
pub fn similarity<S: AdapterSource>(adapters: &[S]) -> Result<Similarity, EigenloraxError> {
    // Adapters of different base models can be compared, to see whether they are different.
    let set = AdapterSet::of_any_bases(adapters)?;
    let modules: Vec<ModulePairs> = set
        .modules()
        .par_iter()
        .map(|(path, members)| ModulePairs::of(&set, path, members))
        .collect::<Result<_, EigenloraxError>>()?;
    let count = adapters.len();
    let mut inner = vec![vec![0.0; count]; count];
    let mut left = vec![vec![Mean::default(); count]; count];
    let mut right = left.clone();
    for module in &modules {
        for pair in &module.pairs {
            let [first, second] = pair.adapters;
            inner[first][second] += pair.inner;
            if let Some([of_left, of_right]) = pair.overlaps {
                left[first][second].add(of_left);
                right[first][second].add(of_right);
            }
        }
    }
    let norm = |index: usize| -> f64 { inner[index][index].sqrt() };
    Ok(Similarity {
        cosine: symmetric(count, |first, second| {
            let norms = norm(first) * norm(second);
            // Rounding may lead slightly beyond 1.
            (norms > 0.0).then(|| (inner[first][second] / norms).clamp(-1.0, 1.0))
        }),
        left_overlap: symmetric(count, |first, second| left[first][second].value()),
        right_overlap: symmetric(count, |first, second| right[first][second].value()),
    })
}

/// The singular directions of one module in the adapters that have it, by their places.
pub(crate) fn directions<S: AdapterSource>(
    set: &AdapterSet<'_, S>,
    path: &str,
    members: &ModuleMembers,
) -> Result<Vec<(usize, ThinSvd)>, EigenloraxError> {
    set.updates(path, members)
        .map(|update| {
            let (index, module) = update?;
            let directions = LowRank::of(&module).directions();
            let directions = directions.map_err(|source| EigenloraxError::Decomposition {
                module: path.to_owned(),
                source,
            })?;
            Ok((index, directions))
        })
        .collect()
}

/// The values of one module for the pairs that have it, `adapters` in ascending order.
struct ModulePairs {
    pairs: Vec<Pair>,
}

struct Pair {
    adapters: [usize; 2],
    inner: f64,
    /// Left and right; `None` if an update is zero.
    overlaps: Option<[f64; 2]>,
}

impl ModulePairs {
    fn of<S: AdapterSource>(
        set: &AdapterSet<'_, S>,
        path: &str,
        members: &ModuleMembers,
    ) -> Result<Self, EigenloraxError> {
        let directions = directions(set, path, members)?;
        let mut pairs = Vec::new();
        for (place, (first, one)) in directions.iter().enumerate() {
            for (second, other) in &directions[place..] {
                let left = product(one.u.transpose(), other.u.as_ref());
                let right = product(one.v.transpose(), other.v.as_ref());
                let mut inner = 0.0;
                for (row, strength) in one.s.iter().enumerate() {
                    for (column, other_strength) in other.s.iter().enumerate() {
                        let cosines = left[(row, column)] * right[(row, column)];
                        inner += strength * other_strength * cosines;
                    }
                }
                let smaller = one.s.len().min(other.s.len()) as f64;
                let overlaps = [&left, &right].map(|side| side.norm_l2().powi(2) / smaller);
                pairs.push(Pair {
                    adapters: [*first, *second],
                    inner,
                    overlaps: (smaller > 0.0).then(|| overlaps.map(|share| share.min(1.0))),
                });
            }
        }
        Ok(Self { pairs })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Both triangles from the values of (i, j) with i ≤ j.
fn symmetric(count: usize, value: impl Fn(usize, usize) -> Option<f64>) -> Pairs {
    let row = |first: usize| -> Vec<Option<f64>> {
        let columns = 0..count;
        columns
            .map(|second| value(first.min(second), first.max(second)))
            .collect()
    };
    (0..count).map(row).collect()
}
