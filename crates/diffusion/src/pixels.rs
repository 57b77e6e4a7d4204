//! Images as rows of channels, which is how the layers compute with them.

use burn::tensor::Tensor;

/// Images whose pixels are rows.
#[derive(Clone, Debug)]
pub(crate) struct Pixels {
    /// `[images · height · width, channels]`
    pub rows: Tensor<2>,
    pub images: usize,
    /// Height and width.
    pub size: [usize; 2],
}

impl Pixels {
    /// - images: `[images, channels, height, width]`
    pub fn of(images: Tensor<4>) -> Self {
        let [count, channels, height, width] = images.dims();
        let rows = images.permute([0, 2, 3, 1]);
        Self {
            rows: rows.reshape([count * height * width, channels]),
            images: count,
            size: [height, width],
        }
    }

    /// `[images, channels, height, width]`
    pub fn into_images(self) -> Tensor<4> {
        let [_, channels] = self.rows.dims();
        let [height, width] = self.size;
        let rows = self.rows.reshape([self.images, height, width, channels]);
        rows.permute([0, 3, 1, 2])
    }

    /// Other channels of the same pixels.
    pub fn with(&self, rows: Tensor<2>) -> Self {
        Self {
            rows,
            images: self.images,
            size: self.size,
        }
    }

    /// The pixels of one image.
    pub fn count(&self) -> usize {
        self.size[0] * self.size[1]
    }
}
