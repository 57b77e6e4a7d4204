//! `extract` and `project` through files.

use std::path::Path;

use crate::support::{
    DOWN, QUERY, WEIGHTS, Workplace, classifier_adapter, largest_difference, random_adapter,
    read_json,
};
use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::{Matrix, TensorFile};
use serde_json::{Value, json};

/// Three adapters of ranks 2, 4 and 3: nine directions of QUERY, twelve of DOWN.
fn three_adapters() -> Workplace {
    let place = Workplace::new();
    for (seed, rank) in [(1, 2), (2, 4), (3, 3)] {
        place.save(&format!("adapters/{seed}"), &classifier_adapter(seed, rank));
    }
    place
}

const THREE: [&str; 3] = ["adapters/1", "adapters/2", "adapters/3"];

#[test]
fn all_directions_reconstruct_the_sources() {
    let place = three_adapters();
    let extracted = place.run_json(&[&["extract"], &THREE[..], &["--out", "s"]].concat());
    assert_eq!(extracted["module_count"], 2);
    assert_eq!(extracted["left"]["columns"], serde_json::json!([9, 12]));
    assert!(extracted["bytes"].as_u64() > Some(0));

    let arguments = [&["project"], &THREE[..], &["--subspace", "s", "--out", "p"]].concat();
    let projected = place.run_json(&arguments);
    for adapter in projected["adapters"].as_array().expect("a list") {
        // Rounding of the factors to f32 leaves about 1e-7.
        assert!(
            adapter["relative_error"].as_f64().expect("a number") < 1e-5,
            "{adapter}"
        );
        assert_eq!(
            adapter["modules"].as_object().map(|errors| errors.len()),
            Some(2)
        );
    }
    // What was written is the adapter, heads included.
    let original = AdapterFile::open(&place.path("adapters/2")).expect("an adapter");
    let written = AdapterFile::open(&place.path("p/2")).expect("an adapter");
    let (original, written) = (original.load().expect("it"), written.load().expect("it"));
    for path in [QUERY, DOWN] {
        let (before, after) = (&original.modules[path], &written.modules[path]);
        let difference = largest_difference(before.update().values(), after.update().values());
        // Entries of ΔW are sums of up to five products below 3 each; f32 rounds them to 1e-6.
        assert!(difference < 1e-5, "{path}: {difference}");
    }
    assert_eq!(original.heads, written.heads);
    assert_eq!(original.labels, written.labels);
}

/// Adapters 1 and 2 with a copy of each, twice as strong, and 3, which is like none of them.
fn two_families_and_a_stranger() -> Workplace {
    let place = three_adapters();
    for (seed, rank) in [(1, 2), (2, 4)] {
        let mut copy = classifier_adapter(seed, rank);
        for module in copy.modules.values_mut() {
            module.scaling *= 2.0;
        }
        place.save(&format!("adapters/{seed}-louder"), &copy);
    }
    place
}

const FIVE: [&str; 5] = [
    "adapters/1",
    "adapters/2",
    "adapters/3",
    "adapters/1-louder",
    "adapters/2-louder",
];

#[test]
fn each_family_of_adapters_gets_a_subspace_and_a_stranger_is_named() {
    let place = two_families_and_a_stranger();
    for count in ["auto", "3"] {
        let extract = [
            &["extract"],
            &FIVE[..],
            &["--clusters", count, "--out", count],
        ]
        .concat();
        let found = place.run_json(&extract);
        let clusters = found["clusters"].as_array().expect("a list");
        let members: Vec<&Value> = clusters.iter().map(|it| &it["adapters"]).collect();
        assert_eq!(members[0], &json!(["adapters/1", "adapters/1-louder"]));
        assert_eq!(members[1], &json!(["adapters/2", "adapters/2-louder"]));
        assert_eq!(members.len(), 2);
        assert!((clusters[0]["shared"].as_f64().expect("a number") - 1.0).abs() < 1e-6);
        assert_eq!(found["outliers"][0]["adapter"], "adapters/3");

        // Each holds its own family and not the other.
        for (cluster, own, other) in [
            (1, "adapters/1", "adapters/2"),
            (2, "adapters/2", "adapters/1"),
        ] {
            let subspace = format!("{count}/cluster-{cluster}");
            let project = ["project", own, other, "--subspace", &subspace];
            let projected = place.run_json(&project);
            let error = |index: usize| {
                let adapter = &projected["adapters"][index];
                adapter["relative_error"].as_f64().expect("a number")
            };
            assert!(error(0) < 1e-5 && error(1) > 0.5, "{projected}");
        }
    }
    assert!(!place.path("auto/cluster-3").exists());
}

#[test]
fn clusters_that_cannot_be_are_refused_and_nothing_is_written() {
    let place = three_adapters();
    for (flags, expected) in [
        (&["--clusters", "auto"][..], "no two of the 3 adapters"),
        (
            &["--clusters", "4"],
            "4 clusters were requested of 3 adapters",
        ),
        (
            &["--clusters", "0"],
            "neither a number of clusters nor `auto`",
        ),
        (&["--clusters", "2", "--update", "s"], "cannot be used with"),
    ] {
        let outcome = place.run(&[&["extract"], &THREE[..], &["--out", "s"], flags].concat());
        assert_ne!(outcome.status, 0, "{outcome:?}");
        assert!(outcome.stderr.contains(expected), "{outcome:?}");
        assert!(!place.path("s").exists());
    }
}

#[test]
fn clusters_are_of_one_base_model_unless_it_is_allowed() {
    let place = three_adapters();
    let path = place.path(THREE[2]).join("adapter_config.json");
    let mut config = read_json(&path);
    config["base_model_name_or_path"] = "org/another".into();
    std::fs::write(&path, config.to_string()).expect("written");
    let extract = [&["extract"], &THREE[..], &["--out", "s", "--clusters", "1"]].concat();
    let message = place.run_refused(&extract);
    assert!(message.contains("org/another"), "{message}");
    place.run_json(&[&extract[..], &["--allow-base-mismatch"]].concat());
}

#[test]
fn one_projected_adapter_is_written_to_the_directory_itself() {
    let place = three_adapters();
    let extract = ["extract", THREE[0], "--out", "s"];
    assert_eq!(place.run(&extract).status, 0);
    let project = ["project", THREE[0], "--subspace", "s", "--out", "p"];
    let outcome = place.run(&project);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(place.path("p").join(WEIGHTS).exists());
    assert!(outcome.stdout.contains("query"), "{outcome:?}");
}

#[test]
fn adapters_of_one_name_are_told_apart_by_what_is_above_them() {
    let place = Workplace::new();
    for (seed, name) in [(1, "gym/seed-0"), (2, "zoo/seed-0")] {
        place.save(name, &random_adapter(seed, 3));
    }
    let both = ["gym/seed-0", "zoo/seed-0"];
    let extract = [&["extract"], &both[..], &["--out", "s"]].concat();
    assert_eq!(place.run(&extract).status, 0);
    let project = [&["project"], &both[..], &["--subspace", "s", "--out", "p"]].concat();
    let projected = place.run_json(&project);
    assert_eq!(projected["adapters"][1]["name"], "zoo-seed-0");
    assert!(place.path("p/zoo-seed-0").join(WEIGHTS).exists());
}

#[test]
fn a_strangers_update_lies_mostly_outside_and_its_error_says_so() {
    let place = three_adapters();
    assert_eq!(
        place
            .run(&["extract", THREE[0], "--out", "s", "-k", "1"])
            .status,
        0
    );
    place.save("stranger", &random_adapter(9, 3));
    let projected = place.run_json(&["project", "stranger", "--subspace", "s"]);
    let error = projected["adapters"][0]["relative_error"].as_f64();
    // One random direction of 37 and of 23 holds next to nothing of it.
    assert!(error > Some(0.9) && error <= Some(1.0), "{error:?}");
}

#[test]
fn asking_for_more_components_than_there_are_is_told_with_the_remedy() {
    let place = three_adapters();
    let extract = [&["extract"], &THREE[..], &["-k", "10", "--out", "s"]].concat();
    let outcome = place.run(&extract);
    assert_eq!(outcome.status, 0);
    assert!(outcome.stderr.contains("--augment 1"), "{outcome:?}");

    let augmented = [&extract[..], &["--augment", "1", "--force"]].concat();
    let extracted = place.run_json(&augmented);
    assert_eq!(extracted["modules"][QUERY]["left"]["augmented"], 1);
}

#[test]
fn a_share_of_the_variance_takes_fewer_components_and_keeps_that_share() {
    let place = three_adapters();
    let extract = [
        &["extract"],
        &THREE[..],
        &["--variance", "0.5", "--out", "s"],
    ]
    .concat();
    let extracted = place.run_json(&extract);
    for side in ["left", "right"] {
        let kept = extracted[side]["variance_kept_min"].as_f64();
        assert!(kept >= Some(0.5) && kept < Some(1.0), "{side}: {kept:?}");
    }
    let message = place.run_refused(&["extract", THREE[0], "--variance", "1.5", "--out", "t"]);
    assert!(message.contains("1.5"), "{message}");
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let place = three_adapters();
    for (threads, out) in [("1", "one"), ("4", "four")] {
        let arguments = ["--threads", threads, "--out", out, "--augment", "2"];
        let outcome = place.run(&[&["extract"], &THREE[..], &arguments].concat());
        assert_eq!(outcome.status, 0, "{outcome:?}");
    }
    for file in ["subspace.safetensors", "subspace.json"] {
        let read = |out: &str| std::fs::read(place.path(out).join(file)).expect("a file");
        assert_eq!(read("one"), read("four"), "{file}");
    }
}

/// PCA of the group `same`, top 5, centred (golden/README.md).
#[test]
fn raw_centred_components_in_files_are_those_of_the_reference() {
    // Of an eigenvalue, and of a projector's entries, which are 1 at most; both are rounded to f32.
    const TOLERANCE: f32 = 1e-5;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/merging");
    let place = Workplace::new();
    let adapters = [0, 1, 2].map(|index| golden.join(format!("adapters/same-{index}")));
    let adapters = adapters.map(|path| path.to_str().expect("UTF-8").to_owned());
    let mut arguments = vec!["extract"];
    arguments.extend(adapters.iter().map(String::as_str));
    arguments.extend(["--raw-factors", "--center", "-k", "5", "--out", "s"]);
    let outcome = place.run(&arguments);
    assert_eq!(outcome.status, 0, "{outcome:?}");

    let ours = TensorFile::open(&place.path("s/subspace.safetensors")).expect("a subspace");
    let theirs = TensorFile::open(&golden.join("principal_components.safetensors"))
        .expect("golden components");
    let mut compared = 0;
    for name in theirs.names() {
        let Some(key) = name.strip_suffix("/eigenvalues") else {
            continue;
        };
        let path = key
            .strip_prefix("base_model.model.")
            .expect("PEFT's prefix");
        let basis = match path.rsplit_once(".lora_").expect("a factor") {
            (module, "B.weight") => format!("{module}/left"),
            (module, _) => format!("{module}/right"),
        };
        let variance = ours
            .read_f32(&format!("{basis}_variance"))
            .expect("variances");
        let eigenvalues = theirs.read_f32(name).expect("eigenvalues");
        for (ours, theirs) in variance.iter().zip(&eigenvalues) {
            // Neighbours are more than 1 % apart.
            assert!(
                (ours - theirs).abs() < TOLERANCE * theirs,
                "{key}: {ours}, {theirs}"
            );
        }
        let &[width, columns] = ours.shape(&basis).expect("a basis") else {
            panic!("`{basis}` is no matrix");
        };
        let vectors = ours.read_f32(&basis).expect("a basis");
        let first = Matrix::from_fn(width, 5, |row, column| vectors[row * columns + column]);
        let projector = first.product(&first.transposed());
        let expected = theirs
            .read_f32(&format!("{key}/projector_top5"))
            .expect("a projector");
        let difference = largest_difference(projector.values(), &expected);
        assert!(difference < TOLERANCE, "{key}: {difference}");
        compared += 1;
    }
    assert_eq!(compared, 6, "two factors of three modules");
}

#[test]
fn an_update_grows_by_what_a_new_adapter_lacks_and_keeps_the_old_columns() {
    let place = three_adapters();
    let extract = ["extract", THREE[0], THREE[1], "--out", "s"];
    assert_eq!(place.run(&extract).status, 0);
    let update = ["extract", "--update", "s", THREE[2], "--out", "larger"];
    let updated = place.run_json(&[&update[..], &["--residual", "0"]].concat());
    let adapter = &updated["adapters"][0];
    assert_eq!(
        (&adapter["name"], &adapter["grown"]),
        (&"3".into(), &2.into())
    );
    // Rank 3 of QUERY and 4 of DOWN, on each side, all of it outside of two random adapters.
    assert_eq!(adapter["left"]["added"], 7);
    assert!(adapter["left"]["residual_before"].as_f64() > Some(0.3));
    assert!(
        adapter["left"]["residual_after"]
            .as_f64()
            .expect("a number")
            < 1e-10
    );
    assert_eq!(updated["sources"].as_array().map(Vec::len), Some(3));
    for (adapter, subspace) in [(THREE[0], "s"), (THREE[0], "larger"), (THREE[2], "larger")] {
        let projected = place.run_json(&["project", adapter, "--subspace", subspace]);
        let error = projected["adapters"][0]["relative_error"].as_f64();
        assert!(
            error.is_some_and(|error| error < 1e-5),
            "{adapter} in {subspace}: {error:?}"
        );
    }
    let columns = |subspace: &str| {
        let path = place.path(subspace).join("subspace.safetensors");
        let file = TensorFile::open(&path).expect("tensors");
        let width = file.shape(&format!("{QUERY}/left")).expect("a shape")[1];
        let values = file.read_f32(&format!("{QUERY}/left")).expect("f32");
        let rows = values.chunks(width).map(|row| row[..6].to_vec());
        rows.collect::<Vec<_>>()
    };
    assert_eq!(columns("s"), columns("larger"));
    let outcome = place.run(&[&update[..5], &["other"]].concat());
    assert!(outcome.stdout.contains("outside before"), "{outcome:?}");
}

#[test]
fn an_update_in_place_needs_force_and_fresh_adapters() {
    let place = three_adapters();
    let extract = ["extract", THREE[0], THREE[1], "--out", "s"];
    assert_eq!(place.run(&extract).status, 0);
    let update = ["extract", "--update", "s", THREE[2], "--out", "s"];
    place.run_refused(&update);
    assert_eq!(place.run(&[&update[..], &["--force"]].concat()).status, 0);
    let again = ["extract", "--update", "s", THREE[2], "--out", "t"];
    let message = place.run_refused(&again);
    assert!(
        message.contains("a source of the subspace already"),
        "{message}"
    );
    let outcome = place.run(&[&again[..], &["--components", "3"]].concat());
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("--components"), "{outcome:?}");
}
