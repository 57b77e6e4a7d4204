//! How long a UNet takes on the CPU, forward and for a training step of LoRA, and how much memory:
//! `cargo bench -p eigenmix-diffusion --bench diffusion -- UNET SIZE BATCH`, with a directory that
//! `benches/diffusion.py` wrote, which measures the same of diffusers and PEFT.

// As the command has it, so that neither measures the kernel clearing pages.
#[path = "../crates/eigenmix/src/allocator.rs"]
mod allocator;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_diffusion::{Unet, UnetConfig, UnetInput};
use eigenmix_models::{Adaptation, Checkpoint};
use eigenmix_moslora::lora;

const RANK: usize = 4;
const TARGETS: [&str; 4] = [".to_q", ".to_k", ".to_v", ".to_out.0"];

fn main() {
    allocator::keep_freed_memory();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let [directory, size, batch] = &arguments[..] else {
        println!("give UNET SIZE BATCH; benches/diffusion.py writes a UNet");
        return;
    };
    let [size, batch] = [size, batch].map(|number| number.parse().expect("a number"));
    let directory = PathBuf::from(directory);
    let checkpoint = Checkpoint::open_part(&directory, "diffusion_pytorch_model");
    let checkpoint = checkpoint.expect("a UNet");
    let config = UnetConfig::from_json(checkpoint.config(), &directory).expect("a UNet");
    let mut adaptation = Adaptation::default();
    for layer in config.describe().layers {
        if TARGETS.iter().any(|target| layer.path.ends_with(target)) {
            let update = lora(&layer.path, 0, [layer.d_out, layer.d_in], RANK, 1.0, 0.0);
            adaptation.updates.insert(layer.path, update);
        }
    }
    for (what, device) in [
        ("forward", Device::flex()),
        ("step by blocks", Device::flex().autodiff()),
        ("step", Device::flex().autodiff()),
    ] {
        let loaded = Unet::load(&checkpoint, &config, &adaptation, &device).expect("a UNet");
        let input = UnetInput {
            sample: wave([batch, 4, size, size], &device),
            timesteps: vec![400.0; batch],
            states: wave([batch, 77, config.cross_attention_dim], &device),
            added: None,
        };
        let noise = wave([batch, 4, size, size], &device) * 0.7;
        let objective = |output: Tensor<4>| (output - noise.clone()).square().mean();
        let run = || match what {
            "forward" => drop(loaded.unet.forward(&input).into_data()),
            "step" => drop(objective(loaded.unet.forward(&input)).backward()),
            _ => drop(loaded.unet.backward_by_blocks(&input, objective, drop)),
        };
        run();
        let mut measured: Vec<[f64; 2]> = (0..3)
            .map(|_| {
                let (start, before) = (Instant::now(), processor_seconds());
                run();
                [start.elapsed().as_secs_f64(), processor_seconds() - before]
            })
            .collect();
        measured.sort_by(|one, other| one[0].total_cmp(&other[0]));
        let [wall, processor] = measured[1];
        println!(
            "{what}: {wall:.2} s, {processor:.2} s of all processors, {:.2} GiB at most",
            peak()
        );
    }
}

fn wave<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|at| (at as f32 * 0.91).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The largest resident set so far, in GiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / f64::from(1 << 20)
}

/// What all threads have computed so far.
fn processor_seconds() -> f64 {
    // The fourteenth and fifteenth field, in hundredths: in user mode and in the system.
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = status.rsplit(") ").next().unwrap_or_default();
    let times = fields.split(' ').skip(11).take(2);
    times
        .filter_map(|time| time.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
