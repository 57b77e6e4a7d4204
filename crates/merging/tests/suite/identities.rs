//! What must hold whatever the adapters: on mixed ranks, with scalings that are not 1.

use eigenmix_adapter::LoadedAdapter;
use eigenmix_eigenlorax::decomposition::{ThinSvd, to_f64};
use eigenmix_merging::{KnotsRows, MergeOptions, Method, Scope, Space};
use eigenmix_tensors::Matrix;

use crate::random_adapters::{
    DOWN, QUERY, adapter, merged, random_adapter, relative_difference, three_adapters, update,
};

const SPACES: [Space; 3] = [Space::Full, Space::Knots, Space::Core];

/// f32 factors of a product of rank 12, in relation to its largest entry.
const ROUNDING: f32 = 2e-6;

fn all_methods() -> Vec<Method> {
    vec![
        Method::Average,
        Method::Sum,
        Method::Ties { density: 0.3 },
        Method::Dare { drop: 0.4 },
        Method::DareTies {
            drop: 0.4,
            density: 0.5,
        },
        Method::Tsv,
        Method::Cart {
            rank_fraction: 0.16,
            coefficient: 0.7,
        },
        Method::IsoCts {
            common_fraction: 0.6,
        },
        Method::Robust { prune: 0.3 },
    ]
}

/// Every space with every method, both scopes, both kinds of rows.
fn all_options() -> Vec<MergeOptions> {
    let mut all = Vec::new();
    for space in SPACES {
        for method in all_methods() {
            for scope in [Scope::Layer, Scope::Model] {
                all.push(MergeOptions {
                    scope,
                    ..MergeOptions::new(space, method)
                });
            }
        }
    }
    all.extend(all_methods().into_iter().map(|method| MergeOptions {
        knots_rows: KnotsRows::Unscaled,
        ..MergeOptions::new(Space::Knots, method)
    }));
    all
}

/// `Σ w_t · ΔW_t`.
fn weighted_sum(adapters: &[LoadedAdapter], weights: &[f32], path: &str) -> Matrix {
    let updates: Vec<Matrix> = adapters
        .iter()
        .map(|adapter| adapter.adapter.modules[path].update())
        .collect();
    Matrix::from_fn(updates[0].rows(), updates[0].cols(), |row, col| {
        let terms = updates.iter().zip(weights);
        terms
            .map(|(update, weight)| update.get(row, col) * weight)
            .sum()
    })
}

fn assert_equal_updates(
    left: &eigenmix_merging::Merge,
    right: &eigenmix_merging::Merge,
    tolerance: f32,
    what: &str,
) {
    for (path, report) in &right.report.modules {
        let (left, right) = (
            update(&left.adapter, path, report.shape),
            update(&right.adapter, path, report.shape),
        );
        let difference = relative_difference(&left, &right);
        assert!(difference < tolerance, "{what}: {path}: {difference}");
    }
}

#[test]
fn merging_one_adapter_returns_it() {
    let one = [random_adapter("one", 3, 5)];
    let keeping_all = [Method::Sum, Method::Average, Method::Dare { drop: 0.0 }];
    for space in SPACES {
        for knots_rows in [KnotsRows::ScaledBySigma, KnotsRows::Unscaled] {
            for method in keeping_all {
                let options = MergeOptions {
                    knots_rows,
                    ..MergeOptions::new(space, method)
                };
                let merge = merged(&one, &options);
                for (path, module) in &one[0].adapter.modules {
                    let ours = &merge.adapter.modules[path];
                    assert_eq!((ours.rank(), ours.scaling), (module.rank(), 1.0));
                    let difference = relative_difference(&ours.update(), &module.update());
                    assert!(difference < ROUNDING, "{options:?}: {difference}");
                }
            }
        }
    }
}

#[test]
fn a_weighted_sum_is_that_of_the_updates_in_every_space() {
    let adapters = three_adapters();
    for space in SPACES {
        for (method, divisor) in [(Method::Sum, 1.0), (Method::Average, 3.0)] {
            let options = MergeOptions {
                weights: Some(vec![0.5, -2.0, 1.25]),
                scale: 1.5,
                ..MergeOptions::new(space, method)
            };
            let merge = merged(&adapters, &options);
            for path in [QUERY, DOWN] {
                let weights = [0.5, -2.0, 1.25].map(|weight| 1.5 * weight / divisor);
                let expected = weighted_sum(&adapters, &weights, path);
                let difference =
                    relative_difference(&merge.adapter.modules[path].update(), &expected);
                assert!(difference < ROUNDING, "{space:?} {method:?}: {difference}");
            }
        }
    }
}

#[test]
fn the_order_of_the_adapters_does_not_matter() {
    let adapters = three_adapters();
    let permuted: Vec<_> = [2, 0, 1].map(|index| adapters[index].clone()).into();
    for options in all_options() {
        // The one pair whose result is a matter of chance, as its documentation says.
        if (options.method, options.knots_rows) == (Method::Tsv, KnotsRows::Unscaled) {
            continue;
        }
        let weights = [0.5, 1.5, 1.0];
        let options = MergeOptions {
            weights: Some(weights.to_vec()),
            ..options
        };
        let permuted_options = MergeOptions {
            weights: Some([2, 0, 1].map(|index| weights[index]).to_vec()),
            ..options.clone()
        };
        let (straight, crossed) = (
            merged(&adapters, &options),
            merged(&permuted, &permuted_options),
        );
        assert_equal_updates(&crossed, &straight, 1e-5, &format!("{options:?}"));
    }
}

#[test]
fn scale_and_weights_of_all_adapters_multiply_the_result() {
    let adapters = three_adapters();
    for options in all_options() {
        for isotropize in [false, true] {
            let plain = MergeOptions {
                isotropize,
                ..options.clone()
            };
            let scaled = MergeOptions {
                scale: -1.5,
                ..plain.clone()
            };
            let weighted = MergeOptions {
                weights: Some(vec![0.25; 3]),
                scale: -6.0,
                ..plain.clone()
            };
            let (plain, scaled) = (merged(&adapters, &plain), merged(&adapters, &scaled));
            let expected = plain.adapter.modules[QUERY].update().scaled(-1.5);
            let actual = scaled.adapter.modules[QUERY].update();
            assert!(
                relative_difference(&actual, &expected) < 1e-5,
                "{options:?}"
            );
            let weighted = merged(&adapters, &weighted);
            assert_equal_updates(&weighted, &scaled, 1e-5, &format!("{options:?}"));
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let adapters = three_adapters();
    let with_threads = |threads: usize, options: &MergeOptions| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("a pool of threads");
        pool.install(|| merged(&adapters, options)).adapter
    };
    for options in all_options() {
        assert_eq!(
            with_threads(1, &options),
            with_threads(5, &options),
            "{options:?}"
        );
    }
}

#[test]
fn stacks_wider_than_the_module_are_still_exact() {
    // Σr = 9 + 9 + 9 of a [29, 41] and a [37, 23] module, twice each of them: 54 columns.
    let mut adapters: Vec<_> = (0..3)
        .map(|index| random_adapter(&format!("wide {index}"), 8, 20 + index))
        .collect();
    adapters.extend_from_within(..);
    for space in SPACES {
        let merge = merged(&adapters, &MergeOptions::new(space, Method::Sum));
        for path in [QUERY, DOWN] {
            let module = &merge.adapter.modules[path];
            assert_eq!(module.rank(), if path == QUERY { 23 } else { 27 });
            let expected = weighted_sum(&adapters, &[1.0; 6], path);
            assert!(relative_difference(&module.update(), &expected) < ROUNDING);
        }
    }
    for options in all_options() {
        merged(&adapters, &options);
    }
}

#[test]
fn isotropizing_makes_all_singular_values_equal_and_keeps_their_sum() {
    let adapters = three_adapters();
    for options in all_options() {
        let isotropic = MergeOptions {
            isotropize: true,
            ..options.clone()
        };
        let (plain, isotropic) = (merged(&adapters, &options), merged(&adapters, &isotropic));
        for path in [QUERY, DOWN] {
            let singular_values = |merge: &eigenmix_merging::Merge| {
                let update = to_f64(&merge.adapter.modules[path].update());
                ThinSvd::new(update.as_ref()).expect("finite values").s
            };
            let (before, after) = (singular_values(&plain), singular_values(&isotropic));
            let rank = isotropic.adapter.modules[path].rank();
            let mean = before.iter().sum::<f64>() / rank as f64;
            for value in &after[..rank] {
                assert!(
                    (value - mean).abs() < 1e-5 * mean,
                    "{options:?}: {value}, {mean}"
                );
            }
        }
    }
}

#[test]
fn updates_that_say_the_same_need_no_more_rank_than_one() {
    let one = random_adapter("one", 3, 5);
    let twin = adapter("twin", one.adapter.modules.clone());
    for space in SPACES {
        let options = MergeOptions::new(space, Method::Average);
        let merge = merged(&[one.clone(), twin.clone()], &options);
        let module = &merge.adapter.modules[QUERY];
        assert_eq!(module.rank(), 3);
        let expected = one.adapter.modules[QUERY].update();
        assert!(relative_difference(&module.update(), &expected) < ROUNDING);
    }
}
