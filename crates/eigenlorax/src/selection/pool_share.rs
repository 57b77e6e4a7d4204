//! The share of a gradient in the directions of several adapters together.

use faer::Mat;
use rayon::prelude::*;
use serde::Serialize;

use super::alignment::{PoolModule, inner_product, inside};
use crate::decomposition::{DecompositionError, ThinSvd, beside};
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;

/// A share of the gradient's energy ‖G‖², and that of as many random directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    pub found: f64,
    /// r_left · r_right / (d_out · d_in), mean over the modules weighted by ‖G‖².
    pub chance: f64,
}

impl Share {
    /// How many times the share of random directions; 0 where these have none.
    pub fn over_chance(&self) -> f64 {
        match self.chance > 0.0 {
            true => self.found / self.chance,
            false => 0.0,
        }
    }
}

/// Σ ‖Uᵀ G V‖² / Σ ‖G‖², U an orthonormal basis of the columns of all updates of a module and V one of
/// their rows: what of the gradient a subspace of these adapters, all components kept, can follow.
///
/// - modules: how many there are
/// - read: gives each of them
///
/// # Errors
/// If a module cannot be read, or a decomposition doesn't converge.
pub fn pool_share<'a, E: From<EigenloraxError> + Send>(
    modules: usize,
    read: impl Fn(usize) -> Result<PoolModule<'a>, E> + Sync,
) -> Result<Share, E> {
    let parts = (0..modules).into_par_iter().map(|module| {
        let module = read(module)?;
        let parts = of_module(&module);
        Ok(parts.map_err(|source| EigenloraxError::Decomposition {
            module: module.path.clone(),
            source,
        })?)
    });
    let parts: Vec<[f64; 3]> = parts.collect::<Result<_, E>>()?;
    let sum = |part: usize| -> f64 { parts.iter().map(|parts| parts[part]).sum() };
    let energy = sum(0);
    if energy <= 0.0 {
        return Ok(Share::default());
    }
    Ok(Share {
        found: (sum(1) / energy).min(1.0),
        chance: sum(2) / energy,
    })
}

/// ‖G‖², the part of it inside, and what that is by chance.
fn of_module(module: &PoolModule) -> Result<[f64; 3], DecompositionError> {
    let gradient = LowRank::of(module.gradient);
    let (d_out, d_in) = (gradient.left.nrows(), gradient.right.nrows());
    let energy = inner_product(&gradient, &gradient);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (_, update) in &module.updates {
        let directions = LowRank::of(update).directions()?;
        left.push(directions.u);
        right.push(directions.v);
    }
    let (left, right) = (span(&left, d_out)?, span(&right, d_in)?);
    let size = (d_out * d_in) as f64;
    let chance = (left.ncols() * right.ncols()) as f64 / size;
    Ok([energy, inside(&left, &gradient, &right), energy * chance])
}

/// Directions that are no more than rounding of those before them.
const RESOLUTION: f64 = 1e-5;

/// An orthonormal basis of the columns of several matrices, each with orthonormal columns of its own.
fn span(parts: &[Mat<f64>], rows: usize) -> Result<Mat<f64>, DecompositionError> {
    let joined = beside(rows, parts.iter().map(Mat::as_ref));
    let ThinSvd { u, s, .. } = ThinSvd::new(joined.as_ref())?;
    let rank = s.iter().take_while(|&&value| value > RESOLUTION).count();
    Ok(u.as_ref().subcols(0, rank).to_owned())
}
