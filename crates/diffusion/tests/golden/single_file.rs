//! Models in one file of the original layout: tests/golden/diffusion/make_single_file.py at the root, which
//! compares with diffusers' own conversion.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use eigenmix_diffusion::{
    AdaptedPipeline, Part, Pipeline, PromptTokenizers, UnetConfig, VaeConfig,
};
use eigenmix_models::Precision;
use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::reference::{Reference, golden};

/// `[rows, cols]` → `[cols, rows]`
fn transposed(values: &[f32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    (0..cols)
        .flat_map(|col| (0..rows).map(move |row| values[row * cols + col]))
        .collect()
}

/// Writes the tiny model of a kind as one file, and further tensors without values.
fn single_file(kind: &str, directory: &Path, more: &[&str]) -> PathBuf {
    let text = std::fs::read_to_string(golden("single_file.json")).expect("a list");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let base = golden(kind).join("base");
    let part = |name: &str| {
        let stem = match name {
            "unet" | "vae" => "diffusion_pytorch_model",
            _ => "model",
        };
        let path = base.join(name).join(format!("{stem}.safetensors"));
        TensorFile::open(&path).expect("a part")
    };
    let (mut tensors, mut integers) = (Vec::new(), Vec::new());
    for entry in list[kind].as_array().expect("a list") {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (original, from) = (text(&entry[0]), part(&text(&entry[1])));
        let names: Vec<String> = entry[2]
            .as_array()
            .expect("names")
            .iter()
            .map(text)
            .collect();
        let (mut shape, dtype) = from.tensor(&names[0]).expect("a tensor");
        if dtype != Dtype::F32 {
            let bytes = from.bytes(&names[0]).expect("a tensor");
            integers.push((original, shape, dtype, bytes));
            continue;
        }
        let read = |name: &String| from.read_f32(name).expect("values");
        let mut values: Vec<f32> = names.iter().flat_map(read).collect();
        match entry[3].as_str().expect("what was done") {
            "pixels" => shape.extend([1, 1]),
            "joined" => shape[0] *= 3,
            "transposed" => {
                values = transposed(&values, [shape[0], shape[1]]);
                shape.swap(0, 1);
            }
            _ => {}
        }
        tensors.push((original, shape, values));
    }
    tensors.extend(
        more.iter()
            .map(|name| ((*name).to_owned(), vec![0], Vec::new())),
    );
    let floats = tensors
        .iter()
        .map(|(name, shape, values)| TensorOutput::f32(name.clone(), shape.clone(), values));
    let integers = integers.iter().map(|(name, shape, dtype, bytes)| {
        TensorOutput::bytes(name.clone(), shape.clone(), *dtype, bytes)
    });
    let path = directory.join(format!("{kind}.safetensors"));
    write_tensor_file(&path, floats.chain(integers).collect()).expect("a file");
    path
}

fn opened(path: &Path, kind: &str) -> AdaptedPipeline {
    let pipeline = Pipeline::open(path, Precision::Auto).expect("a model");
    let pipeline = pipeline
        .with_config(&golden(kind).join("base"))
        .expect("configurations");
    AdaptedPipeline::new(pipeline, Vec::new(), false).expect("a model")
}

#[test]
fn one_file_gives_what_the_directory_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let device = Device::flex();
    for kind in ["sd", "sdxl"] {
        let reference = Reference::of(kind);
        let path = single_file(kind, directory.path(), &["betas", "model_ema.decay"]);
        assert!(Pipeline::is_at(&path));
        let whole = AdaptedPipeline::new(reference.pipeline.clone(), Vec::new(), false);
        let (whole, single) = (whole.expect("a model"), opened(&path, kind));
        assert_eq!(single.kind, whole.kind);
        for &part in [Part::Unet, Part::Vae].iter().chain(single.text_parts()) {
            assert_eq!(
                single.unread(part).expect("a part"),
                Vec::<String>::new(),
                "{part}"
            );
        }
        let input = reference.unet_input("unet.states", "unet.text_embeds");
        let run = |model: &AdaptedPipeline| {
            let unet = model
                .unet(&device, &mut |_| {})
                .expect("a UNet")
                .forward(&input);
            let vae = model.vae(&device).expect("a VAE");
            let decoded = vae.decode(reference.tensor("vae.decode_input"));
            (unet.into_data(), decoded.into_data())
        };
        assert_eq!(run(&single), run(&whole), "{kind}");
        let texts = |model: &AdaptedPipeline| {
            let sizes = model.text_sizes().expect("text encoders");
            let tokenizers = PromptTokenizers::open(&model.pipeline, model.kind, &sizes);
            let ids = tokenizers
                .expect("tokenizers")
                .encode("a red fox")
                .expect("tokens")
                .ids;
            let encoders = model
                .text_encoders(&device, &mut |_| {})
                .expect("text encoders");
            let found = encoders.prompt(&ids, &device);
            (
                found.states.into_data(),
                found.pooled.map(|pooled| pooled.into_data()),
            )
        };
        assert_eq!(texts(&single), texts(&whole), "{kind}");
    }
}

#[test]
fn configurations_are_told_by_the_tensors() {
    let directory = tempfile::tempdir().expect("a directory");
    for kind in ["sd", "sdxl"] {
        let path = single_file(kind, directory.path(), &[]);
        let single = Pipeline::open(&path, Precision::Auto).expect("a model");
        let whole = Reference::of(kind).pipeline;
        // What no tensor shows, and is always the same in models of full size.
        let unseen = |part: Part, options: &[&str]| {
            let (mut found, expected) = (single.part_config(part), whole.part_config(part));
            for option in options {
                let found = found.as_mut().expect("a configuration");
                found[*option] = expected.as_ref().expect("a file")[*option].clone();
            }
            (found.expect("a configuration"), expected.expect("a file"))
        };
        let options = [
            "attention_head_dim",
            "norm_num_groups",
            "sample_size",
            "addition_time_embed_dim",
        ];
        let unet = |json: &Value| UnetConfig::from_json(json, &path).expect("a UNet");
        let (found, expected) = unseen(Part::Unet, &options);
        assert_eq!(unet(&found), unet(&expected));
        let vae = |json: &Value| VaeConfig::from_json(json, &path).expect("a VAE");
        let (found, expected) = unseen(Part::Vae, &["norm_num_groups"]);
        assert_eq!(vae(&found), vae(&expected));
        let (found, expected) = unseen(Part::TextEncoder, &["num_attention_heads"]);
        for option in [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "vocab_size",
        ] {
            assert_eq!(found[option], expected[option], "{option}");
        }
    }
}

#[test]
fn a_file_says_by_a_tensor_that_it_predicts_the_velocity() {
    let directory = tempfile::tempdir().expect("a directory");
    let prediction = |more: &[&str]| {
        let path = single_file("sdxl", directory.path(), more);
        let pipeline = Pipeline::open(&path, Precision::Auto).expect("a model");
        let schedule = pipeline.schedule().expect("a schedule");
        let last = schedule.alphas[schedule.times() - 1];
        (schedule.json()["prediction_type"].clone(), last == 0.0)
    };
    assert_eq!(prediction(&[]), (json!("epsilon"), false));
    assert_eq!(
        prediction(&["v_pred", "ztsnr"]),
        (json!("v_prediction"), true)
    );
}

#[test]
fn without_a_tokenizer_and_with_strangers_a_file_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = single_file(
        "sd",
        directory.path(),
        &["model.diffusion_model.control.0.weight"],
    );
    let pipeline = Pipeline::open(&path, Precision::Auto).expect("a model");
    let error = pipeline
        .tokenizer(Part::TextEncoder)
        .expect_err("no tokenizer")
        .to_string();
    assert!(error.contains("--base-config"), "{error}");
    let notes = pipeline.notes();
    assert!(
        notes.len() == 1 && notes[0].contains("control.0.weight"),
        "{notes:?}"
    );
    let refused = Reference::of("sd").pipeline.with_config(directory.path());
    assert!(refused.is_err(), "a directory has its own");
}
