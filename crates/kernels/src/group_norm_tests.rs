//! The operation beside its formulas in f64, and what normalising means.

use burn::tensor::Device;

use super::*;
use crate::waves::of_size_two;

/// The input, what is added, γ, β and the gradient of the output, in f64.
struct Case {
    shape: GroupNormShape,
    rows: usize,
    channels: usize,
    input: Vec<f64>,
    shift: Option<Vec<f64>>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    gradient: Vec<f64>,
}

impl Case {
    /// y, dx and dt, by the formulas of the operation's documentation.
    fn in_f64(&self) -> [Vec<f64>; 3] {
        let (images, groups) = (self.shape.images, self.shape.groups);
        let (pixels, width) = (self.rows / images, self.channels / groups);
        let mut found = [
            vec![0.0; self.rows * self.channels],
            vec![0.0; self.rows * self.channels],
            vec![0.0; images * self.channels],
        ];
        for (image, group) in (0..images).flat_map(|image| (0..groups).map(move |g| (image, g))) {
            let channels = group * width..(group + 1) * width;
            let places: Vec<(usize, usize)> = (image * pixels..(image + 1) * pixels)
                .flat_map(|row| channels.clone().map(move |channel| (row, channel)))
                .collect();
            let count = places.len() as f64;
            let value = |&(row, channel): &(usize, usize)| {
                let shift = self.shift.as_ref();
                let shift = shift.map_or(0.0, |shift| shift[image * self.channels + channel]);
                self.input[row * self.channels + channel] + shift
            };
            let mean = places.iter().map(value).sum::<f64>() / count;
            let squares = places.iter().map(|place| (value(place) - mean).powi(2));
            let deviation = (squares.sum::<f64>() / count + self.shape.epsilon).sqrt();
            // x̂ and h of every place.
            let slopes: Vec<[f64; 2]> = places
                .iter()
                .map(|place| {
                    let (row, channel) = *place;
                    let normalised = (value(place) - mean) / deviation;
                    let z = self.gamma[channel] * normalised + self.beta[channel];
                    let sigmoid = 1.0 / (1.0 + (-z).exp());
                    let (output, slope) = match self.shape.silu {
                        true => (z * sigmoid, sigmoid * (1.0 + z * (1.0 - sigmoid))),
                        false => (z, 1.0),
                    };
                    let index = row * self.channels + channel;
                    found[0][index] = output;
                    [
                        normalised,
                        self.gamma[channel] * self.gradient[index] * slope,
                    ]
                })
                .collect();
            let of_h = slopes.iter().map(|[_, h]| h).sum::<f64>() / count;
            let of_hx = slopes.iter().map(|[x, h]| x * h).sum::<f64>() / count;
            for (&(row, channel), [normalised, h]) in places.iter().zip(&slopes) {
                let slope = (h - of_h - normalised * of_hx) / deviation;
                found[1][row * self.channels + channel] = slope;
                found[2][image * self.channels + channel] += slope;
            }
        }
        found
    }
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    let values = tensor.clone().into_data().try_to_vec::<f32>().expect("f32");
    values.into_iter().map(f64::from).collect()
}

#[test]
fn outputs_and_gradients_are_those_of_f64() {
    let device = Device::flex().autodiff();
    // More pixels than a chunk holds, and few; with and without what is added and what follows.
    for (pixels, channels, groups) in [(700, 36, 4), (6, 10, 5), (600, 40, 1)] {
        for (silu, shifted) in [(true, true), (false, false), (true, false), (false, true)] {
            let images = 2;
            let shape = GroupNormShape {
                images,
                groups,
                epsilon: 1e-5,
                silu,
            };
            let rows = images * pixels;
            // A mean much larger than the deviation of a group.
            let input = (of_size_two(rows, channels, 0.1, &device) + 8.0).require_grad();
            let shift = of_size_two(images, channels, 0.7, &device).require_grad();
            let gamma = of_size_two(1, channels, 0.3, &device).reshape([channels]) + 2.5;
            let beta = of_size_two(1, channels, 0.9, &device).reshape([channels]);
            let weights = of_size_two(rows, channels, 2.3, &device);
            let case = Case {
                shape,
                rows,
                channels,
                input: values(&input),
                shift: shifted.then(|| values(&shift)),
                gamma: values(&gamma),
                beta: values(&beta),
                gradient: values(&weights),
            };
            let expected = case.in_f64();
            type Operation =
                fn(Tensor<2>, Option<Tensor<2>>, Tensor<1>, Tensor<1>, GroupNormShape) -> Tensor<2>;
            for operation in [group_norm as Operation, composed] {
                let with = shifted.then(|| shift.clone());
                let output = operation(input.clone(), with, gamma.clone(), beta.clone(), shape);
                let gradients = (output.clone() * weights.clone()).sum().backward();
                let of_input = input.grad(&gradients).expect("dx");
                let mut found = vec![values(&output), values(&of_input)];
                found.extend(shift.grad(&gradients).map(|found| values(&found)));
                assert_eq!(found.len(), 2 + usize::from(shifted));
                for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let pairs = found.iter().zip(expected);
                    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    // What the shift sums cancels; each of its terms is of f32.
                    let terms = if which == 2 { pixels as f64 } else { 1.0 };
                    let bound = 3e-5 + 1e-6 * (terms - 1.0);
                    assert!(difference < bound, "{shape:?}, {which}: {difference}");
                }
            }
        }
    }
}

#[test]
fn a_group_of_an_image_has_mean_zero_and_variance_one() {
    let device = Device::flex();
    let shape = GroupNormShape {
        images: 2,
        groups: 3,
        epsilon: 0.0,
        silu: false,
    };
    let input = of_size_two(2 * 50, 12, 0.4, &device);
    let (ones, zeros) = (Tensor::ones([12], &device), Tensor::zeros([12], &device));
    let output = group_norm(input, None, ones, zeros, shape);
    let values = output.into_data().try_to_vec::<f32>().expect("f32");
    for (image, group) in [(0, 0), (0, 2), (1, 1)] {
        let of_group = |index: &usize| index / 600 == image && index % 12 / 4 == group;
        let group: Vec<f64> = (0..values.len())
            .filter(of_group)
            .map(|index| f64::from(values[index]))
            .collect();
        let mean = group.iter().sum::<f64>() / 200.0;
        let variance = group.iter().map(|value| value * value).sum::<f64>() / 200.0;
        assert!(
            mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5,
            "{mean} {variance}"
        );
    }
}
