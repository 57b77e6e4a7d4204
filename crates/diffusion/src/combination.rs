//! Several adapters on one part: their updates side by side, each with a weight.

use std::collections::BTreeMap;

use eigenmix_models::Adaptation;
use eigenmix_moslora::{Factor, Mixer, Update};
use eigenmix_tensors::Matrix;

use crate::DiffusionError;

/// Σ w_t ΔW_t of every layer, as factors: U and V of the adapters side by side, s · w multiplied into U.
/// One adapter of weight 1 stays as it is.
///
/// - adaptations: each with the adapter's name and weight
///
/// # Errors
/// If an adapter has more than low-rank updates, which has no meaning with a weight or beside others.
pub(crate) fn combined(
    mut adaptations: Vec<(&str, f32, Adaptation)>,
) -> Result<Adaptation, DiffusionError> {
    if let [(_, 1.0, _)] = adaptations[..] {
        let (_, _, only) = adaptations.remove(0);
        return Ok(only);
    }
    let mut updates: BTreeMap<String, Vec<Update>> = BTreeMap::new();
    let mut bias_shifts: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (location, weight, adaptation) in adaptations {
        let other = [
            (!adaptation.magnitudes.is_empty(), "magnitudes of DoRA"),
            (
                !adaptation.tensors.is_empty(),
                "layers that were trained whole",
            ),
        ];
        if let Some((_, what)) = other.into_iter().find(|(has, _)| *has) {
            return Err(DiffusionError::Input(format!(
                "adapter `{location}` has {what}, which can neither be weighted nor used beside other adapters; use it alone, without a weight"
            )));
        }
        for (path, mut update) in adaptation.updates {
            update.scaling *= weight;
            updates.entry(path).or_default().push(update);
        }
        for (path, shift) in adaptation.bias_shifts {
            let sum = bias_shifts
                .entry(path)
                .or_insert_with(|| vec![0.0; shift.len()]);
            let pairs = sum.iter_mut().zip(shift);
            pairs.for_each(|(sum, shift)| *sum += weight * shift);
        }
    }
    let updates = updates.into_iter();
    Ok(Adaptation {
        updates: updates
            .map(|(path, all)| (path, side_by_side(&all)))
            .collect(),
        bias_shifts,
        ..Adaptation::default()
    })
}

fn side_by_side(updates: &[Update]) -> Update {
    let folded: Vec<_> = updates.iter().map(Update::fold).collect();
    let (d_out, d_in) = (updates[0].d_out(), updates[0].d_in());
    let columns: Vec<(usize, usize)> = folded
        .iter()
        .enumerate()
        .flat_map(|(index, module)| (0..module.rank()).map(move |column| (index, column)))
        .collect();
    let left = Matrix::from_fn(d_out, columns.len(), |row, at| {
        let (index, column) = columns[at];
        folded[index].b.get(row, column)
    });
    let right = Matrix::from_fn(d_in, columns.len(), |row, at| {
        let (index, column) = columns[at];
        folded[index].a.get(column, row)
    });
    Update {
        left: Factor::frozen(left),
        mixer: Mixer::Identity,
        right: Factor::frozen(right),
        scaling: 1.0,
        dropout: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::LoraModule;

    fn module(rank: usize, phase: f32, scaling: f32) -> LoraModule {
        let wave = |rows: usize, cols: usize, phase: f32| {
            Matrix::from_fn(rows, cols, |row, col| {
                ((row * 5 + col) as f32 + phase).sin()
            })
        };
        LoraModule::new(wave(4, rank, phase), wave(rank, 3, phase + 0.5), scaling)
    }

    fn adaptation(modules: &[(&str, &LoraModule)]) -> Adaptation {
        Adaptation {
            updates: modules
                .iter()
                .map(|(path, module)| ((*path).to_owned(), Update::from_lora(module)))
                .collect(),
            ..Adaptation::default()
        }
    }

    #[test]
    fn a_combination_is_the_weighted_sum_of_the_dense_updates() {
        let (first, second) = (module(2, 0.1, 1.5), module(3, 0.7, 0.5));
        let only = module(1, 2.0, 1.0);
        let found = combined(vec![
            ("a", 0.7, adaptation(&[("both", &first), ("one", &only)])),
            ("b", -0.2, adaptation(&[("both", &second)])),
        ])
        .expect("plain updates");
        let dense = |path: &str| found.updates[path].fold().update();
        for (index, value) in dense("both").values().iter().enumerate() {
            let expected =
                0.7 * first.update().values()[index] - 0.2 * second.update().values()[index];
            assert!((value - expected).abs() < 1e-5, "{value} {expected}");
        }
        let expected = only.update().scaled(0.7);
        for (value, expected) in dense("one").values().iter().zip(expected.values()) {
            assert!((value - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn what_is_no_update_of_low_rank_is_refused_beside_others_and_kept_alone() {
        let module = module(2, 0.1, 1.0);
        let mut with_magnitude = adaptation(&[("both", &module)]);
        with_magnitude
            .magnitudes
            .insert("both".into(), vec![1.0; 4]);
        let alone = combined(vec![("a", 1.0, with_magnitude.clone())]).expect("alone");
        assert_eq!(alone.magnitudes.len(), 1);
        let error = combined(vec![("a", 0.5, with_magnitude)]).expect_err("a refusal");
        assert!(error.to_string().contains("magnitudes of DoRA"), "{error}");
    }
}
