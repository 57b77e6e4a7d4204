//! An image and its place in the text go together, or the row is refused: features in the places of another
//! row's image would be a wrong result without a word.

use serde_json::{Value, json};

use crate::conversations::{image, write};
use crate::golden::golden;
use crate::support::Workplace;
use crate::training::write_training;

const QUESTION: &str = "USER: <image> What is it? ASSISTANT:";

/// The continuation of each row, and how many tokens their prompts have.
fn predict(place: &Workplace, more: &[&str]) -> (Vec<Value>, u64) {
    let base = golden("base");
    let common = ["predict", "--base", &base, "--max-new-tokens", "6"];
    let found = place.run_json(&[&common[..], more].concat());
    let rows = found["predictions"].as_array().expect("a list");
    let texts = rows.iter().map(|row| row["continuation"].clone());
    let tokens = found["speed"]["prompt_tokens"].as_u64().expect("a number");
    (texts.collect(), tokens)
}

#[test]
fn a_line_as_it_stands_has_its_image_whole_like_the_row_of_a_table() {
    let place = Workplace::new();
    std::fs::write(place.path("line.txt"), format!("{QUESTION}\n")).expect("a file");
    let row = |image: &str| json!({"prompt": QUESTION, "image": image});
    let mut answers = Vec::new();
    for index in [0, 1] {
        let image = image(index);
        write(&place, "rows.jsonl", &[row(&image)]);
        // A table is in whatever form its columns are, also without a training that says which.
        let of_table = predict(&place, &["--input", "data/rows.jsonl"]);
        let line = ["--input", "line.txt", "--raw", "--image", &image];
        assert_eq!(predict(&place, &line), of_table);
        let text = json!({"text": QUESTION, "image": image});
        write(&place, "text.jsonl", &[text]);
        let as_text = ["--input", "data/text.jsonl", "--set", "format=text"];
        assert_eq!(predict(&place, &as_text), of_table);
        answers.push(of_table);
    }
    assert_ne!(answers[0].0, answers[1].0);
}

#[test]
fn an_image_of_the_answer_is_not_given_to_the_prompt_of_another_row() {
    let place = Workplace::new();
    let asked = json!([
        {"role": "user", "content": [{"type": "image", "image": image(0)}, {"type": "text", "text": "What is it?"}]}]);
    let shown = json!([
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": [{"type": "image", "image": image(1)}, {"type": "text", "text": "This."}]}]);
    let [asked, shown] = [asked, shown].map(|messages| json!({"messages": messages}));
    write(&place, "alone.jsonl", std::slice::from_ref(&asked));
    write(&place, "both.jsonl", &[shown, asked]);
    let (alone, _) = predict(&place, &["--input", "data/alone.jsonl"]);
    let (both, _) = predict(&place, &["--input", "data/both.jsonl"]);
    assert_eq!(alone[0], both[1]);
}

#[test]
fn an_answer_with_a_place_for_an_image_is_refused() {
    let place = Workplace::new();
    let row = |image: &str, completion: &str| json!({"prompt": QUESTION, "completion": completion, "image": image});
    write(
        &place,
        "train.jsonl",
        &[row(&image(0), "red"), row(&image(1), "a <image>")],
    );
    let lora = "method = \"lora\"\nrank = 2";
    write_training(&place, "run", lora, "epochs = 1\nevaluate_every = 0\n");
    let message = place.run_refused(&["train", "run.toml"]);
    assert!(
        message.contains("train.jsonl:2: the answer has a place for an image"),
        "{message}"
    );
    let question = json!({"question": QUESTION, "choices": ["red", "<image>"], "answer": 0, "image": image(0)});
    write(&place, "test.jsonl", &[question]);
    let base = golden("base");
    let message = place.run_refused(&["evaluate", "--base", &base, "--data", "data"]);
    assert!(
        message.contains("test.jsonl:1: the answer has a place for an image"),
        "{message}"
    );
}

#[test]
fn a_question_whose_image_would_be_cut_is_refused() {
    let place = Workplace::new();
    let row = |question: &str| {
        let question = format!("<image> {question}");
        json!({"question": question, "choices": ["red", "white"], "answer": 0, "image": image(0)})
    };
    // The longer one leaves a part of its image, or nothing of it.
    for words in [10, 24] {
        let rows = [row("What?"), row(&"boats ".repeat(words))];
        write(&place, "test.jsonl", &rows);
        let base = golden("base");
        let evaluate = ["evaluate", "--base", &base, "--data", "data", "--metric"];
        let found = place.run_json(&[&evaluate[..], &["accuracy"]].concat());
        assert!(found["metrics"]["accuracy"].is_number(), "{found}");
        let cut = ["accuracy", "--set", "max_length=18"];
        let message = place.run_refused(&[&evaluate[..], &cut].concat());
        assert!(
            message.contains("test.jsonl:2: with its images the question takes"),
            "{message}"
        );
    }
}

#[test]
fn a_system_message_for_a_row_that_is_no_conversation_is_refused() {
    let place = Workplace::new();
    let row = json!({"prompt": QUESTION, "image": image(0)});
    write(&place, "rows.jsonl", &[row]);
    let base = golden("base");
    let message = place.run_refused(&[
        "predict",
        "--base",
        &base,
        "--input",
        "data/rows.jsonl",
        "--system",
        "Be brief.",
        "--max-new-tokens",
        "6",
    ]);
    assert!(message.contains("needs a conversation"), "{message}");
}
