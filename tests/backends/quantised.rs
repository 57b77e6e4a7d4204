//! Weights in every form of few bits on every backend that is built and finds a device, against the CPU's.

use burn::tensor::{Device, Tensor};
use eigenmix_kernels::{FrozenWeight, Weight, sum_of_rows};
use eigenmix_quant::EncodedMatrix;

use crate::comparisons::other_backends;
use crate::every_form::every_form;
use crate::operations::values;

/// x · Wᵀ of so many rows, the gradient of x, and some rows of W.
fn found(matrix: &EncodedMatrix, count: usize, device: &Device) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let [d_out, d_in] = matrix.shape();
    let weight = Weight::Frozen(FrozenWeight::encoded(matrix.clone(), &device));
    let input = values([count, d_in], 0.3, &device).require_grad();
    let output = weight.product(input.clone());
    let slopes = values([count, d_out], 1.7, &device);
    let gradients = (output.clone() * slopes).sum().backward();
    let rows = sum_of_rows(&[(&weight, &[3, 0, d_out as i32 - 1])]);
    let gradient = input.grad(&gradients).expect("a gradient");
    [output.inner(), gradient, inner(rows)]
        .map(|tensor| tensor.into_data().try_to_vec().expect("f32"))
}

fn inner(tensor: Tensor<2>) -> Tensor<2> {
    match tensor.device().is_autodiff() {
        true => tensor.inner(),
        false => tensor,
    }
}

#[test]
fn weights_of_every_form_are_those_of_the_cpu() {
    // Two of the largest blocks, and an odd number of rows.
    let forms = every_form(13, 512);
    for choice in other_backends() {
        let other = choice.open().expect("the device");
        for matrix in &forms {
            let mut worst = 0.0f32;
            // Few rows, which are multiplied while the weight is decoded, and more.
            let pairs = [5, 12].into_iter().flat_map(|count| {
                let found_here = found(matrix, count, &other).into_iter();
                found_here.zip(found(matrix, count, &Device::flex()))
            });
            for (found, expected) in pairs {
                assert_eq!(found.len(), expected.len(), "{}", matrix.name());
                let largest = expected.iter().fold(0.1f32, |all, one| all.max(one.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    let difference = (found - expected).abs() / largest;
                    // Sums of 512 products in another order; half precision, where a device keeps it, has
                    // 8 bits.
                    let is_half = matches!(matrix.name(), "F16" | "BF16");
                    let most = if is_half { 1e-2 } else { 2e-5 };
                    let what = format!("{} on {choice}", matrix.name());
                    assert!(difference < most, "{what}: {found} {expected}");
                    worst = worst.max(difference);
                }
            }
            let name = matrix.name();
            println!("{name} on {choice}: at most {worst:.1e} of the largest");
        }
    }
}
