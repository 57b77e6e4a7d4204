//! Where the training of a module starts, as in the trainer.

use std::collections::BTreeMap;

use eigenmix_eigenlorax::Coefficients;
use eigenmix_moslora::{
    EigenloraxStart, MixerInit, Update, eigenlorax, eigenlorax_scaling, eigenmix, eigenmix_scaling,
    lora, moslora,
};
use eigenmix_tensors::Matrix;
use pyo3::prelude::*;

use crate::array::Array;
use crate::raised::{bad_input, or_raised};
use crate::subspace::{FLATTENED, Subspace};

/// The scaling s, and the matrices that are trained, by their names in files.
type Start = (f32, BTreeMap<&'static str, Array>);

fn start_of(update: &Update, is_wanted: impl Fn(&str) -> bool) -> Start {
    let factors = update.factors().into_iter();
    let wanted = factors.filter(|(name, _)| is_wanted(name));
    let start = wanted.map(|(name, factor)| (name, Array::from(factor.matrix.clone())));
    (update.scaling, start.collect())
}

/// LoRA or, with a mixer, MoSLoRA: `left` = B `[d_out, rank]`, `right` = Aᵀ `[d_in, rank]`, `mixer`.
///
/// - mixer: how it is initialised, as in training files
#[pyfunction]
#[pyo3(signature = (module, shape, *, seed, rank, scaling, mixer=None))]
pub(crate) fn factor_start(
    py: Python<'_>,
    module: &str,
    shape: [usize; 2],
    seed: u64,
    rank: usize,
    scaling: f32,
    mixer: Option<&str>,
) -> PyResult<Start> {
    let Some(name) = mixer else {
        let update = lora(module, seed, shape, rank, scaling, 0.0);
        return Ok(start_of(&update, |_| true));
    };
    let init: MixerInit = serde_json::from_value(name.into())
        .map_err(|error| bad_input(py, format!("`mixer`: {error}")))?;
    if init == MixerInit::TwoSubspaces && !rank.is_multiple_of(2) {
        let problem = format!("two-subspace mixing needs an even rank, not {rank}");
        return Err(bad_input(py, problem));
    }
    let update = moslora(module, seed, shape, rank, scaling, 0.0, init);
    Ok(start_of(&update, |_| true))
}

/// eigenmix (`mixer` `[p, q]`) or EigenLoRAx (`left_coefficients` `[p, rank]`, `right_coefficients`
/// `[q, rank]`) on the bases of a module.
///
/// - scaling: that of LoRA, alpha / rank
/// - random: EigenLoRAx as its authors start it
/// - start: M `[p, q]` in units of ΔW, of another training or of adapters, in rows
#[pyfunction]
#[pyo3(signature = (method, subspace, module, *, seed, rank, scaling, random=false, start=None))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn basis_start(
    py: Python<'_>,
    method: &str,
    subspace: &Subspace,
    module: &str,
    seed: u64,
    rank: usize,
    scaling: f32,
    random: bool,
    start: Option<Vec<Vec<f32>>>,
) -> PyResult<Start> {
    let bases = subspace.module(py, module)?;
    if bases.flattened.is_some() {
        return Err(bad_input(py, FLATTENED.to_owned()));
    }
    let (left, right) = (bases.left.vectors(), bases.right.vectors());
    let (d_out, p, q) = (left.rows(), left.cols(), right.cols());
    let start = match start {
        None => None,
        Some(rows) if rows.len() == p && rows.iter().all(|row| row.len() == q) => {
            Some(Matrix::new(p, q, rows.concat()))
        }
        Some(_) => {
            let problem = format!("`{module}`: a start of the shape [{p}, {q}] is expected");
            return Err(bad_input(py, problem));
        }
    };
    let is_coefficient = |name: &str| !["left", "right"].contains(&name);
    match method {
        "eigenmix" => {
            let scaling = eigenmix_scaling(scaling, d_out, rank, p, q);
            let update = eigenmix(left.clone(), right.clone(), scaling, 0.0, start);
            Ok(start_of(&update, is_coefficient))
        }
        "eigenlorax" => {
            let scaling = match random {
                // The authors' start has a size of its own, which a scaling would change.
                true => scaling,
                false => eigenlorax_scaling(scaling, d_out, p),
            };
            let start = match (random, start) {
                (true, _) => EigenloraxStart::Random,
                (false, None) => EigenloraxStart::Zero,
                (false, Some(mixer)) => {
                    let found = Coefficients::of(bases, &bases.fold_mixer(&mixer));
                    let found = or_raised(py, found)?;
                    EigenloraxStart::Coefficients {
                        left: found.left.scaled(1.0 / scaling.sqrt()),
                        right: found.right.scaled(1.0 / scaling.sqrt()),
                    }
                }
            };
            let (left, right) = (left.clone(), right.clone());
            let update = eigenlorax(module, seed, left, right, rank, scaling, 0.0, start);
            Ok(start_of(&update, is_coefficient))
        }
        _ => Err(bad_input(
            py,
            format!("`{method}` is no method on a subspace; expected `eigenmix` or `eigenlorax`"),
        )),
    }
}
