//! Images of prompts.

use std::fs;

use crate::support::Workplace;
use serde_json::Value;

use crate::files::*;

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
