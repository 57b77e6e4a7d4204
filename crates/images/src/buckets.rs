//! Sizes of about the same area and different proportions: every image is trained at the nearest, so that
//! little of it is cut away.

/// The sizes that training images are brought to, as NovelAI described them and the appendix of SDXL's
/// paper (table 1 in section I) lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Heights and widths, by height, then width.
    sizes: Vec<[usize; 2]>,
}

impl Buckets {
    /// All sizes whose sides are multiples of `step` and whose area is at most `area`, and which with
    /// their shorter side longer by a step would exceed it; of these, those whose longer side is at most
    /// `aspect` times the shorter.
    ///
    /// For 1024², 64 and 4 these are the sizes of SDXL but for four smaller ones (704 × 1344, 832 × 1152,
    /// 896 × 1088, 960 × 1024).
    ///
    /// - area: in pixels
    /// - step: in pixels, at least 1
    pub fn new(area: usize, step: usize, aspect: f64) -> Self {
        let step = step.max(1);
        let mut sizes = Vec::new();
        for side in (step..=area / step).step_by(step) {
            let other = area / side / step * step;
            let (short, long) = (side.min(other), side.max(other));
            if short > 0 && long as f64 <= aspect * short as f64 {
                sizes.extend([[side, other], [other, side]]);
            }
        }
        sizes.sort_unstable();
        sizes.dedup();
        Self { sizes }
    }

    /// Heights and widths, by height, then width.
    pub fn sizes(&self) -> &[[usize; 2]] {
        &self.sizes
    }

    /// The size with the proportions nearest to those of an image, measured by the logarithm, so that a
    /// turned image gets the turned size; of several, the largest. `None` where there are no sizes.
    ///
    /// - size: height and width
    pub fn nearest(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let proportion = |[height, width]: [usize; 2]| (width as f64 / height as f64).ln();
        let wanted = proportion(size);
        let distance = |size: [usize; 2]| (proportion(size) - wanted).abs();
        let order = |a: &&[usize; 2], b: &&[usize; 2]| {
            let larger = (b[0] * b[1]).cmp(&(a[0] * a[1]));
            distance(**a).total_cmp(&distance(**b)).then(larger)
        };
        self.sizes.iter().min_by(order).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1 of the appendix of SDXL's paper: heights and widths, the upper half; the lower is the
    /// same turned.
    const SDXL: [[usize; 2]; 21] = [
        [512, 2048],
        [512, 1984],
        [512, 1920],
        [512, 1856],
        [576, 1792],
        [576, 1728],
        [576, 1664],
        [640, 1600],
        [640, 1536],
        [704, 1472],
        [704, 1408],
        [704, 1344],
        [768, 1344],
        [768, 1280],
        [832, 1216],
        [832, 1152],
        [896, 1152],
        [896, 1088],
        [960, 1088],
        [960, 1024],
        [1024, 1024],
    ];

    #[test]
    fn the_sizes_are_those_of_sdxl_but_for_four_smaller_ones() {
        let smaller = [[704, 1344], [832, 1152], [896, 1088], [960, 1024]];
        let mut expected: Vec<[usize; 2]> = SDXL
            .into_iter()
            .filter(|size| !smaller.contains(size))
            .flat_map(|[height, width]| [[height, width], [width, height]])
            .collect();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(Buckets::new(1024 * 1024, 64, 4.0).sizes(), expected);
    }

    #[test]
    fn no_size_exceeds_the_area_the_aspect_or_the_steps() {
        let buckets = Buckets::new(512 * 512, 32, 2.0);
        assert!(buckets.sizes().contains(&[512, 512]));
        for &[height, width] in buckets.sizes() {
            assert!(height * width <= 512 * 512);
            assert!(height % 32 == 0 && width % 32 == 0);
            assert!(height <= 2 * width && width <= 2 * height);
            assert!((height.min(width) + 32) * height.max(width) > 512 * 512);
            assert!(buckets.sizes().contains(&[width, height]));
        }
    }

    /// By hand: |ln(3000/2000) − ln(a)| is least for 1216/832 (0.026; 1152/896 gives 0.154).
    #[test]
    fn an_image_gets_the_nearest_proportions_and_turned_the_turned() {
        let buckets = Buckets::new(1024 * 1024, 64, 4.0);
        assert_eq!(buckets.nearest([2000, 3000]), Some([832, 1216]));
        assert_eq!(buckets.nearest([3000, 2000]), Some([1216, 832]));
        assert_eq!(buckets.nearest([77, 77]), Some([1024, 1024]));
        assert_eq!(buckets.nearest([10, 9000]), Some([512, 2048]));
    }

    #[test]
    fn of_equal_proportions_the_largest_size_counts() {
        // 64 × 128 and 128 × 256 are both there: 128 with 300 · 128 = 38 400 pixels is at most 256.
        let buckets = Buckets {
            sizes: vec![[64, 128], [128, 256]],
        };
        assert_eq!(buckets.nearest([5, 10]), Some([128, 256]));
    }

    #[test]
    fn steps_larger_than_the_area_leave_no_size() {
        let buckets = Buckets::new(32 * 32, 64, 4.0);
        assert!(buckets.sizes().is_empty());
        assert_eq!(buckets.nearest([32, 32]), None);
    }
}
