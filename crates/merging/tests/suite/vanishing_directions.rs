//! Isotropized merges of fewer directions than the space has: what in them is no matter of chance.

use eigenmix_eigenlorax::decomposition::{ThinSvd, product, to_f64};
use faer::Mat;

use crate::golden_merges::Pair;

/// On the directions of our merge, theirs is the same but for the mean, which is over more of them.
pub fn assert_equal_but_for_vanishing_directions(name: &str, pair: &Pair, tolerance: f64) {
    let isotropized = pair.isotropized;
    let theirs = to_f64(&pair.theirs);
    let ours = ThinSvd::new(to_f64(&pair.ours).as_ref()).expect("finite values");
    let u = ours.u.as_ref().subcols(0, pair.rank);
    let v = ours.v.as_ref().subcols(0, pair.rank);

    // The same sum of singular values, shared among the directions that there are, or among all.
    let mean = ours.s[0] * pair.rank as f64 / isotropized as f64;
    let on_our_directions = product(product(u.transpose(), theirs.as_ref()).as_ref(), v);
    let expected = faer::Scale(mean) * Mat::<f64>::identity(pair.rank, pair.rank);
    let agreement = (on_our_directions - expected).norm_max() / mean;
    assert!(agreement < tolerance, "{name}: {agreement}");

    // What they have besides has no part in our directions on either side: any rotation of it is
    // a singular value decomposition just as good.
    let known = faer::Scale(mean) * product(u, v.transpose());
    let rest = theirs - known;
    let overlap = product(u.transpose(), rest.as_ref()).norm_max();
    let overlap = overlap.max(product(rest.as_ref(), v).norm_max());
    assert!(overlap < tolerance * mean, "{name}: {overlap}");
    let rest = ThinSvd::new(rest.as_ref()).expect("finite values").s;
    for &value in &rest[..isotropized - pair.rank] {
        assert!((value - mean).abs() < tolerance * mean, "{name}: {value}");
    }
}
