//! Merges that cannot be reproduced completely, and why: they contain directions of singular value
//! zero, which the rounding of a decomposition chooses.
//!
//! - `-iso` of a merged matrix that lacks directions: their other directions are compared.
//! - `tsv` and `tsv-iso` where the share of an adapter is more triplets than its rank. In the KnOTS
//!   space all singular values are 1 besides, so that even which triplets of an adapter are the
//!   strongest is a matter of rounding. They are not stored.

use eigenmix_eigenlorax::LowRank;
use eigenmix_eigenlorax::decomposition::{ThinSvd, product, to_f64};
use eigenmix_merging::{MergeOptions, Method, Space, merge};
use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::golden;
use crate::golden_merges::GoldenMerges;
use crate::random_adapters::relative_difference;
use crate::vanishing_directions::assert_equal_but_for_vanishing_directions;

/// In relation to the mean singular value.
const TOLERANCE: f64 = 1e-5;

#[test]
fn isotropized_merges_agree_but_for_the_directions_that_vanish() {
    let golden = GoldenMerges::open(&golden::directory(), "undetermined.safetensors");
    let cases = golden.cases();
    assert_eq!(cases.len(), 11);
    let mut compared = 0;
    for case in cases {
        let pairs = golden.pairs(&case);
        assert!(case.raises_vanishing_directions(&pairs), "{}", case.name);
        for pair in &pairs {
            assert_equal_but_for_vanishing_directions(&case.name, pair, TOLERANCE);
        }
        compared += pairs.len();
    }
    assert_eq!(compared, 31, "modules");
}

/// TSV as its authors wrote it, on dense matrices: whatever triplets the SVD gives are taken.
fn dense_tsv(tasks: &[Mat<f64>]) -> Mat<f64> {
    let svds: Vec<ThinSvd> = tasks
        .iter()
        .map(|task| ThinSvd::new(task.as_ref()).expect("finite values"))
        .collect();
    let share = svds[0].s.len() / tasks.len();
    let beside = |side: &dyn Fn(&ThinSvd) -> Mat<f64>| {
        let blocks: Vec<Mat<f64>> = svds.iter().map(side).collect();
        let stacked = Mat::from_fn(blocks[0].nrows(), share * tasks.len(), |row, col| {
            blocks[col / share][(row, col % share)]
        });
        let svd = ThinSvd::new(stacked.as_ref()).expect("finite values");
        product(svd.u.as_ref(), svd.v.transpose())
    };
    let (left, right) = (beside(&|svd| svd.u.clone()), beside(&|svd| svd.v.clone()));
    let weighted = Mat::from_fn(left.nrows(), left.ncols(), |row, col| {
        left[(row, col)] * svds[col / share].s[col % share]
    });
    product(weighted.as_ref(), right.transpose())
}

fn largest_relative_difference(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
    (left - right).norm_max() / right.norm_max()
}

#[test]
fn tsv_of_unequal_ranks_changes_at_random_in_the_authors_recipe_and_not_in_ours() {
    let golden = GoldenMerges::open(&golden::directory(), "merged.safetensors");
    let options = MergeOptions::new(Space::Full, Method::Tsv);
    for (group, is_determined) in [("same", true), ("mixed", false)] {
        let adapters = golden.adapters(group);
        let path = "model.layers.0.self_attn.q_proj";
        let tasks: Vec<Mat<f64>> = adapters
            .iter()
            .map(|adapter| LowRank::of(&adapter.module(path).expect("a module")))
            .map(|update| product(update.left.as_ref(), update.right.transpose()))
            .collect();
        // Nothing but rounding: the same matrices, a billionth of an entry apart.
        let shifted: Vec<Mat<f64>> = tasks
            .iter()
            .map(|task| {
                Mat::from_fn(task.nrows(), task.ncols(), |row, col| {
                    task[(row, col)] * (1.0 + 1e-9 * ((row * 7 + col * 3) % 5) as f64)
                })
            })
            .collect();
        let change = largest_relative_difference(&dense_tsv(&shifted), &dense_tsv(&tasks));
        assert_eq!(change < 1e-6, is_determined, "{group}: {change}");
        assert!(is_determined || change > 0.1, "{group}: {change}");

        // Where the recipe is determined, ours is the same; elsewhere, ours is determined.
        let merged = merge(&adapters, &options, &|_, _| {}).expect("a merge");
        let ours = merged.adapter.modules[path].update();
        if is_determined {
            let recipe = dense_tsv(&tasks);
            assert!(largest_relative_difference(&to_f64(&ours), &recipe) < 1e-6);
        }
        let scaled = merge(
            &adapters,
            &MergeOptions {
                weights: Some(vec![1.0 + 1e-9, 1.0 - 1e-9, 1.0]),
                ..options.clone()
            },
            &|_, _| {},
        );
        let scaled: Matrix = scaled.expect("a merge").adapter.modules[path].update();
        assert!(relative_difference(&scaled, &ours) < 1e-6);
    }
}
