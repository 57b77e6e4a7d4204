//! How well a linear head on given features does on examples that it was not fitted on.

use eigenmix_data::EncodedTargets;
use eigenmix_eigenlorax::decomposition::{ThinQr, product};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Into how many parts the examples are divided; a head is fitted on all but one and measured on that.
const FOLDS: usize = 4;

/// The penalty λ/2 · ‖W‖² on features that are scaled to a mean square length of 1.
const PENALTY: f64 = 1e-3;

/// The bias has next to no penalty, so that the equations have one solution.
const PENALTY_OF_BIAS: f64 = 1e-6;

/// Steps of the fit: twice as many change no loss by a thousandth.
const STEPS: usize = 60;

/// The logits of every example from a head that was fitted without it: `[examples, outputs]`.
///
/// The head is regularised regression: of the cross-entropy for classes, of the binary one for labels, of
/// the squared error for values. Features are centred and brought to one size, as what is asked of an
/// adapter is how it arranges the examples and not how far it moves them.
///
/// - features: `[examples, width]`
/// - seed: draws the parts; the same for features that are compared
pub(super) fn held_out_logits(
    features: &[f32],
    targets: &EncodedTargets,
    outputs: usize,
    seed: u64,
) -> Vec<f32> {
    let count = examples(targets);
    let features = prepared(features, count);
    let wanted = wanted(targets, outputs);
    let fold_of = folds(targets, seed);
    let fits: Vec<(Vec<usize>, Mat<f64>)> = (0..FOLDS)
        .into_par_iter()
        .map(|fold| {
            let (held, kept): (Vec<usize>, Vec<usize>) =
                (0..count).partition(|&example| fold_of[example] == fold);
            let weights = fit(&rows(&features, &kept), &rows(&wanted, &kept), targets);
            let logits = product(rows(&features, &held).as_ref(), weights.as_ref());
            (held, logits)
        })
        .collect();
    let mut all = vec![0.0; count * outputs];
    for (held, logits) in fits {
        for (row, example) in held.into_iter().enumerate() {
            for output in 0..outputs {
                all[example * outputs + output] = logits[(row, output)] as f32;
            }
        }
    }
    all
}

pub(super) fn examples(targets: &EncodedTargets) -> usize {
    match targets {
        EncodedTargets::Classes(classes) => classes.len(),
        EncodedTargets::Labels { outputs, .. } => outputs.len(),
        EncodedTargets::Values(values) => values.len(),
    }
}

/// Centred features of a mean square length of 1, turned into as few columns as there are examples, and a
/// column of ones: `[examples, min(width, examples) + 1]`.
fn prepared(features: &[f32], count: usize) -> Mat<f64> {
    let width = features.len() / count.max(1);
    let mut centred = Mat::from_fn(width, count, |column, example| {
        f64::from(features[example * width + column])
    });
    for column in 0..width {
        let mean = (0..count).map(|example| centred[(column, example)]);
        let mean = mean.sum::<f64>() / count as f64;
        (0..count).for_each(|example| centred[(column, example)] -= mean);
    }
    let size = centred.norm_l2() / (count as f64).sqrt();
    let scale = if size > 0.0 { 1.0 / size } else { 0.0 };
    // Xᵀ = Q · R, and a penalty on ‖W‖² does not see the rotation Q.
    let turned = match width > count {
        true => ThinQr::new(centred).r(),
        false => centred,
    };
    let columns = turned.nrows();
    Mat::from_fn(count, columns + 1, |example, column| {
        match column < columns {
            true => turned[(column, example)] * scale,
            false => 1.0,
        }
    })
}

/// What the outputs should be: `[examples, outputs]`.
fn wanted(targets: &EncodedTargets, outputs: usize) -> Mat<f64> {
    let one = |is: bool| f64::from(u8::from(is));
    Mat::from_fn(
        examples(targets),
        outputs,
        |example, output| match targets {
            EncodedTargets::Classes(classes) => one(classes[example] == output),
            EncodedTargets::Labels { outputs, .. } => one(outputs[example].contains(&output)),
            EncodedTargets::Values(values) => values[example],
        },
    )
}

/// The part of each example; the examples of a class are spread evenly.
fn folds(targets: &EncodedTargets, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples(targets)).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    if let EncodedTargets::Classes(classes) = targets {
        order.sort_by_key(|&example| classes[example]);
    }
    let mut folds = vec![0; order.len()];
    for (place, example) in order.into_iter().enumerate() {
        folds[example] = place % FOLDS;
    }
    folds
}

fn rows(matrix: &Mat<f64>, chosen: &[usize]) -> Mat<f64> {
    Mat::from_fn(chosen.len(), matrix.ncols(), |row, column| {
        matrix[(chosen[row], column)]
    })
}

/// W: `[columns, outputs]`, which makes the mean loss plus the penalty smallest.
///
/// The Hessian of the loss by the logits is at most c · I (½ for classes by Böhning's bound, ¼ for labels,
/// 2 for squares), so that H = c · Xᵀ X / n + λ bounds that by the weights, and steps of H⁻¹ times the
/// gradient, with momentum, need no learning rate.
fn fit(features: &Mat<f64>, wanted: &Mat<f64>, targets: &EncodedTargets) -> Mat<f64> {
    let (count, columns) = features.shape();
    let outputs = wanted.ncols();
    let mut weights = Mat::<f64>::zeros(columns, outputs);
    if count == 0 {
        return weights;
    }
    let bound = match targets {
        EncodedTargets::Classes(_) => 0.5,
        EncodedTargets::Labels { .. } => 0.25,
        EncodedTargets::Values(_) => 2.0,
    };
    let penalty = |column: usize| match column + 1 == columns {
        true => PENALTY_OF_BIAS,
        false => PENALTY,
    };
    let mut hessian = product(features.transpose(), features.as_ref());
    hessian *= faer::Scale(bound / count as f64);
    (0..columns).for_each(|column| hessian[(column, column)] += penalty(column));
    let Ok(hessian) = hessian.llt(Side::Lower) else {
        // Features that are no numbers: the logits are 0, and the loss that of guessing.
        return weights;
    };
    let mut ahead = weights.clone();
    let mut momentum = 1.0f64;
    for _ in 0..STEPS {
        let mut errors = product(features.as_ref(), ahead.as_ref());
        as_errors(&mut errors, wanted, targets);
        let mut gradient = product(features.transpose(), errors.as_ref());
        for column in 0..columns {
            for output in 0..outputs {
                gradient[(column, output)] = gradient[(column, output)] / count as f64
                    + penalty(column) * ahead[(column, output)];
            }
        }
        let next = &ahead - hessian.solve(&gradient);
        let step = &next - &weights;
        let climbs = (0..columns).flat_map(|column| {
            let (gradient, step) = (&gradient, &step);
            (0..outputs).map(move |output| gradient[(column, output)] * step[(column, output)])
        });
        momentum = if climbs.sum::<f64>() > 0.0 {
            1.0
        } else {
            momentum
        };
        let later = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
        ahead = &next + step * faer::Scale((momentum - 1.0) / later);
        (weights, momentum) = (next, later);
    }
    weights
}

/// Turns logits into the derivatives of the loss by them.
fn as_errors(logits: &mut Mat<f64>, wanted: &Mat<f64>, targets: &EncodedTargets) {
    let outputs = logits.ncols();
    for example in 0..logits.nrows() {
        let largest = (0..outputs).map(|output| logits[(example, output)]);
        let largest = largest.fold(f64::NEG_INFINITY, f64::max);
        let sum = (0..outputs).map(|output| (logits[(example, output)] - largest).exp());
        let sum: f64 = sum.sum();
        for output in 0..outputs {
            let (logit, wanted) = (logits[(example, output)], wanted[(example, output)]);
            logits[(example, output)] = match targets {
                EncodedTargets::Classes(_) => (logit - largest).exp() / sum - wanted,
                EncodedTargets::Labels { .. } => 1.0 / (1.0 + (-logit).exp()) - wanted,
                EncodedTargets::Values(_) => 2.0 * (logit - wanted),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty examples in three classes: the first feature tells them apart, the second is ten times as large
    /// and does not.
    fn examples() -> (Vec<f32>, EncodedTargets) {
        let classes: Vec<usize> = (0..60).map(|example| example % 3).collect();
        let features = classes.iter().enumerate().flat_map(|(example, &class)| {
            let noise = ((example * 37 % 11) as f32 - 5.0) / 5.0;
            [
                class as f32 + 0.1 * noise,
                10.0 * ((example * 53 % 17) as f32 / 17.0),
            ]
        });
        (features.collect(), EncodedTargets::Classes(classes))
    }

    fn accuracy(logits: &[f32], targets: &EncodedTargets) -> f64 {
        let EncodedTargets::Classes(classes) = targets else {
            panic!("classes")
        };
        let right = logits.chunks(3).zip(classes).filter(|(logits, class)| {
            let best = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            best == Some(**class)
        });
        right.count() as f64 / classes.len() as f64
    }

    #[test]
    fn a_head_finds_classes_in_examples_that_it_has_not_seen_and_none_in_noise() {
        let (features, targets) = examples();
        let own: Vec<f32> = features
            .chunks(2)
            .flat_map(|pair| [pair[0], pair[0].powi(2), pair[1]])
            .collect();
        let found = held_out_logits(&own, &targets, 3, 1);
        let noise: Vec<f32> = features.chunks(2).flat_map(|pair| [pair[1], 1.0]).collect();
        let guessed = held_out_logits(&noise, &targets, 3, 1);
        assert!(accuracy(&found, &targets) > accuracy(&guessed, &targets) + 0.3);
    }

    #[test]
    fn neither_the_scale_nor_a_rotation_nor_a_shift_of_the_features_changes_a_logit() {
        let (features, targets) = examples();
        let (cos, sin) = (0.6f32, 0.8f32);
        let turned: Vec<f32> = features
            .chunks(2)
            .flat_map(|pair| {
                [
                    7.0 * (cos * pair[0] - sin * pair[1]) + 3.0,
                    7.0 * (sin * pair[0] + cos * pair[1]) - 2.0,
                ]
            })
            .collect();
        let one = held_out_logits(&features, &targets, 3, 1);
        let other = held_out_logits(&turned, &targets, 3, 1);
        for (one, other) in one.iter().zip(&other) {
            // The features are f32 of size 70.
            assert!((one - other).abs() < 1e-3, "{one} {other}");
        }
    }

    #[test]
    fn more_features_than_examples_give_what_the_same_features_give_with_zeros_between() {
        let (features, targets) = examples();
        let spread: Vec<f32> = features
            .chunks(2)
            .flat_map(|pair| {
                let mut row = vec![0.0; 90];
                (row[7], row[61]) = (pair[0], pair[1]);
                row
            })
            .collect();
        let one = held_out_logits(&features, &targets, 3, 1);
        let other = held_out_logits(&spread, &targets, 3, 1);
        for (one, other) in one.iter().zip(&other) {
            assert!((one - other).abs() < 1e-4, "{one} {other}");
        }
    }

    #[test]
    fn the_fit_of_values_is_ridge_regression() {
        let features = Mat::from_fn(40, 3, |row, column| match column {
            2 => 1.0,
            _ => ((row * (column + 3) * 7 % 13) as f64 - 6.0) / 6.0,
        });
        let values: Vec<f64> = (0..40u32).map(|row| f64::from(row * 5 % 7)).collect();
        let targets = EncodedTargets::Values(values.clone());
        let wanted = Mat::from_fn(40, 1, |row, _| values[row]);
        let weights = fit(&features, &wanted, &targets);
        let errors = product(features.as_ref(), weights.as_ref()) - &wanted;
        let slope = product(features.transpose(), errors.as_ref());
        for column in 0..2 {
            let slope = 2.0 * slope[(column, 0)] / 40.0 + PENALTY * weights[(column, 0)];
            assert!(slope.abs() < 1e-9, "{slope}");
        }
    }
}
