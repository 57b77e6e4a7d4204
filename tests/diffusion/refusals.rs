//! What is not run, and why.

use std::fs;
use std::path::PathBuf;

use crate::support::Workplace;
use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::files::*;

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let place = Workplace::new();
    let names = [("sample", "unet.latents")];
    let refused = |part: &str, adapter: Option<&str>, names: &[(&str, &str)], words: &[&str]| {
        let outcome = forward(&place, "sd", part, adapter, names);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
        }
    };
    refused("unet", None, &names, &["input.timestep"]);
    let narrow = [UNET[0], UNET[1], ("encoder_hidden_states", "vae.image")];
    refused(
        "unet",
        None,
        &narrow,
        &["input.encoder_hidden_states", "tokens, "],
    );
    let other = golden("sdxl").join("adapter-attention/kohya.safetensors");
    refused("unet", Some(text(&other)), &UNET, &["is for SDXL"]);

    // Without a part.
    let base = golden("sd").join("base");
    let inputs = write_inputs(&place, "sd", &UNET);
    let outcome = place.run(&[
        "forward",
        "--base",
        text(&base),
        "--inputs",
        &inputs,
        "--out",
        "out.safetensors",
        "--force",
    ]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("vae-decode"), "{}", outcome.stderr);
}

#[test]
fn a_missing_part_is_named_with_what_works_without_it() {
    let place = Workplace::new();
    for (part, run, works) in [
        ("unet", "unet", "vae-encode"),
        ("vae", "vae-decode", "--part unet"),
        ("text_encoder", "text", "--part unet"),
    ] {
        let base = without(&place, part);
        let inputs = write_inputs(&place, "sd", &UNET);
        let outcome = place.run(&[
            "forward", "--base", &base, "--part", run, "--inputs", &inputs, "--out", "out",
            "--force",
        ]);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(
            outcome.stderr.contains(&format!("has no `{part}`")),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains(works), "{}", outcome.stderr);
    }
    let base = without(&place, "vae");
    let outcome = place.run(&[
        "generate", "--base", &base, "--prompt", "a fox", "--out", "images",
    ]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("has no `vae`"),
        "{}",
        outcome.stderr
    );
    assert!(!place.path("images").exists());
}

#[test]
fn weights_that_are_not_finite_are_found_and_named() {
    let place = Workplace::new();
    let base = PathBuf::from(without(&place, "nothing"));
    let path = base.join("vae/diffusion_pytorch_model.safetensors");
    let file = TensorFile::open(&path).expect("a VAE");
    let broken = "decoder.conv_in.bias";
    let named = file.names().map(|name| {
        let (shape, dtype) = file.tensor(name).expect("a tensor");
        let mut bytes = file.view(name).expect("a tensor").to_vec();
        if name == broken {
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        (name.to_owned(), shape, dtype, bytes)
    });
    let named: Vec<_> = named.collect();
    drop(file);
    let outputs = named
        .iter()
        .map(|(name, shape, dtype, bytes)| {
            TensorOutput::bytes(name.clone(), shape.clone(), *dtype, bytes)
        })
        .collect();
    write_tensor_file(&path, outputs).expect("a file");
    let inputs = write_inputs(&place, "sd", &[("latents", "vae.decode_input")]);
    let outcome = place.run(&[
        "forward",
        "--base",
        text(&base),
        "--part",
        "vae-decode",
        "--inputs",
        &inputs,
        "--out",
        "out",
    ]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains(broken), "{}", outcome.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn modules_of_no_part_are_named_and_left_out_only_if_asked() {
    let place = Workplace::new();
    let file = golden("sd").join("adapter-text/kohya.safetensors");
    let file = TensorFile::open(&file).expect("an adapter");
    let mut named: Vec<_> = file
        .names()
        .map(|name| {
            let (shape, dtype) = file.tensor(name).expect("a tensor");
            let bytes = file.view(name).expect("a tensor").to_vec();
            (name.to_owned(), shape, dtype, bytes)
        })
        .collect();
    let stranger = "lora_te3_text_model_encoder_layers_0_self_attn_q_proj";
    for (end, shape) in [
        ("lora_down.weight", vec![1, 2]),
        ("lora_up.weight", vec![2, 1]),
    ] {
        let bytes = [1f32, 2.0].iter().flat_map(|value| value.to_le_bytes());
        let name = format!("{stranger}.{end}");
        named.push((name, shape, Dtype::F32, bytes.collect()));
    }
    let outputs = named.iter().map(|(name, shape, dtype, bytes)| {
        TensorOutput::bytes(name.clone(), shape.clone(), *dtype, bytes)
    });
    write_tensor_file(&place.path("more.safetensors"), outputs.collect()).expect("a file");
    let base = golden("sd").join("base");
    let inputs = write_inputs(&place, "sd", &UNET);
    let run = |options: &[&str]| {
        let start = [
            "forward",
            "--base",
            text(&base),
            "--adapter",
            "more.safetensors",
        ];
        let rest = [
            "--part",
            "unet",
            "--inputs",
            &inputs,
            "--out",
            "out.safetensors",
        ];
        place.run(&[&start[..], &rest, options].concat())
    };
    let refused = run(&[]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("te3"), "{refused:?}");
    let partial = run(&["--allow-partial"]);
    assert_eq!(partial.status, 0, "{partial:?}");
}

#[test]
fn a_scheduler_of_other_noise_is_refused_with_what_it_asks_for() {
    let place = Workplace::new();
    let base = PathBuf::from(without(&place, "nothing"));
    let path = base.join("scheduler/scheduler_config.json");
    let original = fs::read_to_string(&path).expect("a file");
    let generate = |sampler: &str, guidance: &str| {
        let start = [
            "generate",
            "--base",
            text(&base),
            "--prompt",
            "a fox",
            "--steps",
            "2",
        ];
        let rest = [
            "--sampler",
            sampler,
            "--guidance",
            guidance,
            "--out",
            "images",
        ];
        place.run(&[&start[..], &rest].concat())
    };
    for (key, value, sampler, word) in [
        (
            "_class_name",
            json!("FlowMatchEulerDiscreteScheduler"),
            "euler",
            "_class_name",
        ),
        ("sigma_max", json!(80.0), "euler", "sigma_max"),
        (
            "lambda_min_clipped",
            json!(-5.1),
            "dpm-solver",
            "lambda_min_clipped",
        ),
        (
            "trained_betas",
            json!([0.1, 0.2]),
            "ddim",
            "2 values for 1000",
        ),
        (
            "rescale_betas_zero_snr",
            json!(true),
            "ddim",
            "prediction_type",
        ),
    ] {
        let mut config: Value = serde_json::from_str(&original).expect("JSON");
        config[key] = value;
        fs::write(&path, config.to_string()).expect("a file");
        let refused = generate(sampler, "1");
        assert_eq!(refused.status, 2, "{key}: {refused:?}");
        assert!(refused.stderr.contains(word), "{key}: {refused:?}");
    }
    fs::write(&path, &original).expect("a file");
    let refused = generate("euler", "nan");
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("guidance"), "{refused:?}");
    fs::remove_file(&path).expect("a file");
    let refused = generate("euler", "1");
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("scheduler_config.json"),
        "{refused:?}"
    );
    assert!(!place.path("images").exists());
}
