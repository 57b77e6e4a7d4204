//! Parts of the models, one by one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Workplace;
use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, encode, write_tensor_file};

use crate::files::*;

#[test]
fn a_unet_gives_the_outputs_of_diffusers_with_adapters_in_every_form() {
    for kind in ["sd", "sdxl"] {
        let place = Workplace::new();
        let outcome = forward(&place, kind, "unet", None, &UNET);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert_output(&place, kind, "sample", "unet.out.base");
        for adapter in ["attention", "convolutions", "patterns"] {
            let directory = golden(kind).join(format!("adapter-{adapter}"));
            let forms = [
                "",
                "unet",
                "kohya.safetensors",
                "pytorch_lora_weights.safetensors",
            ];
            for form in forms.map(|form| directory.join(form)) {
                let is_there = match form == directory.join("") {
                    true => directory.join("unet").is_dir(),
                    false => form.exists(),
                };
                if !is_there {
                    continue;
                }
                let outcome = forward(&place, kind, "unet", Some(text(&form)), &UNET);
                assert_eq!(outcome.status, 0, "{form:?}: {outcome:?}");
                assert_output(&place, kind, "sample", &format!("unet.out.{adapter}"));
            }
        }
    }
}

#[test]
fn texts_and_images_give_what_diffusers_makes_of_them() {
    for kind in ["sd", "sdxl"] {
        let place = Workplace::new();
        let names = [("input_ids", "text.ids"), ("input_ids_2", "text.ids_2")];
        let adapter = golden(kind).join("adapter-text/kohya.safetensors");
        for (adapter, ending) in [(None, ""), (Some(text(&adapter)), ".text")] {
            let outcome = forward(&place, kind, "text", adapter, &names);
            assert_eq!(outcome.status, 0, "{outcome:?}");
            let states = format!("text.unet_states{ending}");
            assert_output(&place, kind, "encoder_hidden_states", &states);
            if kind == "sdxl" {
                assert_output(&place, kind, "pooled", &format!("text.unet_pooled{ending}"));
            }
        }
        let outcome = forward(
            &place,
            kind,
            "vae-encode",
            None,
            &[("pixel_values", "vae.image")],
        );
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert_output(&place, kind, "mean", "vae.mean");
        assert_output(&place, kind, "logvar", "vae.logvar");
        let names = [("latents", "vae.decode_input")];
        let outcome = forward(&place, kind, "vae-decode", None, &names);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert_output(&place, kind, "sample", "vae.decoded");
    }
}

/// The weights of a part in half precision, as `NAME.fp16.safetensors`.
fn halve(directory: &Path, stem: &str) {
    let whole = directory.join(format!("{stem}.safetensors"));
    let file = TensorFile::open(&whole).expect("weights");
    let named: Vec<_> = file
        .names()
        .map(|name| {
            let values = file.read_f32(name).expect("values");
            let bytes = encode(name, &values, Dtype::F16).expect("values that fit");
            (
                name.to_owned(),
                file.shape(name).expect("a shape").to_vec(),
                bytes,
            )
        })
        .collect();
    drop(file);
    let outputs = named
        .iter()
        .map(|(name, shape, bytes)| {
            TensorOutput::bytes(name.clone(), shape.clone(), Dtype::F16, bytes)
        })
        .collect();
    let half = directory.join(format!("{stem}.fp16.safetensors"));
    write_tensor_file(&half, outputs).expect("a file");
    fs::remove_file(whole).expect("a file");
}

#[test]
fn weights_that_stay_in_half_precision_compute_as_the_same_ones_widened() {
    let place = Workplace::new();
    let base = PathBuf::from(without(&place, "nothing"));
    halve(&base.join("unet"), "diffusion_pytorch_model");
    let inputs = write_inputs(&place, "sd", &UNET);
    let adapter = golden("sd").join("adapter-convolutions/kohya.safetensors");
    let run = |weights: &str| {
        let outcome = place.run(&[
            "forward",
            "--base",
            text(&base),
            "--part",
            "unet",
            "--weights",
            weights,
            "--adapter",
            text(&adapter),
            "--inputs",
            &inputs,
            "--out",
            weights,
        ]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let file = TensorFile::open(&place.path(weights)).expect("outputs");
        file.read_f32("sample").expect("a sample")
    };
    let [wide, stored, quantised] = ["float32", "stored", "int8"].map(run);
    let size = wide.iter().fold(0.0f32, |all, value| all.max(value.abs()));
    let distance = |found: &[f32]| crate::support::largest_difference(found, &wide) / size;
    assert!(distance(&stored) < 1e-5, "{}", distance(&stored));
    // Linear layers in eight bits; convolutions stay in half precision.
    let rounded = distance(&quantised);
    assert!(rounded > 1e-5 && rounded < 0.1, "{rounded}");
}
