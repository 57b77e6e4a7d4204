//! Adapters that were trained (those of the quick start), and one that PEFT wrote, heads and all.

use std::path::{Path, PathBuf};

use eigenmix_adapter::AdapterFile;
use eigenmix_merging::{MergeOptions, Method, Space, merge};
use eigenmix_tensors::Matrix;

use crate::merged_with_itself::assert_update_is_kept_and_heads_are_not;
use crate::random_adapters::relative_difference;

const QUICKSTART: [&str; 6] = [
    "bakery",
    "bicycle_shop",
    "gym",
    "library",
    "pet_clinic",
    "theatre",
];

/// A path from the root of the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

#[test]
fn six_trained_adapters_merge_in_every_way() {
    let directory = in_repository("datasets/quickstart/adapters");
    let adapters = QUICKSTART.map(|task| AdapterFile::open(&directory.join(task)));
    let adapters = adapters.map(|adapter| adapter.expect("an adapter"));
    let path = adapters[0].module_paths().next().expect("a module");
    let updates: Vec<Matrix> = adapters
        .iter()
        .map(|adapter| adapter.module(path).expect("read").update())
        .collect();
    let sum = Matrix::from_fn(updates[0].rows(), updates[0].cols(), |row, col| {
        updates.iter().map(|update| update.get(row, col)).sum()
    });
    let methods = [
        Method::Sum,
        Method::Ties { density: 0.2 },
        Method::DareTies {
            drop: 0.5,
            density: 0.2,
        },
        Method::Tsv,
        Method::Cart {
            rank_fraction: 0.08,
            coefficient: 0.7,
        },
    ];
    for space in [Space::Full, Space::Knots, Space::Core] {
        for method in methods {
            let options = MergeOptions::new(space, method);
            let merged = merge(&adapters, &options, &|_, _| {}).expect("a merge");
            assert_eq!(merged.report.heads_of, None);
            assert!(
                merged
                    .report
                    .adapters
                    .iter()
                    .all(|adapter| !adapter.whole_tensors.is_empty())
            );
            assert_eq!(merged.report.partial().count(), 0);
            let update = merged.adapter.modules[path].update();
            assert!(update.is_finite() && update.norm() > 0.0);
            if method == Method::Sum {
                assert_eq!(merged.report.modules[path].rank, 24);
                assert!(relative_difference(&update, &sum) < 2e-6);
            }
        }
    }
}

#[test]
fn an_adapter_merged_with_itself_keeps_its_heads_apart() {
    let path = in_repository("tests/golden/models/distilbert/adapter-plain");
    let adapter = AdapterFile::open(&path).expect("an adapter");
    assert_eq!(adapter.module_paths().count(), 4);
    assert_update_is_kept_and_heads_are_not(&adapter);
    let alone = MergeOptions::new(Space::Core, Method::Sum);
    let merged = merge(&[&adapter], &alone, &|_, _| {}).expect("a merge");
    assert_eq!(merged.adapter.heads, adapter.heads().expect("read"));
}
