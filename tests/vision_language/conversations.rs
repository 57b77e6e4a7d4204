//! Conversations with images in every form, through training, evaluation and prediction; and what is
//! refused before a training starts.

use serde_json::{Value, json};

use crate::golden::golden;
use crate::support::Workplace;
use crate::training::write_training;

pub fn image(index: usize) -> String {
    golden(&format!("images/image-{index}.png"))
}

pub fn write(place: &Workplace, name: &str, rows: &[Value]) {
    std::fs::create_dir_all(place.path("data")).expect("a directory");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(place.path(&format!("data/{name}")), lines.join("\n")).expect("a file");
}

fn conversation(image: &str, question: &str, answer: &str) -> Value {
    json!({"image": image, "conversations": [
        {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
}

const LORA: &str = "method = \"moslora\"\nrank = 2\ntarget_modules = \"all-linear\"\n\
                    modules_to_save = [\"multi_modal_projector\"]\n[adapter.vision]\nalpha = 1.0";

#[test]
fn conversations_with_images_and_without_are_trained_and_evaluated_together() {
    let place = Workplace::new();
    let text = json!({"conversations": [
        {"from": "human", "value": "There are boats"}, {"from": "gpt", "value": "red"}]});
    let two = json!({"image": [image(0), image(1)], "conversations": [
        {"from": "human", "value": "<image>\n<image>\nHow many?"}, {"from": "gpt", "value": "two"},
        {"from": "human", "value": "And the fox?"}, {"from": "gpt", "value": "white"}]});
    let rows = [
        conversation(&image(0), "What is it?", "red"),
        text.clone(),
        two,
        text,
    ];
    write(&place, "train.jsonl", &rows);
    let of_trl = json!({"messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "red"}], "images": [image(2)]});
    write(&place, "validation.jsonl", &[of_trl]);
    let training = "epochs = 2\nkeep = \"last\"\n";
    write_training(&place, "run", LORA, training);
    let file = std::fs::read_to_string(place.path("run.toml")).expect("a file");
    let task =
        "kind = \"vision-language\"\nmetrics = [\"vqa-accuracy\", \"exact-match\", \"perplexity\"]";
    let file = file.replace("kind = \"vision-language\"", task);
    std::fs::write(place.path("run.toml"), file).expect("a file");
    let outcome = place.run(&["train", "run.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("6 layers of the tower above its features"),
        "{outcome:?}"
    );
    let result = place.run_json(&[
        "evaluate",
        "--base",
        &golden("base"),
        "--adapter",
        "run/adapter",
        "--data",
        "data",
        "--split",
        "validation",
        "--metric",
        "vqa-accuracy",
        "--metric",
        "perplexity",
    ]);
    assert!(result.to_string().contains("vqa-accuracy"), "{result}");
}

#[test]
fn a_line_about_an_image_is_answered_as_the_same_row_of_a_table_is() {
    let place = Workplace::new();
    let base = golden("base");
    std::fs::write(place.path("lines.txt"), "What is it?\n").expect("a file");
    let predict = |more: &[&str]| {
        let common = ["predict", "--base", &base, "--max-new-tokens", "6"];
        let found = place.run_json(&[&common[..], more].concat());
        found["predictions"][0]["continuation"].clone()
    };
    let first = image(0);
    let of_line = predict(&["--input", "lines.txt", "--image", &first]);
    let rows =
        [json!({"messages": [{"role": "user", "content": "What is it?"}], "images": [first]})];
    write(&place, "rows.jsonl", &rows);
    assert_eq!(of_line, predict(&["--input", "data/rows.jsonl"]));
    let other = image(1);
    let answers = [
        of_line,
        predict(&["--input", "lines.txt", "--image", &other]),
        predict(&["--input", "lines.txt"]),
    ];
    // The model is random, but it sees the image.
    assert!(
        answers[0] != answers[1] && answers[0] != answers[2],
        "{answers:?}"
    );

    let refused = |more: &[&str]| {
        let common = ["predict", "--base", &base, "--max-new-tokens", "6"];
        place.run_refused(&[&common[..], more].concat())
    };
    std::fs::write(place.path("two.txt"), "<image> and <image>?\n").expect("a file");
    let message = refused(&["--input", "two.txt", "--image", &other]);
    assert!(message.contains("places for 2 images"), "{message}");
    let message = refused(&["--input", "data/rows.jsonl", "--image", &other]);
    assert!(
        message.contains("a table have a column of images"),
        "{message}"
    );
    let message = refused(&["--input", "lines.txt", "--image", "nowhere.png"]);
    assert!(message.contains("nowhere.png"), "{message}");
}

#[test]
fn a_broken_or_missing_image_is_named_with_its_row_before_the_first_step() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("data")).expect("a directory");
    let whole = std::fs::read(image(0)).expect("an image");
    std::fs::write(place.path("data/broken.png"), &whole[..whole.len() / 2]).expect("a file");
    let good = conversation(&image(0), "What is it?", "red");
    for (bad, expected) in [
        (
            conversation("broken.png", "What is it?", "red"),
            "train.jsonl:3",
        ),
        (
            conversation("missing.png", "What is it?", "red"),
            "missing.png",
        ),
    ] {
        write(
            &place,
            "train.jsonl",
            &[good.clone(), good.clone(), bad, good.clone()],
        );
        write_training(&place, "run", LORA, "epochs = 1\nevaluate_every = 0\n");
        let message = place.run_refused(&["train", "run.toml"]);
        assert!(
            message.contains(expected) && message.contains("train.jsonl:3"),
            "{message}"
        );
        assert!(!place.path("run").exists());
        let outcome = place.run(&["train", "run.toml", "--set", "data.unreadable=skip"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(
            outcome.stderr.contains("1 of 4 rows of the train split"),
            "{outcome:?}"
        );
        std::fs::remove_dir_all(place.path("run")).expect("a run");
    }
}

#[test]
fn options_for_what_a_model_does_not_have_are_refused() {
    let place = Workplace::new();
    write(
        &place,
        "train.jsonl",
        &[conversation(&image(0), "What is it?", "red")],
    );
    for (adapter, expected) in [
        (
            "method = \"lora\"\nrank = 2\nmodules_to_save = [\"resampler\"]",
            "no linear layer of the base model is in a module `resampler`",
        ),
        (
            "method = \"lora\"\nrank = 2\ntarget_modules = \".*language_model.*q_proj\"\n[adapter.vision]\nrank = 3",
            "no layer of a tower is adapted",
        ),
        (
            "method = \"lora\"\nrank = 2\ntarget_modules = \".*vision_tower.*layers.2.*fc1\"",
            "layers.2.mlp.fc1`, is above the tower's features and not computed",
        ),
        (
            "method = \"lora\"\nrank = 2\ntarget_modules = [\"linear_1\"]\n\
             modules_to_save = [\"multi_modal_projector\"]",
            "linear_1`, is trained whole (adapter.modules_to_save)",
        ),
    ] {
        write_training(&place, "run", adapter, "epochs = 1\nevaluate_every = 0\n");
        let message = place.run_refused(&["train", "run.toml"]);
        assert!(message.contains(expected), "{message}");
    }
    let message = place.run_refused(&["train", "run.toml", "--set", "task.kind=causal-lm"]);
    assert!(
        message.contains("vision-language models continue texts with images"),
        "{message}"
    );
}
