//! An adapter merged with itself.

use eigenmix_adapter::AdapterFile;
use eigenmix_merging::{MergeOptions, Method, Space, merge};

use crate::relative_difference::relative_difference;

/// Asserts that an adapter with a classifier is the merge of itself and itself, without its heads.
pub fn assert_update_is_kept_and_heads_are_not(adapter: &AdapterFile) {
    let twice = [adapter, adapter];
    for space in [Space::Full, Space::Knots, Space::Core] {
        // Whoever agrees with itself in every entry is its own mean.
        for method in [Method::Average, Method::Ties { density: 1.0 }] {
            let options = MergeOptions::new(space, method);
            let merged = merge(&twice, &options, &|_, _| {}).expect("a merge");
            assert!(merged.adapter.heads.is_empty());
            let heads = &merged.report.adapters[1].whole_tensors;
            let is_classifier = |name: &String| name.contains("classifier");
            assert!(heads.iter().any(is_classifier), "{heads:?}");
            assert!(
                merged
                    .adapter
                    .modules
                    .keys()
                    .map(String::as_str)
                    .eq(adapter.module_paths())
            );
            for path in adapter.module_paths() {
                let expected = adapter.module(path).expect("read").update();
                let update = merged.adapter.modules[path].update();
                let difference = relative_difference(&update, &expected);
                assert!(
                    difference < 5e-6,
                    "{space:?} {method:?} {path}: {difference}"
                );
            }
        }
    }
}
