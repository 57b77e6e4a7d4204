//! `pack` and `unpack` through files.

use std::fs;

use eigenmix_adapter::AdapterFile;
use serde_json::json;

use crate::support::{DOWN, QUERY, WEIGHTS, Workplace, classifier_adapter, largest_difference};

const THREE: [&str; 3] = ["adapters/1", "adapters/2", "adapters/3"];

/// Three adapters of ranks 2, 4 and 3; the first says what its input is and has a chat template.
fn three_adapters() -> Workplace {
    let place = Workplace::new();
    for (name, rank) in THREE.into_iter().zip([2, 4, 3]) {
        place.save(name, &classifier_adapter(rank as u64, rank));
    }
    let made = json!({
        "version": "1",
        "method": "train/lora",
        "sources": [],
        "options": {},
        "input": {"task": "sequence-classification", "text": "utterance", "max_length": 40}
    });
    let first = place.path(THREE[0]);
    fs::write(first.join("eigenmix.json"), made.to_string()).expect("written");
    fs::write(first.join("chat_template.jinja"), "{{ messages }}").expect("written");
    place
}

#[test]
fn what_is_packed_in_f32_comes_out_as_it_was() {
    let place = three_adapters();
    let pack = [&["pack"], &THREE[..], &["--out", "store", "--dtype", "f32"]].concat();
    let packed = place.run_json(&pack);
    assert_eq!(packed["directions"][QUERY], json!([9, 9]));
    assert!(
        packed["adapters"]["2"]["relative_error"]
            .as_f64()
            .expect("a number")
            < 1e-6
    );
    assert!(packed["bytes"].as_u64() > packed["basis_bytes"].as_u64());
    let source: u64 = THREE
        .map(|name| {
            fs::metadata(place.path(name).join(WEIGHTS))
                .expect("a file")
                .len()
        })
        .iter()
        .sum();
    assert_eq!(packed["source_bytes"], source);

    let outcome = place.run(&["unpack", "store", "--out", "all"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(place.run(&["unpack", "store#1", "--out", "one"]).status, 0);
    for (before, after) in [(THREE[0], "all/1"), (THREE[1], "all/2"), (THREE[0], "one")] {
        let open = |name: &str| AdapterFile::open(&place.path(name)).expect("an adapter");
        open(after).require_clean().expect("PEFT uses all of it");
        let [before, after] = [before, after].map(|name| open(name).load().expect("it"));
        for path in [QUERY, DOWN] {
            let (old, new) = (&before.modules[path], &after.modules[path]);
            assert_eq!(old.rank(), new.rank());
            let difference = largest_difference(old.update().values(), new.update().values());
            // Entries of ΔW are sums of up to five products below 3 each.
            assert!(difference < 1e-5, "{path}: {difference}");
        }
        assert_eq!(before.heads, after.heads);
        assert_eq!(before.labels, after.labels);
    }
    let made = fs::read(place.path("one").join("eigenmix.json")).expect("a file");
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    assert_eq!(made["method"], "unpack");
    assert_eq!(made["input"]["text"], "utterance");
    assert_eq!(made["options"]["made"]["method"], "train/lora");
    let template = fs::read(place.path("one").join("chat_template.jinja")).expect("a file");
    assert_eq!(template, b"{{ messages }}");
}

#[test]
fn an_adapter_of_a_store_is_one_wherever_an_adapter_is_asked_for() {
    let place = three_adapters();
    let pack = [&["pack"], &THREE[..], &["--out", "store", "--dtype", "f32"]].concat();
    place.run_json(&pack);
    let found = place.run_json(&["inspect", "store"]);
    assert_eq!(
        (&found["kind"], &found["directions"][QUERY]),
        (&json!("store"), &json!([9, 9]))
    );
    let merge = |inputs: [&str; 2], out: &str| {
        let options = ["--space", "core", "--method", "average"];
        place.run_json(&[&["merge", inputs[0], inputs[1], "--out", out], &options[..]].concat());
        let merged = AdapterFile::open(&place.path(out)).expect("an adapter");
        merged.load().expect("an adapter").modules[QUERY].update()
    };
    let from_store = merge(["store#1", "store#3"], "merged");
    let from_files = merge([THREE[0], THREE[2]], "expected");
    assert!(largest_difference(from_store.values(), from_files.values()) < 1e-5);
    let made = fs::read(place.path("merged/eigenmix.json")).expect("a file");
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    assert_eq!(made["sources"][0]["location"], "store#1");

    // Another content under the same name is another adapter.
    place.save("other/3", &classifier_adapter(9, 3));
    let pack = ["pack", "other/3", THREE[0], "--out", "store", "--force"];
    place.run_json(&[&pack[..], &["--dtype", "f32"]].concat());
    let again = merge(["store#3", "store#3"], "again");
    let third = merge(["other/3", "other/3"], "third");
    assert!(largest_difference(again.values(), third.values()) < 1e-5);

    // What was unpacked is checked, and unpacked again where it is not as it was written.
    let cache = place.path("huggingface/eigenmix/stores");
    for entry in fs::read_dir(cache).expect("a cache").flatten() {
        let weights = entry.path().join("3").join(WEIGHTS);
        let mut bytes = fs::read(&weights).expect("weights");
        let last = bytes.len() - 2;
        bytes[last] ^= 0x40;
        fs::write(&weights, bytes).expect("written");
    }
    let mended = merge(["store#3", "store#3"], "mended");
    assert_eq!(mended.values(), again.values());
    // An adapter of a store has its name.
    place.run_json(&["pack", "store#3", "store#1", "--out", "repacked"]);
    let repacked = place.run_json(&["inspect", "repacked"]);
    assert!(repacked["adapters"]["3"].is_object(), "{repacked}");
    let message = place.run_refused(&["inspect", "store#.."]);
    assert!(message.contains("no adapter `..`"), "{message}");
    let message = place.run_refused(&["inspect", "store#2"]);
    assert!(
        message.contains("no adapter `2`") && message.contains("1, 3"),
        "{message}"
    );
    let merge = ["merge", "store#3", "store#3", "--out", "store", "--force"];
    let options = ["--space", "core", "--method", "average"];
    let message = place.run_refused(&[&merge[..], &options].concat());
    assert!(message.contains("contains the input"), "{message}");
}

#[test]
fn eight_bits_take_less_and_the_error_is_told() {
    let place = three_adapters();
    for (out, dtype) in [("exact", "f32"), ("small", "int8")] {
        let pack = [&["pack"], &THREE[..], &["--out", out, "--dtype", dtype]].concat();
        assert_eq!(place.run(&pack).status, 0);
    }
    let pack = [&["pack"], &THREE[..], &["--out", "few", "-k", "5"]].concat();
    let packed = place.run_json(&pack);
    assert_eq!(packed["directions"][DOWN], json!([5, 5]));
    let few = packed["adapters"]["3"]["relative_error"].as_f64();
    assert!(few > Some(0.1) && few < Some(1.0), "{few:?}");
    let basis = |store: &str| {
        let path = place.path(store).join("basis.safetensors");
        fs::metadata(path).expect("a file").len()
    };
    assert!(basis("small") < basis("exact") / 2);
    let outcome = place.run(&["unpack", "small", "--out", "adapters-again"]);
    assert!(outcome.stdout.contains("relative error"), "{outcome:?}");
}

#[test]
fn diagonal_coefficients_and_other_precisions_of_parts_are_options() {
    let place = three_adapters();
    let options = [
        "--coefficients",
        "diagonal",
        "--basis-dtype",
        "bf16",
        "--head-dtype",
        "f32",
    ];
    let pack = [&["pack"], &THREE[..], &["--out", "store"], &options[..]].concat();
    let packed = place.run_json(&pack);
    assert_eq!(packed["options"]["basis_precision"], "bf16");
    assert_eq!(packed["options"]["coefficient_precision"], "int8");
    assert!(
        packed["adapters"]["1"]["relative_error"]
            .as_f64()
            .expect("a number")
            < 0.02
    );
    let variance = [&["pack"], &THREE[..], &["--out", "v", "--variance", "0.5"]].concat();
    let packed = place.run_json(&variance);
    let error = packed["adapters"]["1"]["relative_error"].as_f64();
    assert!(error > Some(0.2), "{error:?}");
}

#[test]
fn damaged_stores_unknown_names_and_existing_outputs_are_refused() {
    let place = three_adapters();
    let pack = [&["pack"], &THREE[..], &["--out", "store"]].concat();
    assert_eq!(place.run(&pack).status, 0);
    let message = place.run_refused(&pack);
    assert!(message.contains("store"), "{message}");
    assert_eq!(place.run(&[&pack[..], &["--force"]].concat()).status, 0);

    let message = place.run_refused(&["unpack", "store#gym", "--out", "x"]);
    assert!(
        message.contains("`gym`") && message.contains("1, 2, 3"),
        "{message}"
    );
    place.run_refused(&["unpack", "nowhere", "--out", "x"]);
    place.run_refused(&["unpack", "store#1", "--out", "adapters/2"]);
    place.run_refused(&["unpack", "store", "--out", "store", "--force"]);
    place.run_refused(&["pack", THREE[0], "--out", "v", "--variance", "1.5"]);

    let path = place.path("store").join("coefficients.safetensors");
    let bytes = fs::read(&path).expect("the coefficients");
    fs::write(&path, &bytes[..bytes.len() - 5]).expect("written");
    let message = place.run_refused(&["unpack", "store", "--out", "x"]);
    assert!(message.contains("truncated"), "{message}");
    assert!(!place.path("x").exists());
}
