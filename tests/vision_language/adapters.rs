//! Adapters as files: whatever release named their modules, a module is one.

use std::collections::BTreeSet;
use std::path::Path;

use eigenmix_tensors::TensorFile;

use crate::golden::{golden, reference, unpadded, write_inputs};
use crate::support::{Workplace, largest_difference};

/// The paths of the modules in an adapter's file.
fn modules(directory: &Path) -> BTreeSet<String> {
    let file = TensorFile::open(&directory.join("adapter_model.safetensors")).expect("an adapter");
    let names = file.names().filter_map(|name| {
        let path = name.strip_prefix("base_model.model.")?;
        Some(path.split_once(".lora_")?.0.to_owned())
    });
    names.collect()
}

fn run(place: &Workplace, arguments: &[&str]) {
    let outcome = place.run(arguments);
    assert_eq!(outcome.status, 0, "{arguments:?}: {outcome:?}");
}

#[test]
fn adapters_in_the_names_of_two_releases_are_merged_and_extracted_module_by_module() {
    let place = Workplace::new();
    let (new, old) = (golden("adapter-both"), golden("adapter-both-old"));
    // An adapter merged with itself under other names is itself.
    run(
        &place,
        &[
            "merge",
            &new,
            &old,
            "--allow-base-mismatch",
            "--space",
            "core",
            "--method",
            "average",
            "--out",
            "merged",
        ],
    );
    assert_eq!(modules(&place.path("merged")), modules(Path::new(&new)));
    let reference = reference();
    let inputs = write_inputs(&place, &reference, "two");
    let (inputs, base) = (inputs.to_str().expect("UTF-8"), golden("base"));
    run(
        &place,
        &[
            "forward",
            "--base",
            &base,
            "--adapter",
            "merged",
            "--inputs",
            inputs,
            "--out",
            "out.safetensors",
        ],
    );
    let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
    let found = unpadded(
        &reference,
        "two",
        &found.read_f32("logits").expect("logits"),
    );
    let expected = reference.read_f32("two.logits.both").expect("logits");
    let difference = largest_difference(&found, &unpadded(&reference, "two", &expected));
    // Decompositions in f64, factors in f32.
    assert!(difference < 1e-4, "{difference}");
    run(
        &place,
        &[
            "extract",
            &new,
            &old,
            "--allow-base-mismatch",
            "--out",
            "subspace",
        ],
    );
    let result = place.run_json(&[
        "project",
        "--subspace",
        "subspace",
        &old,
        "--allow-base-mismatch",
    ]);
    let text = result.to_string();
    assert!(!text.contains("vision_tower.vision_model"), "{text}");
}

#[test]
fn an_exported_adapter_has_the_names_of_transformers_5_and_targets_them() {
    let place = Workplace::new();
    for name in ["both-old", "both-4.52", "projector-old", "llm-old"] {
        let adapter = golden(&format!("adapter-{name}"));
        run(
            &place,
            &["export", &adapter, "--out", "exported", "--force"],
        );
        let original = golden(&format!(
            "adapter-{}",
            name.split('-').next().expect("a name")
        ));
        let file = |directory: &Path| {
            let file = TensorFile::open(&directory.join("adapter_model.safetensors"));
            let file = file.expect("an adapter");
            file.names().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        assert_eq!(
            file(&place.path("exported")),
            file(Path::new(&original)),
            "{name}"
        );
        let found = place.run_json(&["inspect", "exported"]);
        assert!(!found.to_string().contains("untargeted\":[\""), "{found}");
    }
}

#[test]
fn a_merged_checkpoint_of_either_naming_gives_the_logits_of_the_adapter() {
    let (place, reference) = (Workplace::new(), reference());
    let inputs = write_inputs(&place, &reference, "two");
    let inputs = inputs.to_str().expect("UTF-8");
    for base in ["base", "base-old"] {
        for adapter in ["start", "start-old", "both-4.52", "projector-old"] {
            let (base, path) = (golden(base), golden(&format!("adapter-{adapter}")));
            run(
                &place,
                &[
                    "export",
                    &path,
                    "--merge-into-base",
                    &base,
                    "--out",
                    "merged",
                    "--force",
                ],
            );
            run(
                &place,
                &[
                    "forward",
                    "--base",
                    "merged",
                    "--inputs",
                    inputs,
                    "--out",
                    "out.safetensors",
                    "--force",
                ],
            );
            let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
            let found = unpadded(
                &reference,
                "two",
                &found.read_f32("logits").expect("logits"),
            );
            let name = adapter.split('-').next().expect("a name");
            let expected = reference
                .read_f32(&format!("two.logits.{name}"))
                .expect("logits");
            let difference = largest_difference(&found, &unpadded(&reference, "two", &expected));
            assert!(difference < 5e-5, "{base}, {adapter}: {difference}");
            // The tensors keep the names that this base model has for them.
            let names = |directory: &Path| {
                let file = TensorFile::open(&directory.join("model.safetensors"));
                let file = file.expect("a checkpoint");
                file.names().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(names(&place.path("merged")), names(Path::new(&base)));
        }
    }
}

#[test]
fn a_projector_that_a_merge_leaves_out_is_that_of_the_adapter_named_for_it() {
    let (place, reference) = (Workplace::new(), reference());
    let inputs = write_inputs(&place, &reference, "two");
    let (inputs, base) = (inputs.to_str().expect("UTF-8"), golden("base"));
    let start = golden("adapter-start");
    let merge = ["merge", &start, &golden("adapter-start-old")];
    let how = [
        "--allow-base-mismatch",
        "--space",
        "core",
        "--method",
        "average",
        "--out",
        "merged",
    ];
    let outcome = place.run(&[&merge[..], &how].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("choose one with --head ADAPTER"),
        "{outcome:?}"
    );
    let logits = |more: &[&str]| {
        let forward = ["forward", "--base", &base, "--inputs", inputs];
        let out = ["--out", "out.safetensors", "--force"];
        run(&place, &[&forward[..], more, &out].concat());
        let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
        let found = found.read_f32("logits").expect("logits");
        unpadded(&reference, "two", &found)
    };
    let expected = reference.read_f32("two.logits.start").expect("logits");
    let expected = unpadded(&reference, "two", &expected);
    let with_projector = logits(&["--adapter", "merged", "--head", &start]);
    let difference = largest_difference(&with_projector, &expected);
    // As the merges above.
    assert!(difference < 1e-4, "{difference}");
    assert!(largest_difference(&logits(&["--adapter", "merged"]), &expected) > 1e-2);
    let forward = ["forward", "--base", &base, "--inputs", inputs, "--head"];
    let message = place.run_refused(&[&forward[..], &[&start, "--out", "none"]].concat());
    assert!(message.contains("give it with --adapter"), "{message}");
    for data in ["a", "b"] {
        std::fs::create_dir(place.path(data)).expect("a directory");
        for split in ["validation", "test"] {
            let row = "{\"prompt\": \"What?\", \"completion\": \"red\"}";
            std::fs::write(place.path(&format!("{data}/{split}.jsonl")), row).expect("a file");
        }
    }
    let search = ["--search", "--base", &base, "--data", "a", "--data", "b"];
    let message = place.run_refused(&[&merge[..], &how, &["--force"], &search].concat());
    assert!(
        message.contains("compares the accuracies of classifiers"),
        "{message}"
    );
}
