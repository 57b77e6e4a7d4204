//! Diffusion models through the whole command line: tests/golden/diffusion, see golden/README.md.
//!
//! `EIGENMIX_DIFFUSION_GOLDEN` may name the directory of another run of the script there.

mod support;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, encode, write_tensor_file};
use serde_json::{Value, json};
use support::{Outcome, Workplace};

/// What the command line promises of any base model's outputs, relative to the largest.
const TOLERANCE: f32 = 1e-4;

fn golden(name: &str) -> PathBuf {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffusion");
    let root = std::env::var_os("EIGENMIX_DIFFUSION_GOLDEN").map_or(stored, PathBuf::from);
    fs::canonicalize(root.join(name)).unwrap_or_else(|_| root.join(name))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Inputs by the names of the reference; some are whole numbers there.
fn write_inputs(place: &Workplace, kind: &str, names: &[(&str, &str)]) -> String {
    let path = golden(kind).join("reference.safetensors");
    let reference = TensorFile::open(&path).expect("a reference");
    let found: Vec<_> = names
        .iter()
        .filter(|(_, from)| reference.contains(from))
        .map(|(name, from)| {
            let (shape, dtype) = reference.tensor(from).expect("a tensor");
            let bytes = reference.view(from).expect("a tensor");
            TensorOutput::bytes(format!("input.{name}"), shape, dtype, bytes)
        })
        .collect();
    let path = place.path("inputs.safetensors");
    write_tensor_file(&path, found).expect("a file");
    text(&path).to_owned()
}

fn forward(
    place: &Workplace,
    kind: &str,
    part: &str,
    adapter: Option<&str>,
    names: &[(&str, &str)],
) -> Outcome {
    let inputs = write_inputs(place, kind, names);
    let base = golden(kind).join("base");
    let mut arguments = vec!["forward", "--base", text(&base), "--part", part];
    arguments.extend(["--inputs", &inputs, "--out", "out.safetensors", "--force"]);
    arguments.extend(
        adapter
            .map(|adapter| ["--adapter", adapter])
            .into_iter()
            .flatten(),
    );
    place.run(&arguments)
}

fn assert_output(place: &Workplace, kind: &str, output: &str, expected: &str) {
    let reference = TensorFile::open(&golden(kind).join("reference.safetensors"));
    let reference = reference.expect("a reference");
    let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
    assert_eq!(
        found.shape(output).expect(output),
        reference.shape(expected).expect(expected)
    );
    let found = found.read_f32(output).expect(output);
    let expected_values = reference.read_f32(expected).expect(expected);
    let size = expected_values
        .iter()
        .fold(0.0f32, |all, value| all.max(value.abs()));
    let pairs = found.iter().zip(&expected_values);
    let difference = pairs.fold(0.0f32, |all, (found, value)| all.max((found - value).abs()));
    println!("{kind} {expected}: {:e}", difference / size);
    assert!(
        difference < TOLERANCE * size,
        "{kind} {expected}: {difference} of {size}"
    );
}

const UNET: [(&str, &str); 5] = [
    ("sample", "unet.latents"),
    ("timestep", "unet.timesteps"),
    ("encoder_hidden_states", "unet.states"),
    ("text_embeds", "unet.text_embeds"),
    ("time_ids", "unet.time_ids"),
];

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

/// A copy of the base without one of its parts.
fn without(place: &Workplace, part: &str) -> String {
    let target = place.path(&format!("without-{part}"));
    for entry in fs::read_dir(golden("sd").join("base")).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_name() == part || !entry.path().is_dir() {
            continue;
        }
        let directory = target.join(entry.file_name());
        fs::create_dir_all(&directory).expect("a directory");
        for file in fs::read_dir(entry.path()).expect("a directory") {
            let file = file.expect("a file");
            fs::copy(file.path(), directory.join(file.file_name())).expect("a copy");
        }
    }
    text(&target).to_owned()
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
    let distance = |found: &[f32]| support::largest_difference(found, &wide) / size;
    assert!(distance(&stored) < 1e-5, "{}", distance(&stored));
    // Linear layers in eight bits; convolutions stay in half precision.
    let rounded = distance(&quantised);
    assert!(rounded > 1e-5 && rounded < 0.1, "{rounded}");
}

fn pixels(place: &Workplace, file: &str) -> Vec<u8> {
    fs::read(place.path(file)).expect("an image")
}

#[test]
fn images_are_made_of_prompts_with_weighted_adapters_and_say_how() {
    for kind in ["sd", "sdxl"] {
        let place = Workplace::new();
        let base = golden(kind).join("base");
        let adapter = golden(kind).join("adapter-attention/kohya.safetensors");
        let weighted = |weight: &str| format!("{}:{weight}", text(&adapter));
        let generate = |adapters: &[String], out: &str| {
            let mut arguments = vec!["generate", "--base", text(&base), "--steps", "3"];
            arguments.extend(["--prompt", "a red fox in the snow", "--seed", "4"]);
            arguments.extend(["--width", "24", "--height", "16", "--out", out, "--json"]);
            let adapters = adapters
                .iter()
                .flat_map(|adapter| ["--adapter", adapter.as_str()]);
            arguments.extend(adapters);
            let outcome = place.run(&arguments);
            assert_eq!(outcome.status, 0, "{outcome:?}");
            serde_json::from_str::<Value>(&outcome.stdout).expect("JSON")
        };
        let file = "000-4.png";
        let report = generate(&[], "base");
        assert_eq!(report["images"][0]["file"], file);
        assert_eq!(report["images"][0]["width"], 24);
        let base_image = pixels(&place, &format!("base/{file}"));
        generate(&[weighted("0.7"), weighted("0.3")], "both");
        generate(&[weighted("1")], "whole");
        generate(&[weighted("0")], "none");
        let of = |directory: &str| {
            let bytes = pixels(&place, &format!("{directory}/{file}"));
            eigenmix_images::decode(&bytes).expect("a PNG")
        };
        // 0.7 and 0.3 of one adapter are the adapter, up to rounding to a byte; nothing of it is the base.
        let [both, whole] = [of("both"), of("whole")];
        let pairs = both.pixels().iter().zip(whole.pixels());
        let largest = pairs.map(|(one, other)| one.abs_diff(*other)).max();
        assert!(largest <= Some(1), "{largest:?}");
        assert_eq!(of("none"), of("base"));
        assert_ne!(of("whole"), of("base"));
        assert_eq!((both.width(), both.height()), (24, 16));
        let said = String::from_utf8_lossy(&base_image);
        assert!(said.contains("a red fox in the snow\nSteps: 3"), "{said}");
        assert!(place.path("base/images.json").is_file());
    }
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

#[test]
fn a_directory_with_a_list_of_images_of_somebody_else_is_not_overwritten() {
    let place = Workplace::new();
    let base = golden("sd").join("base");
    fs::create_dir(place.path("album")).expect("a directory");
    fs::write(place.path("album/images.json"), "[]").expect("a file");
    fs::write(place.path("album/holiday.jpg"), "x").expect("a file");
    let start = [
        "generate",
        "--base",
        text(&base),
        "--prompt",
        "a fox",
        "--steps",
        "1",
    ];
    let refused = place.run(&[&start[..], &["--out", "album", "--force"]].concat());
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(place.path("album/holiday.jpg").exists());
    for _ in 0..2 {
        let own = place.run(&[&start[..], &["--out", "own", "--force"]].concat());
        assert_eq!(own.status, 0, "{own:?}");
    }
}
