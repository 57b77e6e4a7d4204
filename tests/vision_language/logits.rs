//! Logits and image features, of the base model and of adapters in all three namings.

use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::json;

use crate::golden::{golden, reference, unpadded, write_inputs, write_tensors};
use crate::support::{Workplace, largest_difference, read_json};

/// The reference is f32 and up to 6.8e-6 from f64; the adapters move logits by more than 1.
const TOLERANCE: f32 = 3e-5;

fn compare(place: &Workplace, reference: &TensorFile, batch: &str, variant: &str, out: &str) {
    let found = TensorFile::open(&place.path(out)).expect("outputs");
    let logits = found.read_f32("logits").expect("logits");
    let key = format!("{batch}.logits.{variant}");
    let expected = reference.read_f32(&key).expect("logits");
    let difference = largest_difference(
        &unpadded(reference, batch, &logits),
        &unpadded(reference, batch, &expected),
    );
    println!("{key}: {difference:e}");
    assert!(difference < TOLERANCE, "{key}: {difference}");
    if batch == "two" && variant == "base" {
        let features = found.read_f32("image_features").expect("features");
        let expected = reference.read_f32("two.image_features").expect("features");
        let difference = largest_difference(&features, &expected);
        assert!(difference < TOLERANCE, "features: {difference}");
        assert_eq!(found.shape("image_features").expect("a shape"), [2, 9, 32]);
    }
}

#[test]
fn a_base_model_of_either_naming_with_an_adapter_of_any_naming_gives_the_logits_of_peft() {
    let (place, reference) = (Workplace::new(), reference());
    let mut variants = 0;
    for batch in ["one", "two", "text"] {
        let inputs = write_inputs(&place, &reference, batch);
        let inputs = inputs.to_str().expect("UTF-8");
        for adapter in [
            "base",
            "llm",
            "llm-old",
            "both",
            "both-4.52",
            "both-old",
            "projector",
            "projector-old",
            "start",
            "start-4.52",
            "start-old",
        ] {
            // Each naming of the adapter on each naming of the base model.
            for base in ["base", "base-old"] {
                let (base, path) = (golden(base), golden(&format!("adapter-{adapter}")));
                let mut arguments = vec!["forward", "--base", &base, "--inputs", inputs];
                arguments.extend(["--out", "out.safetensors", "--force"]);
                if adapter != "base" {
                    arguments.extend(["--adapter", &path]);
                }
                let outcome = place.run(&arguments);
                assert_eq!(outcome.status, 0, "{adapter}: {outcome:?}");
                let variant = adapter.split('-').next().expect("a name");
                compare(&place, &reference, batch, variant, "out.safetensors");
                variants += 1;
            }
        }
    }
    assert_eq!(variants, 3 * 11 * 2);
}

#[test]
fn a_sharded_checkpoint_is_the_same_model() {
    let (place, reference) = (Workplace::new(), reference());
    let base = std::path::PathBuf::from(golden("base-old"));
    let whole = TensorFile::open(&base.join("model.safetensors")).expect("a checkpoint");
    std::fs::create_dir(place.path("sharded")).expect("a directory");
    let config = base.join("config.json");
    std::fs::copy(&config, place.path("sharded/config.json")).expect("a copy");
    let mut map = serde_json::Map::new();
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for (index, shard) in shards.into_iter().enumerate() {
        // Tower and decoder are mixed, so that a module's tensors lie in both files.
        let names: Vec<&str> = whole.names().skip(index).step_by(2).collect();
        let values: Vec<_> = names
            .iter()
            .map(|name| {
                (
                    whole.shape(name).expect("a shape").to_vec(),
                    whole.read_f32(name),
                )
            })
            .collect();
        let outputs = names.iter().zip(&values).map(|(name, (shape, values))| {
            let values = values.as_ref().expect("numbers");
            TensorOutput::f32(*name, shape.clone(), values)
        });
        write_tensor_file(&place.path(&format!("sharded/{shard}")), outputs.collect())
            .expect("a shard");
        map.extend(names.iter().map(|name| ((*name).to_owned(), json!(shard))));
    }
    let index = json!({"weight_map": map}).to_string();
    std::fs::write(place.path("sharded/model.safetensors.index.json"), index).expect("an index");
    let inputs = write_inputs(&place, &reference, "two");
    let inputs = inputs.to_str().expect("UTF-8");
    let out = ["--out", "out.safetensors"];
    let arguments = [
        &["forward", "--base", "sharded", "--inputs", inputs][..],
        &out,
    ]
    .concat();
    let result = place.run_json(&arguments);
    assert_eq!(result["image_features"], json!([2, 9, 32]));
    compare(&place, &reference, "two", "base", "out.safetensors");
}

#[test]
fn image_tokens_without_an_image_and_the_reverse_are_refused() {
    let (place, reference) = (Workplace::new(), reference());
    for (ids, pixels, expected) in [
        ("two", None, "18 image tokens (id 362), but 0 images"),
        ("text", Some("one"), "0 image tokens (id 362), but 2 images"),
    ] {
        let ids = ["input_ids", "attention_mask"].map(|name| format!("{ids}.{name}"));
        let pixels = pixels.map(|batch| format!("{batch}.pixel_values"));
        let mut tensors = vec![
            (&ids[0][..], "input.input_ids"),
            (&ids[1], "input.attention_mask"),
        ];
        tensors.extend(pixels.iter().map(|key| (&key[..], "input.pixel_values")));
        write_tensors(&reference, &tensors, &place.path("bad.safetensors"));
        let base = golden("base");
        let message = place.run_refused(&[
            "forward",
            "--base",
            &base,
            "--inputs",
            "bad.safetensors",
            "--out",
            "out.safetensors",
        ]);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_tower_or_a_decoder_that_is_not_supported_is_named() {
    let place = Workplace::new();
    let base = std::path::PathBuf::from(golden("base"));
    let mut config = read_json(&base.join("config.json"));
    config["vision_config"]["model_type"] = json!("dinov2");
    std::fs::create_dir(place.path("base")).expect("a directory");
    std::fs::copy(
        base.join("model.safetensors"),
        place.path("base/model.safetensors"),
    )
    .expect("a copy");
    std::fs::write(place.path("base/config.json"), config.to_string()).expect("a file");
    let inputs = write_inputs(&place, &reference(), "text");
    let inputs = inputs.to_str().expect("UTF-8");
    let message = place.run_refused(&[
        "forward",
        "--base",
        "base",
        "--inputs",
        inputs,
        "--out",
        "out.safetensors",
    ]);
    assert!(message.contains("dinov2"), "{message}");
}
