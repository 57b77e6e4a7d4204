//! The initial update of each method.
//!
//! Every random draw depends on the seed and the module's path alone, so that the same experiment
//! has the same initial values on every device, independently of what else it trains.

use eigenmix_tensors::Matrix;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Factor, Mixer, ReplicatedCoefficients, Update, random_stream};

/// How MoSLoRA's mixer W `[rank, rank]` is initialised (arXiv 2406.11909, table 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MixerInit {
    /// Kaiming uniform with a = √5, trained: the paper's choice.
    #[default]
    Kaiming,
    /// A random orthogonal matrix, trained.
    Orthogonal,
    /// The identity, trained.
    Identity,
    /// The fixed two-subspace mixing `[[I, I], [I, I]]` in rank/2 blocks, never trained.
    TwoSubspaces,
}

/// How A `[rank, d_in]` of LoRA and MoSLoRA is initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FactorInit {
    /// Kaiming uniform with a = √5, as PEFT does.
    #[default]
    Kaiming,
    /// Gaussian with the standard deviation 1 / rank, as diffusers' training scripts ask PEFT for.
    Gaussian,
}

impl FactorInit {
    /// Aᵀ `[d_in, rank]` of a module.
    pub fn right(self, module: &str, seed: u64, d_in: usize, rank: usize) -> Matrix {
        let mut random = generator(seed, module, "right");
        match self {
            // Kaiming uniform with a = √5 has the bound √(6 / ((1 + a²) · fan_in)) = 1 / √fan_in.
            Self::Kaiming => uniform(&mut random, d_in, rank, 1.0 / (d_in as f32).sqrt()),
            Self::Gaussian => gaussian(&mut random, d_in, rank).scaled(1.0 / rank as f32),
        }
    }
}

/// How EigenLoRAx's coefficients are initialised.
#[derive(Clone, Debug, PartialEq)]
pub enum EigenloraxStart {
    /// Both uniform in (−0.5, 0.5), as in the authors' code: ΔW ≠ 0 at the first step.
    Random,
    /// C_B = 0 and C_A Gaussian with unit columns in expectation: ΔW = 0 at the first step.
    Zero,
    /// Given coefficients, the strongest columns first. Of more columns than the rank the first are
    /// taken; where there are fewer, or a column of C_A is zero and would never learn, C_A starts
    /// as for [`EigenloraxStart::Zero`].
    Coefficients {
        /// C_B: `[p, columns]`.
        left: Matrix,
        /// C_A: `[q, columns]`.
        right: Matrix,
    },
}

/// LoRA: B = 0, A Kaiming uniform with a = √5, scaling s = alpha / rank.
///
/// The update is `[d_out, d_in]`.
pub fn lora(
    module: &str,
    seed: u64,
    [d_out, d_in]: [usize; 2],
    rank: usize,
    scaling: f32,
    dropout: f64,
) -> Update {
    let a_transposed = FactorInit::Kaiming.right(module, seed, d_in, rank);
    Update {
        left: Factor::trained(Matrix::zeros(d_out, rank)),
        mixer: Mixer::Identity,
        right: Factor::trained(a_transposed),
        scaling,
        dropout,
    }
}

/// MoSLoRA: LoRA with the mixer W `[rank, rank]` between its factors.
///
/// # Panics
/// For [`MixerInit::TwoSubspaces`] if the rank is odd.
pub fn moslora(
    module: &str,
    seed: u64,
    shape: [usize; 2],
    rank: usize,
    scaling: f32,
    dropout: f64,
    init: MixerInit,
) -> Update {
    let mut random = generator(seed, module, "mixer");
    let mixer = match init {
        MixerInit::Kaiming => {
            Factor::trained(uniform(&mut random, rank, rank, 1.0 / (rank as f32).sqrt()))
        }
        MixerInit::Orthogonal => Factor::trained(orthogonal(&mut random, rank)),
        MixerInit::Identity => Factor::trained(Matrix::identity(rank)),
        MixerInit::TwoSubspaces => {
            assert!(
                rank.is_multiple_of(2),
                "two-subspace mixing needs an even rank, not {rank}"
            );
            let half = rank / 2;
            Factor::frozen(Matrix::from_fn(rank, rank, |row, col| {
                f32::from(row % half == col % half)
            }))
        }
    };
    Update {
        mixer: Mixer::Full(mixer),
        ..lora(module, seed, shape, rank, scaling, dropout)
    }
}

/// EigenLoRAx: coefficients C_B, C_A `[K, rank]` on a frozen basis.
///
/// - left: `[d_out, p]`, orthonormal columns
/// - right: `[d_in, q]`, orthonormal columns
#[allow(clippy::too_many_arguments)]
pub fn eigenlorax(
    module: &str,
    seed: u64,
    left: Matrix,
    right: Matrix,
    rank: usize,
    scaling: f32,
    dropout: f64,
    start: EigenloraxStart,
) -> Update {
    let sides = [left.cols(), right.cols()];
    let (left_coefficients, right_coefficients) = coefficients(module, seed, sides, rank, start);
    Update {
        left: Factor::frozen(left),
        mixer: Mixer::Factored {
            left: Factor::trained(left_coefficients),
            right: Factor::trained(right_coefficients),
        },
        right: Factor::frozen(right),
        scaling,
        dropout,
    }
}

/// EigenLoRAx on a flattened subspace: a number for each direction and side.
///
/// - left: `[d_out, p · rank]`, the directions side by side, each of norm 1 as a whole
/// - right: `[d_in, q · rank]`, likewise
/// - start: as for [`eigenlorax`], the coefficients `[p, 1]` and `[q, 1]`
#[allow(clippy::too_many_arguments)]
pub fn flattened_eigenlorax(
    module: &str,
    seed: u64,
    left: Matrix,
    right: Matrix,
    rank: usize,
    scaling: f32,
    dropout: f64,
    start: EigenloraxStart,
) -> Update {
    let sides = [left.cols() / rank, right.cols() / rank];
    let (left_coefficients, right_coefficients) = coefficients(module, seed, sides, 1, start);
    Update {
        left: Factor::frozen(left),
        mixer: Mixer::Replicated(ReplicatedCoefficients {
            left: Factor::trained(left_coefficients),
            right: Factor::trained(right_coefficients),
            rank,
        }),
        right: Factor::frozen(right),
        scaling,
        dropout,
    }
}

/// eigenmix: a full mixer M `[p, q]` on a frozen basis, from `start` (in units of ΔW: the layer
/// starts at U · start · Vᵀ) or from zero.
///
/// - left: `[d_out, p]`, orthonormal columns
/// - right: `[d_in, q]`, orthonormal columns
pub fn eigenmix(
    left: Matrix,
    right: Matrix,
    scaling: f32,
    dropout: f64,
    start: Option<Matrix>,
) -> Update {
    let mixer = match start {
        Some(start) => start.scaled(1.0 / scaling),
        None => Matrix::zeros(left.cols(), right.cols()),
    };
    Update {
        left: Factor::frozen(left),
        mixer: Mixer::Full(Factor::trained(mixer)),
        right: Factor::frozen(right),
        scaling,
        dropout,
    }
}

/// C_B `[p, rank]` and C_A `[q, rank]` at the start.
fn coefficients(
    module: &str,
    seed: u64,
    [p, q]: [usize; 2],
    rank: usize,
    start: EigenloraxStart,
) -> (Matrix, Matrix) {
    match start {
        EigenloraxStart::Random => (
            uniform(
                &mut generator(seed, module, "left_coefficients"),
                p,
                rank,
                0.5,
            ),
            uniform(
                &mut generator(seed, module, "right_coefficients"),
                q,
                rank,
                0.5,
            ),
        ),
        EigenloraxStart::Zero => (Matrix::zeros(p, rank), unit_columns(seed, module, q, rank)),
        EigenloraxStart::Coefficients { left, right } => {
            let fresh = unit_columns(seed, module, q, rank);
            let is_given =
                |col: usize| col < right.cols() && (0..q).any(|row| right.get(row, col) != 0.0);
            let given: Vec<bool> = (0..rank).map(is_given).collect();
            let left = Matrix::from_fn(p, rank, |row, col| match given[col] {
                true => left.get(row, col),
                false => 0.0,
            });
            let right = Matrix::from_fn(q, rank, |row, col| match given[col] {
                true => right.get(row, col),
                false => fresh.get(row, col),
            });
            (left, right)
        }
    }
}

/// The scaling with which a step of M moves ΔW as far as a step of LoRA's factors does.
///
/// An Adam step changes every trained value by the learning rate η. LoRA's first step moves
/// B `[d_out, r]` from zero; the rows of A have the expected norm √(1/3), so that
/// ‖ΔW‖ = s · η · √(d_out · r / 3). eigenmix moves M `[p, q]` between orthonormal bases:
/// ‖ΔW‖ = s' · η · √(p · q). Equal steps need s' = s · √(d_out · r / (3 · p · q)).
pub fn eigenmix_scaling(lora_scaling: f32, d_out: usize, rank: usize, p: usize, q: usize) -> f32 {
    lora_scaling * ((d_out * rank) as f32 / (3 * p * q) as f32).sqrt()
}

/// The scaling with which a step of C_B moves ΔW as far as a step of LoRA's B does.
///
/// As for [`eigenmix_scaling`]: C_B `[p, r]` moves from zero against unit columns of C_A, so that
/// ‖ΔW‖ = s' · η · √(p · r), and equal steps need s' = s · √(d_out / (3 · p)).
pub fn eigenlorax_scaling(lora_scaling: f32, d_out: usize, p: usize) -> f32 {
    lora_scaling * (d_out as f32 / (3 * p) as f32).sqrt()
}

/// The scaling with which a step of b on a flattened subspace moves ΔW as far as a step of LoRA's B does.
///
/// b `[p, 1]` moves from zero: B changes by η · √p in norm, against an A of norm 1 whose r rows share it, so
/// that ‖ΔW‖ = s' · η · √(p / r), and equal steps need s' = s · r · √(d_out / (3 · p)).
pub fn flattened_scaling(lora_scaling: f32, d_out: usize, rank: usize, p: usize) -> f32 {
    lora_scaling * rank as f32 * (d_out as f32 / (3 * p) as f32).sqrt()
}

/// Gaussian columns of norm one in expectation: `[q, rank]`.
fn unit_columns(seed: u64, module: &str, q: usize, rank: usize) -> Matrix {
    let mut random = generator(seed, module, "right_coefficients");
    gaussian(&mut random, q, rank).scaled(1.0 / (q as f32).sqrt())
}

/// For one factor of a module.
fn generator(seed: u64, module: &str, factor: &str) -> ChaCha8Rng {
    random_stream(seed, &[module, factor])
}

fn uniform(random: &mut ChaCha8Rng, rows: usize, cols: usize, bound: f32) -> Matrix {
    Matrix::from_fn(rows, cols, |_, _| random.random_range(-bound..bound))
}

fn gaussian(random: &mut ChaCha8Rng, rows: usize, cols: usize) -> Matrix {
    Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(random))
}

/// A random orthogonal matrix: Gram–Schmidt, twice for accuracy, on Gaussian rows.
fn orthogonal(random: &mut ChaCha8Rng, size: usize) -> Matrix {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
    for _ in 0..size {
        let mut row: Vec<f64> = (0..size).map(|_| StandardNormal.sample(random)).collect();
        for earlier in rows.iter().chain(&rows) {
            let overlap: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
            row.iter_mut()
                .zip(earlier)
                .for_each(|(value, other)| *value -= overlap * other);
        }
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
        rows.push(row);
    }
    Matrix::from_fn(size, size, |row, col| rows[row][col] as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orthogonal_mixer_times_its_transpose_is_the_identity() {
        let mixer = orthogonal(&mut generator(3, "layer", "mixer"), 7);
        let gram = mixer.product(&mixer.transposed());
        for row in 0..7 {
            for col in 0..7 {
                assert!((gram.get(row, col) - f32::from(row == col)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn two_subspaces_repeat_the_identity_in_four_blocks_and_are_not_trained() {
        let update = moslora("m", 0, [6, 5], 4, 2.0, 0.0, MixerInit::TwoSubspaces);
        let Mixer::Full(mixer) = &update.mixer else {
            panic!("a full mixer")
        };
        assert!(!mixer.trained);
        let expected = [
            1.0, 0.0, 1.0, 0.0, //
            0.0, 1.0, 0.0, 1.0, //
            1.0, 0.0, 1.0, 0.0, //
            0.0, 1.0, 0.0, 1.0,
        ];
        assert_eq!(mixer.matrix.values(), expected);
        assert_eq!(update.trained_parameters(), 4 * (6 + 5));
    }

    #[test]
    fn draws_depend_on_module_and_seed_alone() {
        let start = |module, seed| lora(module, seed, [6, 5], 2, 1.0, 0.0).right.matrix;
        assert_eq!(start("a", 1), start("a", 1));
        assert_ne!(start("a", 1), start("b", 1));
        assert_ne!(start("a", 1), start("a", 2));
        assert!(
            start("a", 1)
                .values()
                .iter()
                .all(|value| value.abs() <= 1.0 / 5f32.sqrt())
        );
    }

    #[test]
    fn a_gaussian_factor_has_the_standard_deviation_of_one_over_the_rank() {
        let (d_in, rank) = (3000, 5);
        let factor = FactorInit::Gaussian.right("m", 1, d_in, rank);
        let square = factor.values().iter().map(|value| value.powi(2));
        let deviation = (square.sum::<f32>() / (d_in * rank) as f32).sqrt();
        // Of 15 000 numbers the deviation is known to 1 / √30 000 = 0.6 %.
        assert!((deviation * rank as f32 - 1.0).abs() < 0.03, "{deviation}");
        assert!(
            factor
                .values()
                .iter()
                .any(|value| *value > 2.5 / rank as f32)
        );
    }

    #[test]
    fn the_first_step_of_eigenmix_moves_the_update_as_far_as_that_of_lora() {
        let (d_out, d_in, rank, p, q, lora_scaling, step) = (48, 40, 4, 6, 10, 2.0, 0.01);
        let mut lora = lora("m", 5, [d_out, d_in], rank, lora_scaling, 0.0);
        lora.left.matrix = Matrix::from_fn(d_out, rank, |_, _| step);
        let orthonormal = |size, count| {
            let square = orthogonal(&mut generator(1, "basis", "left"), size);
            Matrix::from_fn(size, count, |row, col| square.get(row, col))
        };
        let scaling = eigenmix_scaling(lora_scaling, d_out, rank, p, q);
        let mut eigenmix = eigenmix(
            orthonormal(d_out, p),
            orthonormal(d_in, q),
            scaling,
            0.0,
            None,
        );
        eigenmix.mixer = Mixer::Full(Factor::trained(Matrix::from_fn(p, q, |_, _| step)));
        // Every column of B equal sums the rows of A, whose norms then add like random vectors.
        let ratio = eigenmix.fold().update().norm() / lora.fold().update().norm();
        assert!((0.75..1.33).contains(&ratio), "{ratio}");
    }
}
