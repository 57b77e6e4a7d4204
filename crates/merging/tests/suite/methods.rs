//! The methods, checked against dense matrices and simple cases.

use std::collections::BTreeMap;
use std::sync::Mutex;

use eigenmix_adapter::{LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::decomposition::{ThinSvd, to_f64};
use eigenmix_merging::{MergeOptions, Method, Scope, Space, merge};
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::random_adapters::{
    DOWN, QUERY, adapter, gaussian, merged, relative_difference, three_adapters,
};

/// An adapter whose one module is the row `entries`.
fn row(name: &str, path: &str, entries: &[f32]) -> LoadedAdapter {
    let a = Matrix::new(1, entries.len(), entries.to_vec());
    let module = LoraModule::new(Matrix::new(1, 1, vec![0.5]), a, 2.0);
    adapter(name, BTreeMap::from([(path.to_owned(), module)]))
}

fn full_ties(density: f64) -> MergeOptions {
    MergeOptions::new(Space::Full, Method::Ties { density })
}

#[test]
fn ties_trims_elects_and_averages() {
    let adapters = [
        row("a", "q", &[4.0, 1.0, -3.0, 0.1, 2.0]),
        row("b", "q", &[2.0, -5.0, -1.0, 0.2, -3.0]),
        row("c", "q", &[-1.0, 2.0, 6.0, 0.3, -4.0]),
    ];
    // The second smallest, as 5 − ⌊5 · 0.6⌋ = 2, and all above it are kept: all but 0.1, 0.2 and 0.3.
    let merge = merged(&adapters, &full_ties(0.6));
    let expected = [3.0, -5.0, 6.0, 0.0, -3.5];
    assert_eq!(merge.adapter.modules["q"].update().values(), expected);
}

#[test]
fn ties_at_the_threshold_are_kept_and_one_entry_always_is() {
    let adapters = [
        row("a", "q", &[2.0, -2.0, 1.0]),
        row("b", "q", &[3.0, 1.0, 0.5]),
    ];
    // The second smallest is 2 in `a`, where it is there twice, and 1 in `b`.
    let merge = merged(&adapters, &full_ties(0.34));
    assert_eq!(
        merge.adapter.modules["q"].update().values(),
        [2.5, -2.0, 0.0]
    );
    // ⌊3 · 0.1⌋ = 0 keeps the largest: 2 and −2, and 3.
    let merge = merged(&adapters, &full_ties(0.1));
    assert_eq!(
        merge.adapter.modules["q"].update().values(),
        [2.5, -2.0, 0.0]
    );
}

#[test]
fn a_sum_of_zero_takes_the_majority_sign() {
    let adapters = [
        row("a", "q", &[3.0, 1.0, 1.0]),
        row("b", "q", &[-3.0, 1.0, 2.0]),
    ];
    let merge = merged(&adapters, &full_ties(1.0));
    assert_eq!(
        merge.adapter.modules["q"].update().values(),
        [3.0, 1.0, 1.5]
    );
    let adapters = [row("a", "q", &[3.0, 1.0]), row("b", "q", &[-3.0, -2.0])];
    let merge = merged(&adapters, &full_ties(1.0));
    assert_eq!(merge.adapter.modules["q"].update().values(), [-3.0, -2.0]);
}

#[test]
fn over_the_model_large_modules_crowd_out_small_ones() {
    let both = |name: &str, sign: f32| {
        let mut loud = row(name, "loud", &[8.0 * sign, 6.0, 5.0]);
        let quiet = row(name, "quiet", &[0.2, 0.1 * sign, 0.3]);
        loud.adapter.modules.extend(quiet.adapter.modules);
        loud
    };
    let adapters = [both("a", 1.0), both("b", 1.0)];
    let model = MergeOptions {
        scope: Scope::Model,
        ..full_ties(0.4)
    };
    let merge = merged(&adapters, &model);
    assert_eq!(
        merge.adapter.modules["loud"].update().values(),
        [8.0, 6.0, 5.0]
    );
    assert_eq!(merge.report.left_out().collect::<Vec<_>>(), ["quiet"]);
    let merge = merged(&adapters, &full_ties(0.5));
    assert_eq!(
        merge.adapter.modules["quiet"].update().values(),
        [0.2, 0.0, 0.3]
    );

    // The majority sign is the model's too: `loud` has two votes for plus, `quiet` one for each.
    let opposed = [
        both("a", 1.0),
        row("b", "loud", &[-8.0, 6.0, 5.0]),
        row("c", "quiet", &[-0.2, -0.2, -0.2]),
    ];
    let everything = MergeOptions {
        scope: Scope::Model,
        ..full_ties(1.0)
    };
    let loud = |options| merged(&opposed, options).adapter.modules["loud"].update();
    assert_eq!(loud(&everything).values()[0], 8.0);
    let quiet = |options| merged(&opposed, options).adapter.modules["quiet"].update();
    assert_eq!(quiet(&everything).values()[0], 0.2);
    assert_eq!(quiet(&full_ties(1.0)).values()[0], -0.2);
}

#[test]
fn dare_drops_a_share_of_the_entries_and_keeps_the_mean() {
    let adapters = three_adapters();
    let options = MergeOptions {
        weights: Some(vec![1.0, 0.0, 0.0]),
        seed: 3,
        ..MergeOptions::new(Space::Full, Method::Dare { drop: 0.25 })
    };
    let merge = merged(&adapters, &options);
    let (mut kept, mut total) = (0, 0);
    for path in [QUERY, DOWN] {
        let before = adapters[0].adapter.modules[path].update();
        let after = merge.adapter.modules[path].update();
        for (before, after) in before.values().iter().zip(after.values()) {
            total += 1;
            if *after != 0.0 {
                kept += 1;
                assert!((after * 0.75 - before).abs() < 1e-5, "{after} {before}");
            }
        }
    }
    // 2040 entries: a standard deviation is 0.0096.
    let share = f64::from(kept) / f64::from(total);
    assert!((share - 0.75).abs() < 0.04, "{share}");
}

#[test]
fn dare_depends_on_its_seed_alone() {
    let adapters = three_adapters();
    for space in [Space::Full, Space::Knots, Space::Core] {
        let with_seed = |seed| {
            let options = MergeOptions {
                seed,
                ..MergeOptions::new(space, Method::Dare { drop: 0.5 })
            };
            merged(&adapters, &options).adapter
        };
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }
}

#[test]
fn equal_adapters_are_dropped_from_independently() {
    let one = &three_adapters()[0];
    let twins = [one.clone(), one.clone()];
    let options = MergeOptions::new(Space::Full, Method::Dare { drop: 0.5 });
    let merge = merged(&twins, &options);
    // 0, 2 or 4 times the entry; with one mask for both, 2 times would not occur.
    let (before, after) = (
        one.adapter.modules[DOWN].update(),
        merge.adapter.modules[DOWN].update(),
    );
    let pairs = before.values().iter().zip(after.values());
    let doubled = pairs.filter(|(before, after)| (**after / **before - 2.0).abs() < 1e-3);
    assert!((doubled.count() as f64 / before.values().len() as f64 - 0.5).abs() < 0.1);
}

#[test]
fn an_asked_rank_gives_the_best_approximation_and_tells_what_it_kept() {
    let adapters = three_adapters();
    for space in [Space::Full, Space::Knots, Space::Core] {
        for method in [Method::Sum, Method::Ties { density: 0.3 }] {
            let whole = MergeOptions::new(space, method);
            let short = MergeOptions {
                rank: Some(5),
                ..whole.clone()
            };
            let (whole, short) = (merged(&adapters, &whole), merged(&adapters, &short));
            for path in [QUERY, DOWN] {
                let update = to_f64(&whole.adapter.modules[path].update());
                let svd = ThinSvd::new(update.as_ref()).expect("finite values");
                let best = Matrix::from_fn(update.nrows(), update.ncols(), |row, col| {
                    let terms = (0..5).map(|i| svd.u[(row, i)] * svd.s[i] * svd.v[(col, i)]);
                    terms.sum::<f64>() as f32
                });
                let module = &short.adapter.modules[path];
                assert_eq!(module.rank(), 5);
                let difference = relative_difference(&module.update(), &best);
                assert!(difference < 1e-5, "{space:?} {method:?}: {difference}");

                let energy = |s: &[f64]| s.iter().map(|s| s * s).sum::<f64>();
                let (report, before) = (&short.report.modules[path], &whole.report.modules[path]);
                let kept = energy(&svd.s[..5]) / energy(&svd.s);
                assert!((report.energy_kept - kept).abs() < 1e-5);
                assert!((report.norm - energy(&svd.s[..5]).sqrt()).abs() < 1e-4);
                assert!((before.norm - energy(&svd.s).sqrt()).abs() < 1e-4);
                assert_eq!((report.rank, before.energy_kept > 0.999_999), (5, true));
            }
            assert!(short.report.energy_kept < 1.0);
        }
    }
}

#[test]
fn long_and_short_lists_of_entries_have_the_same_threshold() {
    // [300, 260] is counted by digits, [300, 130] is kept in memory; the second is half the first.
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let halves = [0, 1].map(|_| gaussian(3, 130, &mut random));
    let b = gaussian(300, 3, &mut random);
    let doubled = Matrix::from_fn(3, 260, |row, col| halves[0].get(row, col % 130));
    let adapters = |a: &Matrix, a_other: &Matrix| {
        [("a", a), ("b", a_other)].map(|(name, a)| {
            let module = LoraModule::new(b.clone(), a.clone(), 1.0);
            adapter(name, BTreeMap::from([("q".to_owned(), module)]))
        })
    };
    let doubled_other = Matrix::from_fn(3, 260, |row, col| halves[1].get(row, col % 130));
    let long = merged(&adapters(&doubled, &doubled_other), &full_ties(0.3));
    let short = merged(&adapters(&halves[0], &halves[1]), &full_ties(0.3));
    let (long, short) = (
        long.adapter.modules["q"].update(),
        short.adapter.modules["q"].update(),
    );
    let repeated = Matrix::from_fn(300, 260, |row, col| short.get(row, col % 130));
    assert!(relative_difference(&long, &repeated) < 1e-6);
}

#[test]
fn progress_counts_every_pass_over_the_modules() {
    let adapters = three_adapters();
    for (scope, passes) in [(Scope::Layer, 1), (Scope::Model, 5)] {
        let reports = Mutex::new(Vec::new());
        let options = MergeOptions {
            scope,
            ..full_ties(0.5)
        };
        merge(&adapters, &options, &|done, of| {
            reports.lock().expect("no panic").push((done, of));
        })
        .expect("a merge");
        let mut reports = reports.into_inner().expect("no panic");
        reports.sort_unstable();
        let expected: Vec<_> = (1..=2 * passes).map(|done| (done, 2 * passes)).collect();
        assert_eq!(reports, expected);
    }
}
