//! How much of one adapter the directions of another hold, beside what random ones would.

use eigenmix_adapter::{AdapterSet, AdapterSource};
use rayon::prelude::*;

use crate::decomposition::{ThinSvd, product};
use crate::error::EigenloraxError;
use crate::similarity::directions;

/// Of every pair of T adapters, each `[T][T]` and symmetric: the mean of both ways.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedEnergy {
    /// `Σ ‖U_jᵀ·ΔW_i·V_j‖² / Σ ‖ΔW_i‖²` over all modules, a missing one being 0: the share of ‖ΔW_i‖² in the
    /// directions of adapter j on both sides. Strong directions count more than weak ones; and an A
    /// of the same seed alone shares nothing, because B differs.
    pub share: Vec<Vec<f64>>,
    /// The same of random directions, as many: `(r_j / d_out) · (r_j / d_in)`, in the mean of the modules by
    /// ‖ΔW_i‖².
    pub chance: Vec<Vec<f64>>,
}

impl SharedEnergy {
    /// Compares `adapters` pair by pair, through their factors alone.
    ///
    /// # Errors
    /// If adapters name different base models, unless `allow_base_mismatch` is set, there are no modules, two adapters disagree on the shape of one, or a module can't be read,
    /// isn't finite or has a DoRA magnitude.
    pub fn of<S: AdapterSource>(
        adapters: &[S],
        allow_base_mismatch: bool,
    ) -> Result<Self, EigenloraxError> {
        let set = AdapterSet::new(adapters, allow_base_mismatch)?;
        let count = adapters.len();
        let modules: Vec<ModuleEnergies> = set
            .modules()
            .par_iter()
            .map(|(path, members)| {
                let directions = directions(&set, path, members)?;
                Ok(ModuleEnergies::of(&directions, members.shape, count))
            })
            .collect::<Result<_, EigenloraxError>>()?;
        let total = |energies: fn(&ModuleEnergies) -> &Vec<Vec<f64>>, row: usize, column: usize| {
            let values = modules.iter().map(|module| energies(module)[row][column]);
            values.sum::<f64>()
        };
        let mean = |energies: fn(&ModuleEnergies) -> &Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            let one_way = |row: usize, column: usize| {
                let whole = total(|module| &module.held, row, row);
                match whole > 0.0 {
                    true => total(energies, row, column) / whole,
                    false => 0.0,
                }
            };
            let row = |row: usize| {
                let columns = 0..count;
                let both = |column| f64::midpoint(one_way(row, column), one_way(column, row));
                columns.map(both).collect()
            };
            (0..count).map(row).collect()
        };
        Ok(Self {
            share: mean(|module| &module.held),
            chance: mean(|module| &module.chance),
        })
    }
}

/// Of one module, `[T][T]`; the energy of adapter i itself is on the diagonal of `held`.
struct ModuleEnergies {
    held: Vec<Vec<f64>>,
    chance: Vec<Vec<f64>>,
}

impl ModuleEnergies {
    fn of(directions: &[(usize, ThinSvd)], [d_out, d_in]: [usize; 2], count: usize) -> Self {
        let mut held = vec![vec![0.0; count]; count];
        let mut chance = held.clone();
        for (first, one) in directions {
            let energy: f64 = one.s.iter().map(|strength| strength.powi(2)).sum();
            for (second, other) in directions {
                let left = product(other.u.transpose(), one.u.as_ref());
                let right = product(other.v.transpose(), one.v.as_ref());
                let scaled = faer::Mat::from_fn(left.nrows(), left.ncols(), |row, column| {
                    left[(row, column)] * one.s[column]
                });
                let seen = product(scaled.as_ref(), right.transpose());
                held[*first][*second] = seen.squared_norm_l2();
                let rank = other.s.len() as f64;
                chance[*first][*second] = energy * (rank / d_out as f64) * (rank / d_in as f64);
            }
        }
        Self { held, chance }
    }
}
