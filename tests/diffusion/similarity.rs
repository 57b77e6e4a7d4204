//! Images beside their prompts and beside others, by a CLIP (the cosines themselves are compared with
//! transformers' in crates/trainer/src/model/clip_similarity.rs).

use std::path::Path;

use crate::support::Workplace;
use serde_json::Value;

use crate::files::*;

#[test]
fn generated_images_are_compared_with_their_prompts_and_with_other_images() {
    let place = Workplace::new();
    let base = golden("sd").join("base");
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/clip/base");
    let start = [
        "generate",
        "--base",
        text(&base),
        "--clip",
        text(&clip),
        "--prompt",
        "a red fox",
        "--images",
        "2",
        "--steps",
        "2",
    ];
    let found = |more: &[&str]| -> Vec<Value> {
        let report = place.run_json(&[&start[..], more].concat());
        let images = report["images"].as_array().expect("images");
        images
            .iter()
            .map(|image| image["similarity"].clone())
            .collect()
    };
    let alone = found(&["--out", "alone"]);
    let beside = found(&["--out", "beside", "--references", "alone/000-0.png"]);
    let both = found(&["--out", "both", "--references", "alone"]);
    let number = |value: &Value| value.as_f64().expect("a number");
    for index in 0..2 {
        assert!(number(&alone[index]["text"]).abs() < 1.0);
        assert_eq!(alone[index]["image"], Value::Null);
        assert_eq!(beside[index]["text"], alone[index]["text"]);
    }
    assert!((number(&beside[0]["image"]) - 1.0).abs() < 1e-6);
    let other = number(&beside[1]["image"]);
    assert!(other < 1.0 - 1e-5, "{other}");
    // The mean of the image with itself and with the other one.
    assert!((number(&both[0]["image"]) - (1.0 + other) / 2.0).abs() < 1e-6);
    assert_ne!(alone[0]["text"], alone[1]["text"]);

    let refuse = |arguments: &[&str]| {
        let arguments = [
            &start[..3],
            &["--prompt", "a fox", "--out", "no"],
            arguments,
        ]
        .concat();
        place.run_refused(&arguments)
    };
    let refused = refuse(&["--clip", text(&base.join("text_encoder"))]);
    assert!(refused.contains("text"), "{refused}");
    let empty = place.path("empty");
    std::fs::create_dir(&empty).expect("a directory");
    let refused = refuse(&["--clip", text(&clip), "--references", text(&empty)]);
    assert!(refused.contains("no images to compare with"), "{refused}");
    // Of the command line's own: several lines.
    let alone = [
        "--prompt",
        "a fox",
        "--out",
        "no",
        "--references",
        text(&empty),
    ];
    let outcome = place.run(&[&start[..3], &alone].concat());
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("--clip"), "{outcome:?}");
}
