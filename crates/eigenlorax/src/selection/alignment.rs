//! How adapters lie to the gradient of a task, and to each other.

use std::borrow::Cow;

use eigenmix_adapter::LoraModule;
use faer::Mat;
use rayon::prelude::*;

use super::pool_share::Share;
use crate::decomposition::{DecompositionError, product};
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;

/// One module of a pool of adapters, and the gradient of the task there.
pub struct PoolModule<'a> {
    /// The module's path in the base model.
    pub path: String,
    /// −G in its leading directions.
    pub gradient: &'a LoraModule,
    /// The updates of the adapters that have the module, by the index of the adapter, ascending.
    pub updates: Vec<(usize, Cow<'a, LoraModule>)>,
}

/// How one adapter lies to the gradient of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Alignment {
    /// Σ ‖U_tᵀ G V_t‖² / Σ ‖G‖², sums over the modules of the gradient, U_t and V_t orthonormal bases of
    /// the columns and the rows of ΔW_t: the share of the gradient in the directions of the adapter.
    pub share: Share,
    /// ⟨−G, ΔW_t⟩ / (‖G‖ ‖ΔW_t‖) over all modules together: 1 for a step of steepest descent; positive if
    /// the adapter, made small, lowers the loss.
    pub cosine: f64,
    /// The standard deviation of the cosine of random updates with the same norms.
    pub cosine_chance: f64,
    /// ‖ΔW_t‖ over the modules of the gradient.
    pub norm: f64,
}

/// The alignments of T adapters, and their cosines with each other.
#[derive(Clone, Debug)]
pub struct PoolAlignment {
    /// `[T]`.
    pub adapters: Vec<Alignment>,
    /// ⟨ΔW_s, ΔW_t⟩ / (‖ΔW_s‖ ‖ΔW_t‖): `[T][T]`; 0 where an update is 0.
    pub cosines: Vec<Vec<f64>>,
}

impl PoolAlignment {
    /// Compares `count` adapters with the gradient and with each other; the modules are read one by one.
    ///
    /// - modules: how many modules there are
    /// - read: gives each of them
    ///
    /// # Errors
    /// If a module cannot be read, or a decomposition doesn't converge, which finite values don't lead to.
    pub fn new<'a, E: From<EigenloraxError> + Send>(
        count: usize,
        modules: usize,
        read: impl Fn(usize) -> Result<PoolModule<'a>, E> + Sync,
    ) -> Result<Self, E> {
        let moments = (0..modules).into_par_iter().map(|module| {
            let module = read(module)?;
            let moments = ModuleMoments::of(&module);
            Ok(moments.map_err(|source| EigenloraxError::Decomposition {
                module: module.path.clone(),
                source,
            })?)
        });
        let moments: Vec<ModuleMoments> = moments.collect::<Result<_, E>>()?;
        let energy: f64 = moments.iter().map(|module| module.energy).sum();
        let mut inner = vec![vec![0.0; count]; count];
        let mut sums = vec![Sums::default(); count];
        for module in &moments {
            for (place, adapter) in module.adapters.iter().enumerate() {
                for (other, value) in module.adapters.iter().zip(&module.inner[place]) {
                    inner[adapter.index][other.index] += value;
                }
                let own = module.inner[place][place];
                let sums = &mut sums[adapter.index];
                sums.inside += adapter.inside;
                sums.by_chance += adapter.by_chance;
                sums.with_gradient += adapter.with_gradient;
                sums.variance += module.energy * own / module.size;
            }
        }
        let norm = |index: usize| -> f64 { inner[index][index].max(0.0).sqrt() };
        let of_energy = |sum: f64| if energy > 0.0 { sum / energy } else { 0.0 };
        let adapters = sums.iter().enumerate().map(|(index, sums)| {
            let norms = norm(index) * energy.sqrt();
            let of_norms = |sum: f64| if norms > 0.0 { sum / norms } else { 0.0 };
            Alignment {
                share: Share {
                    found: of_energy(sums.inside).min(1.0),
                    chance: of_energy(sums.by_chance),
                },
                cosine: of_norms(sums.with_gradient).clamp(-1.0, 1.0),
                cosine_chance: of_norms(sums.variance.sqrt()),
                norm: norm(index),
            }
        });
        let cosine = |first: usize, second: usize| {
            let norms = norm(first) * norm(second);
            match norms > 0.0 {
                true => (inner[first][second] / norms).clamp(-1.0, 1.0),
                false => 0.0,
            }
        };
        let row = |first| (0..count).map(|second| cosine(first, second)).collect();
        Ok(Self {
            adapters: adapters.collect(),
            cosines: (0..count).map(row).collect(),
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Sums {
    inside: f64,
    by_chance: f64,
    with_gradient: f64,
    variance: f64,
}

/// The products of one module.
struct ModuleMoments {
    /// ‖G‖².
    energy: f64,
    /// d_out · d_in.
    size: f64,
    adapters: Vec<AdapterMoments>,
    /// ⟨ΔW_s, ΔW_t⟩ of the adapters that have the module.
    inner: Vec<Vec<f64>>,
}

struct AdapterMoments {
    index: usize,
    /// ‖U_tᵀ G V_t‖².
    inside: f64,
    /// What that is for random directions, on average.
    by_chance: f64,
    /// ⟨−G, ΔW_t⟩.
    with_gradient: f64,
}

impl ModuleMoments {
    fn of(module: &PoolModule) -> Result<Self, DecompositionError> {
        let gradient = LowRank::of(module.gradient);
        let energy = inner_product(&gradient, &gradient);
        let size = (gradient.left.nrows() * gradient.right.nrows()) as f64;
        let updates = module.updates.iter();
        let factors: Vec<LowRank> = updates.map(|(_, update)| LowRank::of(update)).collect();
        let mut adapters = Vec::new();
        for ((index, _), factors) in module.updates.iter().zip(&factors) {
            let directions = factors.directions()?;
            let rank = directions.s.len() as f64;
            adapters.push(AdapterMoments {
                index: *index,
                inside: inside(&directions.u, &gradient, &directions.v),
                by_chance: energy * rank * rank / size,
                with_gradient: inner_product(factors, &gradient),
            });
        }
        let mut inner = vec![vec![0.0; factors.len()]; factors.len()];
        for (first, one) in factors.iter().enumerate() {
            for (second, other) in factors.iter().enumerate().skip(first) {
                let value = inner_product(one, other);
                (inner[first][second], inner[second][first]) = (value, value);
            }
        }
        Ok(Self {
            energy,
            size,
            adapters,
            inner,
        })
    }
}

/// ⟨L_1 · R_1ᵀ, L_2 · R_2ᵀ⟩ = Σ (L_1ᵀ · L_2) ∘ (R_1ᵀ · R_2).
pub(super) fn inner_product(one: &LowRank, other: &LowRank) -> f64 {
    let left = product(one.left.transpose(), other.left.as_ref());
    let right = product(one.right.transpose(), other.right.as_ref());
    let mut sum = 0.0;
    for row in 0..left.nrows() {
        for column in 0..left.ncols() {
            sum += left[(row, column)] * right[(row, column)];
        }
    }
    sum
}

/// ‖Uᵀ · L · Rᵀ · V‖².
pub(super) fn inside(left: &Mat<f64>, update: &LowRank, right: &Mat<f64>) -> f64 {
    let on_left = product(left.transpose(), update.left.as_ref());
    let on_right = product(right.transpose(), update.right.as_ref());
    let core = product(on_left.as_ref(), on_right.transpose());
    core.norm_l2().powi(2)
}
