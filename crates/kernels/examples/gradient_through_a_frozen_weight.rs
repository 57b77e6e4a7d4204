//! A product with a frozen weight and the gradient of its input: dL/dx = dL/dy · W.
//!
//! `cargo run --release -p eigenmix-kernels --example gradient_through_a_frozen_weight`

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::{FrozenWeight, Weight};

fn main() {
    let device = Device::flex().autodiff();
    let matrix = |values: Vec<f32>, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values, shape), &device)
    };
    // [d_out, d_in] = [2, 3]
    let weight = matrix(vec![1.0, 0.0, 2.0, 0.0, 3.0, 0.0], [2, 3]);
    let weight = Weight::Frozen(FrozenWeight::from(weight));
    // [rows, d_in] = [1, 3]
    let x = matrix(vec![1.0, 4.0, 5.0], [1, 3]).require_grad();
    let y = weight.product(x.clone());
    println!("x · Wᵀ = {}", y.to_data());
    let gradients = y.sum().backward();
    let gradient = x.grad(&gradients).expect("x is tracked");
    println!("d sum / dx = {}", gradient.into_data());
}
