//! Trainings through the command line: the steps of PEFT, the files that come out.

use eigenmix_tensors::TensorFile;
use serde_json::json;

use crate::golden::{golden, reference};
use crate::support::{Workplace, largest_difference, metrics, read_json};

/// The conversations of a reference, whose files `golden` finds, as rows of prompts and completions.
pub fn write_data(place: &Workplace, golden: fn(&str) -> String) {
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
    std::fs::create_dir_all(place.path("data")).expect("a directory");
    std::fs::write(place.path("data/train.jsonl"), lines.join("\n")).expect("a file");
}

/// Writes a training file.
pub fn write_training(place: &Workplace, name: &str, adapter: &str, training: &str) {
    let base = golden("base");
    let text = format!(
        "output = \"{name}\"\n[base]\nmodel = \"{base}\"\n[task]\nkind = \"vision-language\"\n\
         [data]\npath = \"data\"\n[adapter]\n{adapter}\n\
         [training]\nbatch_size = 2\nlearning_rate = 1e-3\nlog_every = 1\n{training}"
    );
    std::fs::write(place.path(&format!("{name}.toml")), text).expect("a file");
}

#[test]
fn ten_steps_from_an_adapter_of_any_naming_are_those_of_peft() {
    let (place, reference) = (Workplace::new(), reference());
    write_data(&place, golden);
    let expected = reference.read_f32("train.steps").expect("losses");
    for (name, more) in [
        ("start", ""),
        ("start-old", "gradient_checkpointing = true\n"),
    ] {
        let adapter = golden(&format!("adapter-{name}"));
        let adapter =
            format!("method = \"lora\"\ninit = \"{adapter}\"\nallow_base_mismatch = true");
        let training = format!(
            "epochs = 11\nscheduler = \"constant\"\nweight_decay = 1e-2\ngradient_clip = 0.0\n\
             evaluate_every = 0\n{more}"
        );
        write_training(&place, name, &adapter, &training);
        // One step more, whose loss is that after ten.
        let file = format!("{name}.toml");
        let outcome = place.run(&["train", &file]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let losses: Vec<f32> = metrics(&place.path(name))
            .iter()
            .filter(|line| line.get("learning_rate").is_some())
            .filter_map(|line| Some(line["loss"].as_f64()? as f32))
            .collect();
        assert_eq!(losses.len(), 11, "{losses:?}");
        let difference = largest_difference(&losses, &expected);
        println!("{name}: {difference:e}");
        assert!(difference < 5e-5, "{losses:?} {expected:?}");
    }
}

#[test]
fn a_projector_that_is_trained_along_and_what_is_not_computed_are_in_the_adapter() {
    let (place, reference) = (Workplace::new(), reference());
    write_data(&place, golden);
    let adapter = golden("adapter-start-old");
    let adapter = format!("method = \"lora\"\ninit = \"{adapter}\"\nallow_base_mismatch = true");
    let training = "epochs = 10\nscheduler = \"constant\"\nweight_decay = 1e-2\n\
                    gradient_clip = 0.0\nevaluate_every = 0\n";
    write_training(&place, "ten", &adapter, training);
    let outcome = place.run(&["train", "ten.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let file = place.path("ten/adapter/adapter_model.safetensors");
    let file = TensorFile::open(&file).expect("an adapter");
    let config = read_json(&place.path("ten/adapter/adapter_config.json"));
    assert_eq!(config["modules_to_save"], json!(["multi_modal_projector"]));
    for name in [
        "model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "model.language_model.layers.1.mlp.down_proj.lora_B.weight",
        "model.multi_modal_projector.linear_1.weight",
    ] {
        let found = file
            .read_f32(&format!("base_model.model.{name}"))
            .expect("values");
        let mut expected = reference
            .read_f32(&format!("train.end.{name}"))
            .expect("values");
        if name.contains("lora_B") {
            // The scaling of 6/4 is in B here.
            expected.iter_mut().for_each(|value| *value *= 1.5);
        }
        // Ten steps of 1e-3 move a value by up to 1e-2.
        let difference = largest_difference(&found, &expected);
        assert!(difference < 1e-5, "{name}: {difference}");
    }
    // Layers above the features are as they were.
    let start = TensorFile::open(std::path::Path::new(&golden(
        "adapter-start/adapter_model.safetensors",
    )));
    let start = start.expect("an adapter");
    let name = "base_model.model.model.vision_tower.encoder.layers.2.mlp.fc1.lora_A.weight";
    assert_eq!(
        file.read_f32(name).expect("A"),
        start.read_f32(name).expect("A")
    );
    assert_eq!(file.names().count(), start.names().count());
}

#[test]
fn a_model_that_is_trained_whole_keeps_the_names_of_its_base_and_the_layers_that_are_not_computed()
{
    let place = Workplace::new();
    write_data(&place, golden);
    for name in ["base", "base-old"] {
        write_training(
            &place,
            "whole",
            "method = \"full\"",
            "epochs = 2\nevaluate_every = 0\n",
        );
        let file = std::fs::read_to_string(place.path("whole.toml")).expect("a file");
        std::fs::write(
            place.path("whole.toml"),
            file.replace(&golden("base"), &golden(name)),
        )
        .expect("a file");
        let outcome = place.run(&["train", "whole.toml", "--force"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(
            outcome
                .stderr
                .contains("6 layers of the tower above its features, such as"),
            "{outcome:?}"
        );
        let open = |path: &std::path::Path| {
            TensorFile::open(&path.join("model.safetensors")).expect("a checkpoint")
        };
        let (found, base) = (
            open(&place.path("whole/model")),
            open(golden(name).as_ref()),
        );
        let names = |file: &TensorFile| file.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&base));
        let difference = |ending: &str| {
            let name = base
                .names()
                .find(|name| name.ends_with(ending))
                .expect("a tensor");
            let read = |file: &TensorFile| file.read_f32(name).expect("values");
            largest_difference(&read(&found), &read(&base))
        };
        assert_eq!(difference("encoder.layers.2.mlp.fc1.weight"), 0.0);
        assert!(difference("encoder.layers.1.mlp.fc1.weight") > 0.0);
        assert!(difference("multi_modal_projector.linear_1.weight") > 0.0);
    }
}

#[test]
fn no_head_and_no_labels_are_told_of_where_there_are_none() {
    let place = Workplace::new();
    write_data(&place, golden);
    let lora = "method = \"lora\"\nrank = 2\nmodules_to_save = [\"multi_modal_projector\"]";
    write_training(&place, "run", lora, "epochs = 1\n");
    let outcome = place.run(&["train", "run.toml", "--dry-run"]);
    assert!(!outcome.stdout.contains("labels"), "{outcome:?}");
    let outcome = place.run(&["gradient", "run.toml", "--out", "gradient"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("head"), "{outcome:?}");
    let found = TensorFile::open(&place.path("gradient/adapter_model.safetensors"));
    assert!(found.expect("an adapter").names().count() > 0);
}

#[test]
fn a_projector_that_sources_bring_is_said_not_to_be_recycled() {
    let place = Workplace::new();
    write_data(&place, golden);
    let adapters = [golden("adapter-start"), golden("adapter-both")];
    let pool = format!("adapters = {adapters:?}\nallow_base_mismatch = true");
    for adapter in [
        format!("method = \"eigenmix\"\nrank = 2\n{pool}"),
        format!("method = \"compose\"\n{pool}"),
    ] {
        write_training(&place, "run", &adapter, "epochs = 1\nevaluate_every = 0\n");
        let outcome = place.run(&["train", "run.toml", "--force"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let said = "adapter-start`: modules that were trained whole, such as \
                    `model.multi_modal_projector.linear_1.bias`, are not recycled";
        assert!(outcome.stderr.contains(said), "{outcome:?}");
    }
    let [start, both] = &adapters;
    let outcome = place.run(&["select", start, both, "--for", "run.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("are not recycled"), "{outcome:?}");
}
