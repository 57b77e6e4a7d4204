//! Values that tests compute with: different everywhere, and the same on every machine.

use burn::tensor::{Device, Tensor, TensorData};

/// `[rows, cols]` of values between −1 and 1.
pub(crate) fn of_size_one(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
    waves(rows, cols, phase, 1.0, device)
}

/// `[rows, cols]` of values between −2 and 2.
pub(crate) fn of_size_two(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
    waves(rows, cols, phase, 2.0, device)
}

fn waves(rows: usize, cols: usize, phase: f32, size: f32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * cols)
        .map(|i| (i as f32 * 0.91 + phase).sin() * size)
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}
