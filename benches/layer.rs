//! How long an adapted linear layer takes forward and backward, by method and shape, and how close that
//! is to its two large products alone: `cargo bench --workspace --bench layer`.

// As the command has it, so that neither measures the kernel clearing pages.
#[path = "../crates/eigenmix/src/allocator.rs"]
mod allocator;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_moslora::{AdaptedLinear, EigenloraxStart, MixerInit, ParameterNames, Update};
use eigenmix_tensors::Matrix;

const REPETITIONS: usize = 15;
const RANK: usize = 8;
const COMPONENTS: usize = 16;

fn main() {
    allocator::keep_freed_memory();
    println!("median of {REPETITIONS}, forward and backward");
    for (what, rows, d_out, d_in) in [
        ("MiniLM, query, 32 × 128", 4096, 384, 384),
        ("MiniLM, up, 32 × 128", 4096, 1536, 384),
        ("RoBERTa-base, query, 16 × 128", 2048, 768, 768),
        ("100 M decoder, down, 4 × 256", 1024, 768, 2048),
        ("one short batch", 320, 384, 384),
    ] {
        println!("{what}: {rows} rows, {d_in} to {d_out}");
        let products = (4 * rows * d_out * d_in) as f64;
        for (method, update) in methods([d_out, d_in]) {
            let duration = forward_and_backward(rows, [d_out, d_in], update.as_ref());
            println!(
                "  {method:<10} {:8.2} ms, {:5.0} GFLOP/s of the base",
                duration.as_secs_f64() * 1e3,
                products / duration.as_secs_f64() * 1e-9
            );
        }
    }
}

fn methods(shape: [usize; 2]) -> Vec<(&'static str, Option<Update>)> {
    let [d_out, d_in] = shape;
    let basis = |rows, phase| matrix(rows, COMPONENTS, phase);
    let (left, right) = (basis(d_out, 0.1), basis(d_in, 0.2));
    let start = EigenloraxStart::Random;
    let (init, scaling, dropout) = (MixerInit::Kaiming, 0.5, 0.0);
    let recycled = eigenmix_moslora::eigenlorax(
        "layer",
        1,
        left.clone(),
        right.clone(),
        RANK,
        scaling,
        dropout,
        start,
    );
    let mixed = eigenmix_moslora::moslora("layer", 1, shape, RANK, scaling, dropout, init);
    vec![
        ("frozen", None),
        (
            "lora",
            Some(eigenmix_moslora::lora(
                "layer", 1, shape, RANK, scaling, dropout,
            )),
        ),
        ("moslora", Some(mixed)),
        ("eigenlorax", Some(recycled)),
        (
            "eigenmix",
            Some(eigenmix_moslora::eigenmix(
                left, right, scaling, dropout, None,
            )),
        ),
    ]
}

fn forward_and_backward(rows: usize, shape: [usize; 2], update: Option<&Update>) -> Duration {
    let device = Device::flex().autodiff();
    let [d_out, d_in] = shape;
    let weight = tensor(matrix(d_out, d_in, 0.3), &device);
    let mut layer = AdaptedLinear::frozen(weight, None);
    if let Some(update) = update {
        layer = layer.with_update(update, "layer", &mut ParameterNames::default());
    }
    let input = tensor(matrix(rows, d_in, 0.4), &device);
    let mut durations: Vec<Duration> = (0..=REPETITIONS)
        .map(|_| {
            let input = input.clone().require_grad();
            let start = Instant::now();
            let output = layer.forward(input.clone());
            let gradients = output.sum().backward();
            std::hint::black_box(input.grad(&gradients));
            start.elapsed()
        })
        .skip(1)
        .collect();
    durations.sort();
    durations[REPETITIONS / 2]
}

fn matrix(rows: usize, cols: usize, phase: f32) -> Matrix {
    Matrix::from_fn(rows, cols, |row, col| {
        ((row * 31 + col * 17) as f32 * 0.37 + phase).sin() * 0.1
    })
}

fn tensor(matrix: Matrix, device: &Device) -> Tensor<2> {
    let data = TensorData::new(matrix.values().to_vec(), matrix.shape());
    Tensor::from_data(data, device)
}
