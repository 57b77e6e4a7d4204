//! `eigenmix merge` through files: what is written is the merge that was asked for.

mod support;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, LoraModule, PeftConfig};
use eigenmix_tensors::{HostTensor, Matrix};
use serde_json::Value;
use support::{
    DOWN, QUERY, Random, Workplace, classifier_adapter, largest_difference, random_adapter,
};

fn two_adapters() -> Workplace {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 2));
    place.save("b", &random_adapter(2, 3));
    place
}

fn update(place: &Workplace, adapter: &str, module: &str) -> Matrix {
    let file = AdapterFile::open(&place.path(adapter)).expect("an adapter");
    file.module(module).expect("a module").update()
}

#[test]
fn a_weighted_sum_is_the_same_in_every_space_and_honours_alpha() {
    let place = two_adapters();
    for space in ["full", "knots", "core"] {
        let outcome = place.run(&[
            "merge",
            "a",
            "b",
            "--out",
            space,
            "--space",
            space,
            "--method",
            "sum",
            "--weights",
            "0.5,-0.25",
            "--scale",
            "2",
        ]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        for module in [QUERY, DOWN] {
            let (a, b) = (update(&place, "a", module), update(&place, "b", module));
            let pairs = a.values().iter().zip(b.values());
            let expected: Vec<f32> = pairs.map(|(a, b)| a - 0.5 * b).collect();
            let found = update(&place, space, module);
            // Entries are of size ten, in f32.
            let difference = largest_difference(found.values(), &expected);
            assert!(difference < 2e-5, "{space}, {module}: {difference}");
        }
    }
}

#[test]
fn weights_may_begin_with_a_negative_number() {
    let place = two_adapters();
    for (out, weights) in [
        ("apart", &["--weights", "-0.5,1"][..]),
        ("joined", &["--weights=-0.5,1"]),
    ] {
        let merge = [
            "merge", "a", "b", "--out", out, "--space", "core", "--method", "sum",
        ];
        let outcome = place.run(&[&merge[..], weights].concat());
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let (a, b) = (update(&place, "a", QUERY), update(&place, "b", QUERY));
        let pairs = a.values().iter().zip(b.values());
        let expected: Vec<f32> = pairs.map(|(a, b)| b - 0.5 * a).collect();
        let found = update(&place, out, QUERY);
        // Entries are of size ten, in f32.
        let difference = largest_difference(found.values(), &expected);
        assert!(difference < 2e-5, "{out}: {difference}");
    }
}

#[test]
fn a_negative_value_is_refused_for_its_size_and_not_taken_for_a_flag() {
    let place = two_adapters();
    let merge = [
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "ties",
    ];
    let refused = |arguments: &[&str]| {
        let outcome = place.run(arguments);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(
            !outcome.stderr.contains("unexpected argument"),
            "{outcome:?}"
        );
        outcome.stderr
    };
    let message = refused(&[&merge[..], &["--density", "-0.2"]].concat());
    assert!(
        message.contains("density") && message.contains("-0.2"),
        "{message}"
    );
    for list in ["--scales", "--densities"] {
        let message = refused(&[&merge[..], &[list, "-0.5,1"]].concat());
        assert!(message.contains("--search"), "{message}");
    }
    let message = refused(&["extract", "a", "b", "--out", "s", "--variance", "-0.5"]);
    assert!(message.contains("-0.5"), "{message}");
}

#[test]
fn truncation_keeps_the_rank_and_tells_the_energy() {
    let place = two_adapters();
    let outcome = place.run(&[
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "average", "--rank", "2",
        "--json",
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let energy = found["energy_kept"].as_f64().expect("a number");
    assert!((0.3..0.9999).contains(&energy), "{energy}");
    let file = AdapterFile::open(&place.path("m")).expect("an adapter");
    assert_eq!(file.shape(QUERY).expect("a module").0, 2);
}

#[test]
fn a_compressed_merge_has_its_rank_and_tells_what_is_kept_of_each_adapter() {
    let place = two_adapters();
    let merge = |space, method, out| {
        let command = [
            "merge", "a", "b", "--space", space, "--method", method, "--out", out,
        ];
        place.run(&[&command[..], &["--compress", "2"]].concat())
    };
    for method in ["sum", "tsv", "iso-cts", "robust"] {
        let outcome = merge("core", method, method);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(
            outcome.stdout.contains("compressed to rank 2"),
            "{outcome:?}"
        );
        let kept = outcome.stdout.lines().filter(|it| it.contains(" % of "));
        assert_eq!(kept.count(), 2, "{outcome:?}");
        let file = AdapterFile::open(&place.path(method)).expect("an adapter");
        for module in [QUERY, DOWN] {
            assert_eq!(file.shape(module).expect("a module").0, 2, "{method}");
        }
    }
    let outcome = merge("full", "robust", "refused");
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("take the core or the knots space"));
    assert!(!place.path("refused").exists());
}

#[test]
fn heads_are_kept_apart_and_mentioned() {
    let place = Workplace::new();
    place.save("a", &classifier_adapter(1, 2));
    place.save("b", &classifier_adapter(2, 2));
    let outcome = place.run(&[
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "tsv",
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("classifier.weight"), "{outcome:?}");
    let file = AdapterFile::open(&place.path("m")).expect("an adapter");
    assert_eq!(file.head_names().count(), 0);
}

#[test]
fn what_cannot_be_merged_is_refused_before_anything_is_written() {
    let place = two_adapters();
    let mut stranger = random_adapter(3, 2);
    stranger.config = stranger
        .config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a configuration");
    place.save("stranger", &stranger);
    for (arguments, expected) in [
        (&["a", "--method", "ties"][..], "ties"),
        (&["a", "b", "--method", "sum", "--weights", "1"], "2"),
        (&["a", "b", "--method", "sum", "--weights", "1,2,3"], "3"),
        (&["a", "b", "--method", "sum", "--weights", "1,NaN"], "NaN"),
        (&["a", "--method", "tsv"], "at least two"),
        (&["a", "--method", "cart"], "at least two"),
        (&["a", "--method", "dare-ties"], "at least two"),
        (&["a", "b", "--method", "ties", "--density", "0"], "density"),
        (
            &["a", "b", "--method", "ties", "--density", "1.01"],
            "found 1.01",
        ),
        (
            &["a", "b", "--method", "dare-ties", "--density", "0"],
            "density",
        ),
        (&["a", "b", "--method", "dare", "--drop", "1"], "found 1;"),
        (
            &["a", "b", "--method", "sum", "--density", "0.5"],
            "--density",
        ),
        (&["a", "stranger", "--method", "sum"], "org/other"),
        (&["a", "nowhere", "--method", "sum"], "nowhere"),
    ] {
        let mut all = vec!["merge", "--out", "m", "--space", "core"];
        all.extend(arguments);
        let outcome = place.run(&all);
        assert_eq!(outcome.status, 2, "{arguments:?}: {outcome:?}");
        assert!(
            outcome.stderr.contains(expected),
            "{arguments:?}: {outcome:?}"
        );
        assert!(!place.path("m").exists(), "{arguments:?}");
    }
}

#[test]
fn shapes_that_clash_are_named_by_module_and_adapters() {
    let place = two_adapters();
    let mut wider = random_adapter(3, 2);
    let module = LoraModule::new(Matrix::zeros(37, 2), Matrix::zeros(2, 24), 1.0);
    wider.modules.insert(QUERY.to_owned(), module);
    place.save("wider", &wider);
    for space in ["full", "knots", "core"] {
        let merge = ["merge", "a", "b", "wider", "--out", "m", "--method", "sum"];
        let message = place.run_refused(&[&merge[..], &["--space", space]].concat());
        for words in [QUERY, "`a`", "`wider`", "[37, 23]", "[37, 24]"] {
            assert!(message.contains(words), "{space}: {message}");
        }
    }
}

#[test]
fn other_base_models_can_be_allowed_where_the_shapes_agree() {
    let place = two_adapters();
    let mut config = place.config("b");
    config["base_model_name_or_path"] = "org/base-copy".into();
    place.write_config("b", &config);
    let merge = [
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "sum",
    ];
    let message = place.run_refused(&merge);
    for words in ["org/base", "org/base-copy", "`a`", "`b`"] {
        assert!(message.contains(words), "{message}");
    }
    let allowed = place.run(&[&merge[..], &["--allow-base-mismatch"]].concat());
    assert_eq!(allowed.status, 0, "{allowed:?}");
}

/// An adapter of `rank` for the modules and the base model of another, with a head of three labels
/// on a width of 35.
fn random_sibling(file: &AdapterFile, rank: usize) -> Adapter {
    let mut random = Random(11);
    let modules: BTreeMap<String, LoraModule> = file
        .module_paths()
        .map(|path| {
            let (_, d_in, d_out) = file.shape(path).expect("a shape");
            let (b, a) = (random.matrix(d_out, rank), random.matrix(rank, d_in));
            (path.to_owned(), LoraModule::new(b.scaled(0.1), a, 0.5))
        })
        .collect();
    let config = PeftConfig::lora(
        file.config().base_model().expect("a base model"),
        rank,
        file.config().target_modules().expect("targets").clone(),
        &["classifier".to_owned()],
        Some("SEQ_CLS"),
        &BTreeMap::new(),
    );
    let mut sibling = Adapter::new(config.expect("a configuration"), modules);
    let head = HostTensor {
        shape: vec![3, 35],
        values: random.numbers(3 * 35),
    };
    sibling.heads.insert("classifier.weight".to_owned(), head);
    sibling
}

#[test]
fn an_adapter_merges_with_itself_and_with_another_and_no_head_is_lost_without_a_word() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/models/distilbert/adapter-plain");
    let place = Workplace::new();
    let file = AdapterFile::open(&directory).expect("an adapter");
    place.save("sibling", &random_sibling(&file, 5));
    let sibling = AdapterFile::open(&place.path("sibling")).expect("an adapter");
    let first = directory.to_str().expect("UTF-8");
    // Itself twice, and itself and the other: with weights that distinguish them.
    for (name, second, other) in [("twice", first, &file), ("both", "sibling", &sibling)] {
        for space in ["full", "knots", "core"] {
            let out = format!("{name}-{space}");
            let outcome = place.run(&[
                "merge",
                first,
                second,
                "--out",
                &out,
                "--space",
                space,
                "--method",
                "sum",
                "--weights",
                "0.75,0.5",
            ]);
            assert_eq!(outcome.status, 0, "{outcome:?}");
            for words in ["2 adapters have heads", "classifier.bias", "not merged"] {
                assert!(outcome.stderr.contains(words), "{outcome:?}");
            }
            let merged = AdapterFile::open(&place.path(&out)).expect("an adapter");
            assert_eq!(merged.head_names().count(), 0, "{out}");
            assert_eq!(merged.module_paths().count(), 4);
            for path in file.module_paths() {
                let a = file.module(path).expect("a module").update();
                let b = other.module(path).expect("a module").update();
                let pairs = a.values().iter().zip(b.values());
                let expected: Vec<f32> = pairs.map(|(a, b)| 0.75 * a + 0.5 * b).collect();
                let found = update(&place, &out, path);
                let difference = largest_difference(found.values(), &expected);
                // Entries are of size 0.01 to 0.5, in f32.
                assert!(difference < 1e-6, "{out}, {path}: {difference}");
            }
        }
    }
    // An adapter that agrees with itself in every entry is its own mean.
    let outcome = place.run(&[
        "merge",
        first,
        first,
        "--out",
        "ties",
        "--space",
        "core",
        "--method",
        "ties",
        "--density",
        "1",
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for path in file.module_paths() {
        let expected = file.module(path).expect("a module").update();
        let found = update(&place, "ties", path);
        let difference = largest_difference(found.values(), expected.values());
        assert!(difference < 1e-6, "{path}: {difference}");
    }
}
