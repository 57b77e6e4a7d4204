//! Isotropic merging: every direction of the merged update equally strong (Iso-C, arXiv 2502.04959).

/// Directions up to this fraction of the strongest are rounding of f32 entries, and are not raised.
const NEGLIGIBLE: f64 = 1e-6;

/// Replaces the singular values, largest first, by their mean over the directions that there are,
/// and drops the others.
///
/// The authors of Core Space also raise the directions that vanish, to the mean over all
/// min(d_out, d_in) of them. Which directions these are is up to the rounding of the decomposition,
/// so here they stay zero; where nothing vanishes, the two are the same.
pub(crate) fn isotropize(s: &mut Vec<f64>) {
    let strongest = s.first().copied().unwrap_or(0.0);
    let rank = s
        .iter()
        .take_while(|&&value| value > NEGLIGIBLE * strongest)
        .count();
    s.truncate(rank);
    let mean = s.iter().sum::<f64>() / rank as f64;
    s.fill(mean);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_become_their_mean_and_rounding_stays_out() {
        let mut s = vec![3.0, 2.0, 1.0, 1e-9];
        isotropize(&mut s);
        assert_eq!(s, [2.0, 2.0, 2.0]);
    }

    #[test]
    fn nothing_stays_nothing() {
        let mut s = vec![0.0, 0.0];
        isotropize(&mut s);
        assert!(s.is_empty());
    }
}
