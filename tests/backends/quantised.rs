//! Weights in every form of few bits on every backend that is built and finds a device, against the CPU's.

use std::fs;

use burn::tensor::{Device, Tensor};
use eigenmix_kernels::{FrozenWeight, Weight, sum_of_rows};
use eigenmix_quant::EncodedMatrix;

use eigenmix_trainer::DeviceChoice;

use crate::comparisons::other_backends;
use crate::every_form::every_form;
use crate::operations::values;
use crate::support::stopped_training::train_on;
use crate::support::{Workplace, quickstart};

const SMALL: f32 = 1e-9;

/// x · Wᵀ of so many rows, the gradient of x, and some rows of W.
fn found(matrix: &EncodedMatrix, count: usize, device: &Device) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let [d_out, d_in] = matrix.shape();
    let weight = Weight::Frozen(FrozenWeight::encoded(matrix.clone(), &device));
    let input = values([count, d_in], 0.3, &device).require_grad();
    let output = weight.product(input.clone());
    let slopes = values([count, d_out], 1.7, &device);
    // As small as those of a mean over many tokens, which half precision has not.
    let gradients = (output.clone() * slopes * SMALL).sum().backward();
    let rows = sum_of_rows(&[(&weight, &[3, 0, d_out as i32 - 1])]);
    let gradient = input.grad(&gradients).expect("a gradient") / SMALL;
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

#[test]
fn trainings_on_weights_in_few_bits_take_the_steps_of_the_cpu() {
    let place = Workplace::new();
    let data = place.path("data");
    fs::create_dir(&data).expect("a directory");
    let rows = (0..8).map(|row| format!("{{\"text\": \"a b{row} and c d {row} e\"}}\n"));
    fs::write(data.join("train.jsonl"), rows.collect::<String>()).expect("a file");
    for (file, weights) in [
        ("llama-Q4_1", "auto"),
        ("llama3-F16", "nf4"),
        ("llama3-F16", "int8"),
    ] {
        let base = quickstart(&format!("../../tests/golden/gguf/{file}.gguf"));
        for choice in other_backends() {
            let [expected, found] = [DeviceChoice::default(), choice].map(|device| {
                let output = place.path(&format!("{file}-{weights}-{device}").replace(':', "-"));
                let configuration = format!(
                    "seed = 3\noutput = {output:?}\n[base]\nmodel = {base:?}\nweights = \"{weights}\"\n\
                     [data]\npath = {data:?}\nmax_length = 16\n[task]\nkind = \"causal-lm\"\n\
                     [adapter]\nmethod = \"lora\"\nrank = 4\ntarget_modules = \"all-linear\"\n\
                     [training]\nepochs = 2\nbatch_size = 4\nlearning_rate = 5e-3\nlog_every = 1\n\
                     evaluate_every = 0\n"
                );
                train_on(device, &configuration, false, usize::MAX)
            });
            println!("{file} as {weights} on {choice}: losses {found:?}, on the CPU {expected:?}");
            assert!(expected.len() >= 4, "{expected:?}");
            assert_eq!(expected.len(), found.len());
            // What is not quantised is F16, which a GPU multiplies in half precision.
            let pairs = expected.iter().zip(&found);
            let largest = pairs.map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
            let most = if file.ends_with("F16") { 1e-4 } else { 1e-5 };
            assert!(largest < most, "{file} as {weights} on {choice}: {largest}");
        }
    }
}
