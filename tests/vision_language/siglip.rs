//! LLaVA's form with SigLIP's tower and Qwen 2 (golden/llava_siglip), against transformers and PEFT.

use std::path::Path;

use eigenmix_tensors::TensorFile;

use crate::golden::{unpadded, write_inputs};
use crate::support::{Workplace, largest_difference, metrics, read_json};
use crate::training::write_data;

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llava_siglip");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

fn reference() -> TensorFile {
    TensorFile::open(Path::new(&golden("reference.safetensors"))).expect("a reference")
}

/// The largest difference of logits from those of the reference.
fn difference(place: &Workplace, batch: &str, variant: &str, model: &[&str]) -> f32 {
    let reference = reference();
    let inputs = write_inputs(place, &reference, batch);
    let inputs = inputs.to_str().expect("UTF-8");
    let forward = ["forward", "--inputs", inputs, "--out", "out.safetensors"];
    let outcome = place.run(&[&forward[..], &["--force"], model].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
    if batch == "two" && variant == "base" {
        let features = found.read_f32("image_features").expect("features");
        let expected = reference.read_f32("two.image_features").expect("features");
        assert!(largest_difference(&features, &expected) < 3e-5);
    }
    let logits = |file: &TensorFile, name: &str| {
        unpadded(&reference, batch, &file.read_f32(name).expect("logits"))
    };
    let expected = logits(&reference, &format!("{batch}.logits.{variant}"));
    largest_difference(&logits(&found, "logits"), &expected)
}

#[test]
fn a_tower_without_a_class_token_gives_the_logits_of_transformers_and_of_peft() {
    let place = Workplace::new();
    let (base, adapter) = (golden("base"), golden("adapter"));
    let merge = ["export", &adapter, "--merge-into-base", &base, "--out"];
    let outcome = place.run(&[&merge[..], &["merged"]].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for batch in ["one", "two"] {
        for (variant, model) in [
            ("base", &["--base", &base][..]),
            ("adapter", &["--base", &base, "--adapter", &adapter]),
            ("adapter", &["--base", "merged"]),
        ] {
            let found = difference(&place, batch, variant, model);
            println!("{batch} {variant} {model:?}: {found:e}");
            // The adapter moves logits by more than 9.
            assert!(found < 5e-5, "{batch} {variant} {model:?}: {found}");
        }
    }
}

#[test]
fn ten_steps_are_those_of_peft_and_what_a_pooling_head_has_stays() {
    let place = Workplace::new();
    write_data(&place, golden);
    let text = |name: &str, adapter: &str, training: &str| {
        format!(
            "output = \"{name}\"\n[base]\nmodel = \"{}\"\n[task]\nkind = \"vision-language\"\n[data]\n\
             path = \"data\"\n[adapter]\n{adapter}\n[training]\nbatch_size = 2\nlearning_rate = 1e-3\n\
             log_every = 1\nscheduler = \"constant\"\nweight_decay = 1e-2\ngradient_clip = 0.0\n\
             evaluate_every = 0\n{training}",
            golden("base")
        )
    };
    let adapter = golden("adapter");
    let init = format!("method = \"lora\"\ninit = \"{adapter}\"\nallow_base_mismatch = true");
    std::fs::write(place.path("ten.toml"), text("ten", &init, "epochs = 11")).expect("a file");
    let outcome = place.run(&["train", "ten.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("3 layers of the tower above"),
        "{outcome:?}"
    );
    let losses: Vec<f32> = metrics(&place.path("ten"))
        .iter()
        .filter(|line| line.get("learning_rate").is_some())
        .filter_map(|line| Some(line["loss"].as_f64()? as f32))
        .collect();
    let expected = reference().read_f32("train.steps").expect("losses");
    let found = largest_difference(&losses, &expected);
    println!("steps: {found:e}");
    assert!(
        losses.len() == 11 && found < 5e-5,
        "{losses:?} {expected:?}"
    );
    let open = |path: &Path| TensorFile::open(path).expect("an adapter");
    let ends = open(&place.path("ten/adapter/adapter_model.safetensors"));
    let starts = open(
        Path::new(&adapter)
            .join("adapter_model.safetensors")
            .as_ref(),
    );
    let name = "base_model.model.model.vision_tower.head.mlp.fc1.lora_A.weight";
    assert_eq!(
        ends.read_f32(name).expect("A"),
        starts.read_f32(name).expect("A")
    );
    assert_eq!(ends.names().count(), starts.names().count());

    // Trained whole, the pooling head that is not built stays in the checkpoint.
    let whole = text("whole", "method = \"full\"", "epochs = 1");
    std::fs::write(place.path("whole.toml"), whole).expect("a file");
    let outcome = place.run(&["train", "whole.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let names = |path: &Path| {
        let file = open(path.join("model.safetensors").as_ref());
        file.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&place.path("whole/model")),
        names(Path::new(&golden("base")))
    );
    let config = read_json(&place.path("whole/model/config.json"));
    assert_eq!(config["vision_config"]["model_type"], "siglip_vision_model");
}
