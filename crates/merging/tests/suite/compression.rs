//! Compress, then merge; and the identities of iso-cts and robust.

use eigenmix_adapter::LoadedAdapter;
use eigenmix_eigenlorax::decomposition::{ThinSvd, to_f64};
use eigenmix_merging::{MergeError, MergeOptions, Method, Space};

use crate::random_adapters::{
    DOWN, QUERY, merged, random_adapter, refusal, relative_difference, three_adapters, update,
};

const METHODS: [Method; 5] = [
    Method::Sum,
    Method::Ties { density: 0.4 },
    Method::Tsv,
    Method::IsoCts {
        common_fraction: 0.6,
    },
    Method::Robust { prune: 0.3 },
];

fn compressed(space: Space, method: Method, rank: usize) -> MergeOptions {
    MergeOptions {
        compress: Some(rank),
        ..MergeOptions::new(space, method)
    }
}

#[test]
fn a_compressed_merge_has_the_rank_and_tells_what_is_kept() {
    let adapters = three_adapters();
    for space in [Space::Knots, Space::Core] {
        for method in METHODS {
            let merge = merged(&adapters, &compressed(space, method, 4));
            for path in [QUERY, DOWN] {
                assert!(merge.adapter.modules[path].rank() <= 4, "{method:?}");
            }
            for adapter in &merge.report.adapters {
                let kept = adapter.kept.expect("the share that is kept");
                assert!(kept > 0.05 && kept < 1.0, "{kept}");
            }
        }
    }
    let merge = merged(&adapters, &MergeOptions::new(Space::Core, Method::Sum));
    assert_eq!(merge.report.adapters[0].kept, None);
}

#[test]
fn compressing_to_the_sum_of_the_ranks_changes_nothing() {
    let adapters = three_adapters();
    for space in [Space::Knots, Space::Core] {
        for method in METHODS {
            let plain = merged(&adapters, &MergeOptions::new(space, method));
            let merge = merged(&adapters, &compressed(space, method, 12));
            assert_eq!(merge.adapter, plain.adapter, "{space:?} {method:?}");
            assert_eq!(merge.report.adapters[0].kept, Some(1.0));
        }
    }
}

#[test]
fn a_compressed_sum_is_the_same_in_every_space() {
    let adapters = three_adapters();
    let iso_cts = Method::IsoCts {
        common_fraction: 0.6,
    };
    for method in [Method::Sum, Method::Average, iso_cts] {
        let core = merged(&adapters, &compressed(Space::Core, method, 5));
        for space in [Space::Full, Space::Knots] {
            let other = merged(&adapters, &compressed(space, method, 5));
            for path in [QUERY, DOWN] {
                let [left, right] = [&core, &other].map(|it| it.adapter.modules[path].update());
                let difference = relative_difference(&left, &right);
                assert!(difference < 1e-5, "{space:?} {method:?}: {difference}");
            }
        }
    }
}

#[test]
fn one_adapter_alone_is_compressed_to_its_best_approximation() {
    let one = [random_adapter("one", 5, 8)];
    let merge = merged(&one, &compressed(Space::Core, Method::Sum, 2));
    let truncated = merged(
        &one,
        &MergeOptions {
            rank: Some(2),
            ..MergeOptions::new(Space::Core, Method::Sum)
        },
    );
    for path in [QUERY, DOWN] {
        let [left, right] = [&merge, &truncated].map(|it| it.adapter.modules[path].update());
        assert!(relative_difference(&left, &right) < 1e-5);
    }
    let kept = merge.report.adapters[0].kept.expect("the share kept");
    assert!((kept - truncated.report.energy_kept).abs() < 1e-6);
}

#[test]
fn a_loud_adapter_does_not_drown_the_others() {
    let mut adapters = three_adapters();
    let shares = |adapters: &[LoadedAdapter]| {
        let merge = merged(adapters, &compressed(Space::Core, Method::Sum, 5));
        let adapters = merge.report.adapters.iter();
        adapters
            .map(|adapter| adapter.kept.expect("the share kept"))
            .collect::<Vec<_>>()
    };
    let before = shares(&adapters);
    for module in adapters[0].adapter.modules.values_mut() {
        module.scaling *= 100.0;
    }
    for (before, after) in before.iter().zip(shares(&adapters)) {
        assert!((before - after).abs() < 1e-5, "{before}, {after}");
    }
}

#[test]
fn what_compression_cannot_keep_its_promise_with_is_refused() {
    let adapters = three_adapters();
    let error = refusal(
        &adapters,
        &compressed(Space::Full, Method::Ties { density: 0.2 }, 4),
    );
    assert!(matches!(
        error,
        MergeError::CompressedEntries { method: "ties" }
    ));
    let error = refusal(&adapters, &compressed(Space::Core, Method::Sum, 0));
    assert!(matches!(error, MergeError::NoCompressedRank));
    let truncated = MergeOptions {
        rank: Some(4),
        ..compressed(Space::Core, Method::Sum, 4)
    };
    let error = refusal(&adapters, &truncated);
    assert!(matches!(
        error,
        MergeError::RankBesideCompression {
            rank: 4,
            compress: 4
        }
    ));
}

#[test]
fn iso_cts_is_the_same_in_every_space_and_flat() {
    let adapters = three_adapters();
    let method = Method::IsoCts {
        common_fraction: 0.6,
    };
    let core = merged(&adapters, &MergeOptions::new(Space::Core, method));
    for space in [Space::Full, Space::Knots] {
        let other = merged(&adapters, &MergeOptions::new(space, method));
        for path in [QUERY, DOWN] {
            let [left, right] = [&core, &other].map(|it| it.adapter.modules[path].update());
            assert!(relative_difference(&left, &right) < 1e-5, "{space:?}");
        }
    }
    let module = &core.adapter.modules[QUERY];
    let s = ThinSvd::new(to_f64(&module.update()).as_ref())
        .expect("finite values")
        .s;
    assert_eq!(module.rank(), 9);
    assert!((s[8] / s[0] - 1.0).abs() < 1e-5);
}

#[test]
fn iso_cts_with_nothing_to_the_tasks_is_the_isotropized_sum() {
    let adapters = three_adapters();
    let iso_cts = Method::IsoCts {
        common_fraction: 1.0,
    };
    let isotropized = MergeOptions {
        isotropize: true,
        ..MergeOptions::new(Space::Core, Method::Sum)
    };
    let isotropized = merged(&adapters, &isotropized);
    for space in [Space::Full, Space::Knots, Space::Core] {
        let merge = merged(&adapters, &MergeOptions::new(space, iso_cts));
        for path in [QUERY, DOWN] {
            let [left, right] = [&merge, &isotropized].map(|it| it.adapter.modules[path].update());
            assert!(relative_difference(&left, &right) < 1e-5, "{space:?}");
        }
    }
}

#[test]
fn robust_with_nothing_pruned_is_the_average_and_of_one_adapter_prunes_alone() {
    let adapters = three_adapters();
    for space in [Space::Full, Space::Knots, Space::Core] {
        let robust = merged(
            &adapters,
            &MergeOptions::new(space, Method::Robust { prune: 0.0 }),
        );
        let average = merged(&adapters, &MergeOptions::new(space, Method::Average));
        for (path, report) in &average.report.modules {
            let [left, right] =
                [&robust, &average].map(|it| update(&it.adapter, path, report.shape));
            assert!(relative_difference(&left, &right) < 1e-5, "{space:?}");
        }
        let one = [random_adapter("one", 3, 5)];
        let robust = merged(
            &one,
            &MergeOptions::new(space, Method::Robust { prune: 0.0 }),
        );
        let [left, right] = [&robust.adapter, &one[0].adapter].map(|it| it.modules[DOWN].update());
        assert!(relative_difference(&left, &right) < 1e-5, "{space:?}");
    }
}
