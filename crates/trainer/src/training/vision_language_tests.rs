//! Losses and gradients of the tiny LLaVA, compared with transformers and PEFT (tests/golden/README.md).

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use eigenmix_adapter::AdapterFile;
use eigenmix_data::{DataConfig, Split};
use eigenmix_images::{ImagePreprocessor, decode};
use eigenmix_models::{
    Adaptation, AdaptedTables, HeadKind, LoadOptions, Loaded, Network, Recomputation, Train,
};
use eigenmix_tensors::TensorFile;
use serde_json::json;

use super::optimizer::{NamedGradients, accumulate, named_gradients};
use crate::BaseModel;
use crate::gguf_rows::with_rows_in_order;
use crate::host_values::host_values;
use crate::tasks::{LabelledBatch, TaskKind, image_processor};

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llava");
    folder.join(name)
}

fn reference() -> TensorFile {
    TensorFile::open(&golden("reference.safetensors")).expect("a reference")
}

/// The conversations of the reference as rows of prompts and completions.
fn write_data(directory: &Path) {
    let rows = [
        ("What is in the image?", " A red fox sits on the snow.", 0),
        ("How many boats are there?", " There are three boats.", 1),
    ];
    let lines = rows.map(|(question, answer, image)| {
        json!({
            "prompt": format!("USER: <image>\n{question} ASSISTANT:"),
            "completion": answer,
            "image": golden(&format!("images/image-{image}.png")),
        })
        .to_string()
    });
    std::fs::write(directory.join("train.jsonl"), lines.join("\n")).expect("a file");
}

/// The batch of the reference, as the data become one.
fn batch(base: &BaseModel) -> LabelledBatch {
    let directory = tempfile::tempdir().expect("a directory");
    write_data(directory.path());
    let config = DataConfig::new(directory.path().display().to_string());
    let reader = TaskKind::VisionLanguage.open(base, &config, &[]);
    let split = reader.and_then(|reader| reader.split(Split::Train, None));
    let split = split.expect("the data");
    split.examples.batch(&[0, 1], None).expect("a batch")
}

fn load(base: &BaseModel, adapter: Option<&str>, trained: bool, device: &Device) -> Loaded {
    let head = HeadKind::LanguageModel;
    let description = base.architecture.describe(head).expect("a description");
    let mut adaptation = Adaptation::default();
    if let Some(name) = adapter {
        let path = golden(name);
        let file = AdapterFile::open(&path).expect("an adapter");
        let file = with_rows_in_order(file, &path, || Ok(Some(base))).expect("an adapter");
        let adapter = file.load().expect("an adapter");
        let tables = AdaptedTables::default();
        let matched = Adaptation::from_adapter(&adapter, &description, tables, &base.checkpoint);
        adaptation = matched.expect("an adapter of this model").0;
        adaptation.saved = adapter.config.modules_to_save().to_vec();
    }
    for update in adaptation.updates.values_mut().filter(|_| trained) {
        (update.left.trained, update.right.trained) = (true, true);
    }
    let options = LoadOptions {
        head,
        adaptation: &adaptation,
        train: if trained { Train::Head } else { Train::Nothing },
        dropout: 0.0,
        seed: 0,
    };
    Network::load(&base.checkpoint, &base.architecture, &options, device).expect("a model")
}

fn base(name: &str) -> BaseModel {
    BaseModel::open(&golden(name).display().to_string()).expect("a base model")
}

#[test]
fn rows_become_the_tokens_labels_and_pixels_of_transformers() {
    let reference = reference();
    for base in [base("base"), base("base-old")] {
        let LabelledBatch { batch, objective } = batch(&base);
        let texts = batch.texts.expect("texts");
        let [ids, mask, labels] = ["input_ids", "attention_mask", "labels"]
            .map(|name| reference.read_i64(&format!("train.{name}")).expect("ids"));
        let unpadded: Vec<i32> = (ids.iter().zip(&mask))
            .filter(|(_, mask)| **mask != 0)
            .map(|(id, _)| *id as i32)
            .collect();
        assert_eq!(texts.ids(), unpadded);
        let learnt = labels.iter().filter(|&&label| label >= 0).count();
        assert_eq!(objective.weight(), learnt as f64);
        let images = batch.images.expect("images");
        assert_eq!((images.images(), images.shape()), (2, [3, 12]));
    }
}

#[test]
fn pixels_are_those_of_transformers_padded_to_squares_or_not() {
    let padded = TensorFile::open(&golden("padded.safetensors")).expect("values");
    let reference = reference();
    let compare = |preprocessor: &ImagePreprocessor, file: &TensorFile, prefix: &str| {
        for index in 0..3 {
            let bytes = std::fs::read(golden(&format!("images/image-{index}.png")));
            let image = decode(&bytes.expect("an image")).expect("an image");
            let found = preprocessor.preprocess(&image).expect("pixels");
            let expected = file.read_f32(&format!("{prefix}image-{index}"));
            // A rounding of f32.
            let tolerance = 1e-6;
            for (found, expected) in found.iter().zip(expected.expect("pixels")) {
                assert!(
                    (found - expected).abs() < tolerance,
                    "{prefix}{index}: {found} {expected}"
                );
            }
        }
    };
    // In processor_config.json, and in a file of its own.
    for base in [base("base"), base("base-old")] {
        let preprocessor = image_processor(&base).expect("a processor");
        compare(&preprocessor, &reference, "pixel_values.");
    }
    let config = json!({
        "image_processor_type": "LlavaImageProcessor", "do_pad": true,
        "size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12},
    });
    let preprocessor = ImagePreprocessor::from_config(&config, Path::new("padding"));
    compare(&preprocessor.expect("a processor"), &padded, "");
}

#[test]
fn the_processor_of_another_model_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["config.json", "processor_config.json", "tokenizer.json"] {
        std::fs::copy(golden("base").join(name), directory.path().join(name)).expect("a copy");
    }
    let path = directory.path().join("processor_config.json");
    let text = std::fs::read_to_string(&path).expect("a file");
    for (from, to, expected) in [
        (
            "\"patch_size\": 4",
            "\"patch_size\": 14",
            "patches are 14 pixels wide, the model's 4",
        ),
        (
            "\"default\"",
            "\"full\"",
            "takes `full` features of an image, the model `default`",
        ),
        (
            "_tokens\": 1",
            "_tokens\": 2",
            "counts 2 tokens of an image beside its patches",
        ),
        ("12", "24", "images of"),
    ] {
        std::fs::write(&path, text.replace(from, to)).expect("a file");
        let name = directory.path().display().to_string();
        let base = BaseModel::open_config(&name).expect("a model");
        let error = image_processor(&base).expect_err("a refusal").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn losses_of_every_adapter_are_those_of_peft() {
    let (reference, device) = (reference(), Device::default());
    let base = base("base-old");
    let LabelledBatch { batch, objective } = batch(&base);
    for (variant, adapter) in [
        ("base", None),
        ("llm", Some("adapter-llm-old")),
        ("both", Some("adapter-both-4.52")),
        ("projector", Some("adapter-projector-old")),
    ] {
        let model = load(&base, adapter, false, &device).model;
        let hidden = model.hidden_states(&batch, &device);
        let loss = objective.loss(&model, hidden, &device).into_scalar::<f32>();
        let key = format!("train.loss.{variant}");
        let expected = reference.read_f32(&key).expect("a loss")[0];
        assert!((loss - expected).abs() < 1e-5, "{key}: {loss} {expected}");
    }
}

/// The gradients of the reference's name of a parameter.
fn gradient_of(gradients: &NamedGradients, name: &str) -> Option<Tensor<1>> {
    let ours = match name.rsplit_once(".lora_") {
        Some((path, "A.weight")) => format!("{path}/right"),
        Some((path, _)) => format!("{path}/left"),
        None => name.to_owned(),
    };
    gradients.get(&ours).cloned()
}

fn check_gradients(gradients: &NamedGradients) {
    let reference = reference();
    let mut compared = 0;
    for key in reference.names() {
        let Some(name) = key.strip_prefix("train.grad_norm.") else {
            continue;
        };
        let found = gradient_of(gradients, name);
        let found = found.unwrap_or_else(|| panic!("no gradient of {name}"));
        let norm = found.square().sum().sqrt().into_scalar::<f32>();
        let expected = reference.read_f32(key).expect("a norm")[0];
        assert!(
            (norm - expected).abs() < 2e-5 * (1.0 + expected),
            "{key}: {norm} {expected}"
        );
        compared += 1;
    }
    // Those above the tower's features have none.
    assert_eq!(compared, gradients.len());
    for key in reference.names() {
        let Some(name) = key.strip_prefix("train.grad.") else {
            continue;
        };
        let shape = reference.shape(key).expect("a shape").to_vec();
        let expected = reference.read_f32(key).expect("a gradient");
        let found = host_values(gradient_of(gradients, name).expect("a gradient"));
        // A is held transposed.
        let place = |index: usize| match (name.contains("lora_A"), &shape[..]) {
            (true, &[rows, cols]) => index % cols * rows + index / cols,
            _ => index,
        };
        for (index, expected) in expected.iter().enumerate() {
            let found = found[place(index)];
            assert!(
                (found - expected).abs() < 1e-5,
                "{key}[{index}]: {found} {expected}"
            );
        }
    }
}

#[test]
fn gradients_are_those_of_peft_with_and_without_recomputation() {
    let device = Device::default().autodiff();
    let base = base("base");
    let LabelledBatch { batch, objective } = batch(&base);
    let Loaded { model, names, .. } = load(&base, Some("adapter-start-old"), true, &device);
    let hidden = model.hidden_states(&batch, &device);
    let loss = objective.loss(&model, hidden, &device);
    let gradients = named_gradients(&model, &names, &mut loss.backward());
    check_gradients(&gradients);

    let mut gradients = NamedGradients::new();
    let recomputation = Recomputation { before: &|_| {} };
    model.backward_by_layers(
        &batch,
        &device,
        &recomputation,
        |hidden| objective.loss(&model, hidden, &device),
        |mut found| accumulate(&mut gradients, named_gradients(&model, &names, &mut found)),
    );
    check_gradients(&gradients);
}
