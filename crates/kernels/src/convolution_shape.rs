//! The sizes of a convolution, and which input pixel each place of a kernel falls on.

use std::sync::Arc;

/// A convolution of images whose pixels are rows of channels: `[images · height · width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvolutionShape {
    pub images: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width to which the input is enlarged first, each pixel taking the nearest one
    /// before it; those of the input if it is not.
    pub enlarged: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    pub stride: usize,
    /// Rows and columns of zeros around the image: above and to the left, below and to the right.
    pub padding: [usize; 2],
}

impl ConvolutionShape {
    /// A convolution with the same padding on all sides.
    pub fn new(
        images: usize,
        input: [usize; 2],
        kernel: [usize; 2],
        stride: usize,
        padding: usize,
    ) -> Self {
        Self {
            images,
            input,
            enlarged: input,
            kernel,
            stride,
            padding: [padding; 2],
        }
    }

    /// Height and width of the output.
    ///
    /// # Panics
    /// If the kernel is larger than the padded image.
    pub fn output(&self) -> [usize; 2] {
        let size = |axis: usize| {
            let padded = self.enlarged[axis] + self.padding[0] + self.padding[1];
            assert!(
                padded >= self.kernel[axis],
                "a kernel of {:?} on an image of {:?}",
                self.kernel,
                self.enlarged
            );
            (padded - self.kernel[axis]) / self.stride + 1
        };
        [size(0), size(1)]
    }

    /// Pixels of all inputs together.
    pub fn input_rows(&self) -> usize {
        self.images * self.input[0] * self.input[1]
    }

    /// Pixels of all outputs together.
    pub fn output_rows(&self) -> usize {
        let [height, width] = self.output();
        self.images * height * width
    }

    /// Places of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(crate) fn is_enlarged(&self) -> bool {
        self.enlarged != self.input
    }

    /// From pixels of the output to those of the input that the kernel covers there.
    pub(crate) fn forward(&self) -> Windows {
        let axis = |axis: usize| {
            let [from, enlarged] = [self.input[axis], self.enlarged[axis]];
            let places = self.places(axis, self.output()[axis], |output, tap| {
                let place = (output * self.stride + tap).checked_sub(self.padding[0])?;
                (place < enlarged).then_some(place * from / enlarged)
            });
            (places, from)
        };
        self.windows([axis(0), axis(1)])
    }

    /// From pixels of the enlarged input to those of the output that they contribute to: the
    /// windows of the gradient.
    pub(crate) fn backward(&self) -> Windows {
        let output = self.output();
        let axis = |axis: usize| {
            let places = self.places(axis, self.enlarged[axis], |input, tap| {
                let place = (input + self.padding[0]).checked_sub(tap)?;
                let is_one = place.is_multiple_of(self.stride);
                (is_one && place / self.stride < output[axis]).then_some(place / self.stride)
            });
            (places, output[axis])
        };
        self.windows([axis(0), axis(1)])
    }

    fn places(
        &self,
        axis: usize,
        count: usize,
        place: impl Fn(usize, usize) -> Option<usize>,
    ) -> Arc<[Option<usize>]> {
        let kernel = self.kernel[axis];
        (0..count * kernel)
            .map(|index| place(index / kernel, index % kernel))
            .collect()
    }

    fn windows(&self, [rows, cols]: [(Arc<[Option<usize>]>, usize); 2]) -> Windows {
        Windows {
            images: self.images,
            kernel: self.kernel,
            from: [rows.1, cols.1],
            rows: rows.0,
            cols: cols.0,
        }
    }
}

/// For every pixel of one image and every place of the kernel: which pixel of another image it is.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub images: usize,
    kernel: [usize; 2],
    /// Height and width of the images that are read.
    from: [usize; 2],
    /// `[height, kernel height]`: the row that is read, if there is one.
    rows: Arc<[Option<usize>]>,
    /// `[width, kernel width]`.
    cols: Arc<[Option<usize>]>,
}

impl Windows {
    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.images * self.rows.len() / self.kernel[0] * (self.cols.len() / self.kernel[1])
    }

    /// A window, for its pixels.
    #[inline(always)]
    pub fn window(&self, index: usize) -> Window<'_> {
        let [kernel_height, kernel_width] = self.kernel;
        let height = self.rows.len() / kernel_height;
        let width = self.cols.len() / kernel_width;
        let (image, within) = (index / (height * width), index % (height * width));
        let (row, col) = (within / width, within % width);
        Window {
            first: image * self.from[0] * self.from[1],
            width: self.from[1],
            rows: &self.rows[row * kernel_height..][..kernel_height],
            cols: &self.cols[col * kernel_width..][..kernel_width],
        }
    }
}

/// The pixels that the kernel covers at one place of the output.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    /// The first pixel of the image.
    first: usize,
    width: usize,
    rows: &'a [Option<usize>],
    cols: &'a [Option<usize>],
}

impl Window<'_> {
    /// The pixel of all images that is read at place `tap`, or `None` in the padding.
    #[inline(always)]
    pub fn pixel(&self, tap: usize) -> Option<usize> {
        let kernel_width = self.cols.len();
        let row = self.rows[tap / kernel_width]?;
        let col = self.cols[tap % kernel_width]?;
        Some(self.first + row * self.width + col)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> ConvolutionShape {
        ConvolutionShape::new(2, [5, 7], [3, 3], 2, 1)
    }

    #[test]
    fn both_directions_name_the_same_pairs_of_pixels() {
        let odd = ConvolutionShape {
            padding: [0, 1],
            ..shape()
        };
        for shape in [shape(), odd] {
            let mut forward = Vec::new();
            for output in 0..shape.output_rows() {
                for tap in 0..shape.taps() {
                    let input = shape.forward().window(output).pixel(tap);
                    forward.extend(input.map(|input| (input, tap, output)));
                }
            }
            let mut backward = Vec::new();
            for input in 0..shape.input_rows() {
                for tap in 0..shape.taps() {
                    let output = shape.backward().window(input).pixel(tap);
                    backward.extend(output.map(|output| (input, tap, output)));
                }
            }
            forward.sort_unstable();
            assert_eq!(forward, backward);
            assert_eq!(shape.backward().count(), shape.input_rows());
            assert_eq!(shape.forward().count(), shape.output_rows());
        }
    }

    #[test]
    fn an_odd_size_takes_the_nearest_pixel_before() {
        // As torch.nn.functional.interpolate(size=7, mode="nearest") of four pixels.
        let shape = ConvolutionShape {
            enlarged: [1, 7],
            ..ConvolutionShape::new(1, [1, 4], [1, 1], 1, 0)
        };
        let windows = shape.forward();
        let found: Vec<_> = (0..7)
            .map(|col| windows.window(col).pixel(0).unwrap())
            .collect();
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 3]);
    }
}
