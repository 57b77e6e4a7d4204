//! Against transformers and PEFT: tests/golden/clip/make_golden.py at the root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, activation};
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_moslora::{Factor, ParameterNames};
use eigenmix_tensors::{HostTensor, TensorFile};

use super::*;
use crate::{
    Architecture, Batch, HeadKind, ImageBatch, LoadOptions, Loaded, Network, TEXT_FEATURES, Train,
};

/// The references are f32 themselves and of size 1 to 10.
const TOLERANCE: f32 = 2e-5;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/clip")
        .join(name)
}

fn reference() -> TensorFile {
    TensorFile::open(&golden("reference.safetensors")).expect("a reference")
}

fn checkpoint() -> (Checkpoint, Architecture) {
    let checkpoint = Checkpoint::open(&golden("base")).expect("a checkpoint");
    let path = golden("base/config.json");
    let architecture = Architecture::from_json(checkpoint.config(), &path).expect("a CLIP");
    (checkpoint, architecture)
}

fn matched(
    adapter: &Adapter,
    description: &Description,
) -> Result<(Adaptation, LoadReport), ModelError> {
    let tables = AdaptedTables::default();
    Adaptation::from_adapter(adapter, description, tables, &checkpoint().0)
}

/// The inputs that make_golden.py gives the model.
fn images() -> Batch {
    const IMAGES: usize = 3;
    const SIZE: usize = 32;
    let count = IMAGES * 3 * SIZE * SIZE;
    let pixels = (0..count).map(|index| (index * 37 % 101) as f32 / 64.0 - 0.75);
    Batch::from(ImageBatch::new(pixels.collect(), [IMAGES, 3, SIZE]))
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn assert_close(found: &[f32], reference: &TensorFile, name: &str) {
    let expected = reference.read_f32(name).expect("a reference");
    assert_eq!(found.len(), expected.len(), "{name}");
    let pairs = found.iter().zip(&expected);
    let difference = pairs.fold(0.0f32, |all, (found, expected)| {
        all.max((found - expected).abs())
    });
    println!("{name}: {difference:e}");
    assert!(difference < TOLERANCE, "{name}: {difference}");
}

#[test]
fn texts_have_the_features_that_transformers_gives_them_wherever_their_end_is_looked_for() {
    let (reference, device) = (reference(), Device::flex());
    let (checkpoint, architecture) = checkpoint();
    let ids = reference.read_i64("input_ids").expect("ids");
    let batch = TokenBatch::from_padded(&ids, None, None, [2, ids.len() / 2], true);
    for (name, end_of_text) in [
        ("first", EndOfText::Token(50)),
        ("largest", EndOfText::LargestId),
    ] {
        let mut config = architecture.clip_text().expect("a text tower").clone();
        assert_eq!(config.end_of_text, EndOfText::Token(63));
        config.end_of_text = end_of_text;
        let tower = ClipText::load(&checkpoint, &config, &Adaptation::default(), &device);
        let features = tower.expect("a tower").features(&batch, &device);
        assert_close(
            &host(features),
            &reference,
            &format!("text_features.{name}"),
        );
    }
}

#[test]
fn an_id_of_two_means_the_largest_and_a_text_without_an_end_is_read_at_its_start() {
    let mut json = checkpoint().0.config().clone();
    json["text_config"]["eos_token_id"] = 2.into();
    let config = ClipTextConfig::from_json(&json, 10).expect("a configuration");
    assert_eq!(config.end_of_text, EndOfText::LargestId);
    let types = [0; 3];
    let batch = TokenBatch::from_sequences([(&[5, 9, 9][..], &types[..]), (&[4, 8, 1], &types)]);
    assert_eq!(EndOfText::LargestId.rows(&batch), [1, 4]);
    assert_eq!(EndOfText::Token(8).rows(&batch), [0, 4]);
}

#[test]
fn what_transformers_leaves_out_of_nested_configurations_has_its_default() {
    let json = json!({"model_type": "clip", "vision_config": {"patch_size": 16}});
    let path = golden("base/config.json");
    let found = Architecture::from_json(&json, &path).expect("a CLIP");
    let Architecture::Vision(vision) = &found else {
        panic!("CLIP is a vision model");
    };
    assert_eq!((vision.d_model(), vision.rows_per_image()), (768, 197));
    let text = found.clip_text().expect("a text tower");
    assert_eq!((text.vocab_size, text.max_positions), (49408, 77));
    assert_eq!((text.n_layers, text.projection_dim), (12, Some(512)));
    assert_eq!(text.end_of_text, EndOfText::Token(49407));
    // As torch counts the parameters of CLIPTextModelWithProjection with these sizes.
    assert_eq!(text.describe().parameters, 63_428_096);
}

#[test]
fn images_have_the_features_that_transformers_gives_them() {
    let device = Device::flex();
    let loaded = load(HeadKind::ImageFeatures, &Adaptation::default(), &device);
    let features = loaded.model.forward(&images(), &device);
    assert_close(&host(features), &reference(), "image_features");
}

fn load(head: HeadKind, adaptation: &Adaptation, device: &Device) -> Loaded {
    let (checkpoint, architecture) = checkpoint();
    let options = LoadOptions {
        head,
        adaptation,
        train: Train::Head,
        dropout: 0.0,
        seed: 0,
    };
    Network::load(&checkpoint, &architecture, &options, device).expect("a model")
}

fn adapter_of(name: &str) -> Adapter {
    let file = AdapterFile::open(&golden(name)).expect("an adapter");
    file.load().expect("an adapter")
}

/// The gradients of what is trained, by name.
struct Collect<'a> {
    names: &'a ParameterNames,
    gradients: Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(name) = self.names.get(param.id) {
            let gradient = param.val().grad(&self.gradients).expect("a gradient");
            self.found.insert(name.to_owned(), host(gradient));
        }
    }
}

#[test]
fn gradients_pass_through_the_zero_shot_head_as_in_torch() {
    let (reference, device) = (reference(), Device::flex().autodiff());
    let head = HeadKind::ZeroShot { labels: 5 };
    let description = checkpoint().1.describe(head).expect("a description");
    let adapter = adapter_of("adapter-vision");
    let (mut adaptation, report) = matched(&adapter, &description).expect("an adaptation");
    assert!(report.unexpected.is_empty(), "{report:?}");
    for update in adaptation.updates.values_mut() {
        update.left = Factor::trained(update.left.matrix.clone());
        update.right = Factor::trained(update.right.matrix.clone());
    }
    let features = HostTensor {
        shape: vec![5, 10],
        values: reference.read_f32("text_features.labels").expect("values"),
    };
    adaptation.tensors.insert(TEXT_FEATURES.into(), features);
    let Loaded { model, names, .. } = load(head, &adaptation, &device);
    // Only the factors are trained: nothing of the head.
    assert_eq!(names.len(), 2 * adapter.modules.len());
    let logits = model.forward(&images(), &device);
    assert_close(&host(logits.clone().inner()), &reference, "logits.vision");
    let targets = TensorData::new(vec![2, 0, 4], [3, 1]);
    let targets = Tensor::<2, Int>::from_data(targets, &device);
    let loss = -activation::log_softmax(logits, 1).gather(1, targets).mean();
    assert_close(&host(loss.clone().inner()), &reference, "loss");
    let mut collect = Collect {
        names: &names,
        gradients: loss.backward(),
        found: BTreeMap::new(),
    };
    model.visit(&mut collect);
    let mut largest = 0.0f32;
    for (path, module) in &adapter.modules {
        let left = &collect.found[&format!("{path}/left")];
        assert_close(left, &reference, &format!("gradient.{path}.lora_B.weight"));
        // Ours is [d_in, rank], PEFT's [rank, d_in].
        let (rank, right) = (module.rank(), &collect.found[&format!("{path}/right")]);
        let right: Vec<f32> = (0..rank)
            .flat_map(|row| right.iter().skip(row).step_by(rank).copied())
            .collect();
        assert_close(
            &right,
            &reference,
            &format!("gradient.{path}.lora_A.weight"),
        );
        largest = right.iter().fold(largest, |all, one| all.max(one.abs()));
    }
    assert!(largest > 100.0 * TOLERANCE, "{largest} tells nothing");
}

#[test]
fn an_adapter_of_both_towers_is_divided_between_them_without_a_rest() {
    let (_, architecture) = checkpoint();
    let adapter = adapter_of("adapter-both-towers");
    let text = architecture.clip_text().expect("a text tower");
    let (adaptation, report) = text
        .adaptation(&adapter, &checkpoint().0)
        .expect("an adaptation")
        .expect("an adapted tower");
    // k_proj and out_proj of two layers, and the projection.
    assert_eq!(adaptation.updates.len(), 5);
    assert!(report.missing.is_empty() && report.unexpected.is_empty());
    let vision = without_text_tower(&adapter);
    let description = architecture.describe(HeadKind::ZeroShot { labels: 5 });
    let (adaptation, report) =
        matched(&vision, &description.expect("a description")).expect("fits");
    assert_eq!(adaptation.updates.len(), 5);
    assert!(report.missing.is_empty() && report.unexpected.is_empty());
    assert!(
        text.adaptation(&vision, &checkpoint().0)
            .expect("fits")
            .is_none()
    );
}
