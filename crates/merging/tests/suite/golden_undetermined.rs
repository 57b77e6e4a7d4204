//! The 13 golden merges that nobody can compute again, and why: they contain directions of singular
//! value zero, which the rounding of the authors' decomposition chose.
//!
//! - `-iso` of a merged matrix that lacks directions: `same/core/ties-20`, `same/core/ties-50`,
//!   `mixed/core/ties-20`, `mixed/full/sum`, `mixed/knots/sum`, `…/ties-20` and `…/ties-50`.
//! - `tsv` and `tsv-iso` of `mixed` in every space: a share of 4 (or 3 in Core Space) triplets of
//!   adapters of rank 2, 4 and 3. In their KnOTS space all singular values are 1 besides, so that
//!   even which three triplets of the second adapter are the strongest is a matter of rounding.

use eigenmix_eigenlorax::LowRank;
use eigenmix_eigenlorax::decomposition::{ThinSvd, product, to_f64};
use eigenmix_merging::{MergeOptions, Method, Space, merge};
use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::golden::{Golden, Pair};
use crate::random_adapters::relative_difference;

/// On the directions of our merge, theirs is the same but for the mean, which is over more of them.
fn assert_equal_but_for_vanishing_directions(name: &str, pair: &Pair, isotropized: usize) {
    let theirs = to_f64(&pair.theirs);
    let ours = ThinSvd::new(to_f64(&pair.ours).as_ref()).expect("finite values");
    let u = ours.u.as_ref().subcols(0, pair.rank);
    let v = ours.v.as_ref().subcols(0, pair.rank);

    // The same sum of singular values, shared among the directions that there are, or among all.
    let mean = ours.s[0] * pair.rank as f64 / isotropized as f64;
    let on_our_directions = product(product(u.transpose(), theirs.as_ref()).as_ref(), v);
    let expected = faer::Scale(mean) * Mat::<f64>::identity(pair.rank, pair.rank);
    let agreement = (on_our_directions - expected).norm_max() / mean;
    assert!(agreement < 1e-4, "{name}: {agreement}");

    // What they have besides has no part in our directions on either side: any rotation of it is
    // a singular value decomposition just as good.
    let known = faer::Scale(mean) * product(u, v.transpose());
    let rest = theirs - known;
    let overlap = product(u.transpose(), rest.as_ref()).norm_max();
    let overlap = overlap.max(product(rest.as_ref(), v).norm_max());
    assert!(overlap < 1e-4 * mean, "{name}: {overlap}");
    let rest = ThinSvd::new(rest.as_ref()).expect("finite values").s;
    for &value in &rest[..isotropized - pair.rank] {
        assert!((value - mean).abs() < 1e-4 * mean, "{name}: {value}");
    }
}

#[test]
fn isotropized_merges_agree_but_for_the_directions_that_vanish() {
    let Some(golden) = Golden::open() else { return };
    let mut count = 0;
    for case in golden.cases() {
        let pairs = golden.pairs(&case);
        if case.options.method == Method::Tsv || !case.is_undetermined(&pairs) {
            continue;
        }
        count += 1;
        for pair in &pairs {
            let isotropized = case.isotropized(pair.ours.shape());
            assert_equal_but_for_vanishing_directions(&case.name, pair, isotropized);
        }
    }
    assert_eq!(count, 7);
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
    let Some(golden) = Golden::open() else { return };
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
