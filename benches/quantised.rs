//! Products with weights in few bits, as a ratio to the same products with weights in f32: a row as in
//! generation, the rows of a training step forward and backward.
//!
//! ```sh
//! cargo bench -p eigenmix-kernels --bench quantised
//! ```

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::{FrozenWeight, Weight};
use eigenmix_quant::{EncodedMatrix, Encoding, int8, nf4};

/// A block like those of SmolLM2-135M, with widths that every format has blocks for, `[d_out, d_in]`.
const LAYERS: [[usize; 2]; 7] = [
    [512, 512],
    [256, 512],
    [256, 512],
    [512, 512],
    [1536, 512],
    [1536, 512],
    [512, 1536],
];
/// More weights than the caches hold, as in a model.
const BLOCKS: usize = 32;

fn encoded(encoding: Encoding, [d_out, d_in]: [usize; 2]) -> Option<EncodedMatrix> {
    let size = d_out * encoding.row_bytes(d_in)?;
    // Small scales whatever they are, and codes that differ.
    let bytes: Vec<u8> = (0..size).map(|index| (index * 151 % 61) as u8).collect();
    EncodedMatrix::blocks(encoding, [d_out, d_in], bytes.into()).ok()
}

fn waves(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| (index as f32 * 0.91).sin())
        .collect()
}

/// The weights of all blocks in one form.
fn model(form: &str, device: &Device) -> Option<Vec<Weight>> {
    let one = |shape: [usize; 2]| {
        let values = || waves(shape[0] * shape[1]);
        let matrix = match form {
            "f32" => {
                let data = TensorData::new(values(), shape);
                return Some(Tensor::<2>::from_data(data, device).into());
            }
            "NF4" => nf4(&values(), shape).ok()?.into(),
            "int8" => int8(&values(), shape).ok()?.into(),
            name => encoded(Encoding::all().find(|found| found.name() == name)?, shape)?,
        };
        Some(FrozenWeight::encoded(matrix, device))
    };
    let layers = (0..BLOCKS).flat_map(|_| LAYERS);
    layers.map(|shape| one(shape).map(Weight::Frozen)).collect()
}

/// Seconds of all products, the fastest of several passes.
fn measure(weights: &[Weight], rows: usize, is_backward: bool, device: &Device) -> f64 {
    let device = match is_backward {
        true => device.clone().autodiff(),
        false => device.clone(),
    };
    let inputs: Vec<Tensor<2>> = [512, 1536]
        .map(|width| {
            Tensor::from_data(TensorData::new(waves(rows * width), [rows, width]), &device)
        })
        .into();
    let passes = if rows < 100 { 5 } else { 1 };
    let times = (0..passes).map(|_| {
        let started = Instant::now();
        for weight in weights {
            let [_, d_in] = weight.dims();
            let input = inputs[usize::from(d_in == 1536)].clone();
            match is_backward {
                true => {
                    let input = input.require_grad();
                    let _ = weight.product(input).sum().backward();
                }
                false => drop(weight.product(input)),
            }
        }
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let device = Device::flex();
    // `cargo bench` adds a flag of its own.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let kinds = [(1, false), (4, false), (1024, false), (1024, true)];
    let of = |weights: &[Weight]| kinds.map(|(rows, back)| measure(weights, rows, back, &device));
    let base = of(&model("f32", &device).expect("f32"));
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9}",
        "", "1 row", "4 rows", "1024", "backward"
    );
    let milliseconds = base.map(|time| format!("{:6.1} ms", time * 1e3));
    println!("{:8} {}", "f32", milliseconds.join(" "));
    let names = Encoding::all().map(Encoding::name).chain(["NF4", "int8"]);
    for name in names.filter(|name| *name != "F32" && is_asked(name)) {
        let weights = model(name, &device).expect("a form for these widths");
        let ratios: Vec<String> = of(&weights)
            .iter()
            .zip(base)
            .map(|(time, base)| format!("{:9.2}", time / base))
            .collect();
        println!("{name:8} {}", ratios.join(" "));
    }
}
