//! A batch of images of one size.

/// Images as a model's own preprocessing leaves them.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// `[images, channels, size, size]`
    pixels: Vec<f32>,
    images: usize,
    channels: usize,
    size: usize,
}

impl ImageBatch {
    /// - pixels: `[images, channels, size, size]`, row-major
    ///
    /// # Panics
    /// If there are more or fewer values than that.
    pub fn new(pixels: Vec<f32>, [images, channels, size]: [usize; 3]) -> Self {
        assert_eq!(
            pixels.len(),
            images * channels * size * size,
            "pixels of {images} images"
        );
        Self {
            pixels,
            images,
            channels,
            size,
        }
    }

    /// Batches of the same shape as one; `None` of none.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn joined<'b>(batches: impl IntoIterator<Item = &'b Self>) -> Option<Self> {
        batches.into_iter().fold(None, |all, batch| match all {
            None => Some(batch.clone()),
            Some(mut all) => {
                assert_eq!(all.shape(), batch.shape(), "images of one shape");
                all.pixels.extend_from_slice(&batch.pixels);
                all.images += batch.images;
                Some(all)
            }
        })
    }

    /// How many there are.
    pub fn images(&self) -> usize {
        self.images
    }

    /// [channels, size] of each.
    pub fn shape(&self) -> [usize; 2] {
        [self.channels, self.size]
    }

    /// `[images, channels, size, size]`, row-major.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// The images cut into squares: `[images · ⌊size / patch⌋², channels · patch²]`, row by row, the values of
    /// a square in the order of a convolution's kernel. What is left at the right and below is not read, as
    /// by a convolution.
    ///
    /// # Panics
    /// If `patch` is 0.
    pub(crate) fn patches(&self, patch: usize) -> Vec<f32> {
        let (size, across) = (self.size, self.size / patch);
        let mut patches = Vec::with_capacity(self.pixels.len());
        for image in self.pixels.chunks_exact(self.channels * size * size) {
            for square in 0..across * across {
                let (top, left) = (square / across * patch, square % across * patch);
                for channel in image.chunks_exact(size * size) {
                    for row in channel.chunks_exact(size).skip(top).take(patch) {
                        patches.extend_from_slice(&row[left..left + patch]);
                    }
                }
            }
        }
        patches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_row_by_row_with_all_channels_of_a_square_together() {
        // Two channels of 4 × 4: 0 … 15 and 100 … 115.
        let pixels = (0..16).chain(100..116).map(|pixel| pixel as f32).collect();
        let patches = ImageBatch::new(pixels, [1, 2, 4]).patches(2);
        assert_eq!(patches[..8], [0., 1., 4., 5., 100., 101., 104., 105.]);
        assert_eq!(patches[8..12], [2., 3., 6., 7.]);
        assert_eq!(patches[24..28], [10., 11., 14., 15.]);
        // Squares of 3 in lines of 4.
        let pixels = (0..16).map(|pixel| pixel as f32).collect();
        let patches = ImageBatch::new(pixels, [1, 1, 4]).patches(3);
        assert_eq!(patches, [0., 1., 2., 4., 5., 6., 8., 9., 10.]);
    }
}
