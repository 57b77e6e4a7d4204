//! Packing adapters and getting them back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use eigenmix_adapter::{
    Adapter, AdapterFile, Companion, Labels, LoadedAdapter, LoraModule, PeftConfig, SaveOptions,
    Source, TargetModules,
};
use eigenmix_eigenlorax::{Components, LowRank};
use eigenmix_store::{
    CoefficientKind, PackInput, PackOptions, PackReport, Precision, Store, StoreError, pack,
};
use eigenmix_tensors::{FileError, HostTensor, Matrix};

const QUERY: &str = "layers.0.attention.query";
const DOWN: &str = "layers.0.mlp.down";

fn number(seed: &mut u64) -> f32 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*seed >> 33) as f32) / (1u64 << 30) as f32 - 1.0
}

fn matrix(rows: usize, cols: usize, seed: &mut u64) -> Matrix {
    Matrix::from_fn(rows, cols, |_, _| number(seed))
}

/// An adapter of two modules with a head, a bias of the base model, labels, a bias of B and files
/// beside it; its norm grows with the seed.
fn input(name: &str, rank: usize, mut seed: u64) -> PackInput {
    let size = seed as f32;
    let modules: BTreeMap<String, LoraModule> =
        [(QUERY, [37, 23], rank), (DOWN, [29, 41], rank + 1)]
            .into_iter()
            .map(|(path, [d_out, d_in], rank)| {
                let (b, a) = (
                    matrix(d_out, rank, &mut seed),
                    matrix(rank, d_in, &mut seed),
                );
                let mut module = LoraModule::new(b, a, 0.75 * size);
                module.bias = Some((0..d_out).map(|_| number(&mut seed)).collect());
                (path.to_owned(), module)
            })
            .collect();
    let ranks = modules
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()));
    let targets = TargetModules::Names(vec!["query".to_owned(), "down".to_owned()]);
    let config = PeftConfig::lora(
        "org/base",
        rank,
        targets,
        &[],
        Some("SEQ_CLS"),
        &ranks.collect(),
    );
    let mut adapter = Adapter::new(config.expect("plain names"), modules);
    let head: Vec<f32> = (0..82).map(|_| number(&mut seed)).collect();
    adapter.heads.insert(
        "classifier.weight".to_owned(),
        HostTensor::new([2, 41], head),
    );
    adapter.heads.insert(
        "classifier.bias".to_owned(),
        HostTensor::new([2], vec![0.1, -0.3]),
    );
    adapter.biases.insert(
        "layers.0.norm.bias".to_owned(),
        HostTensor::new([3], vec![0.5, -2.0, 0.125]),
    );
    adapter.labels = Some(Labels(vec!["no".to_owned(), name.to_owned()]));
    let made =
        serde_json::json!({"version": "1", "method": "train/lora", "input": {"text": "words"}});
    PackInput {
        name: name.to_owned(),
        adapter: LoadedAdapter {
            source: Source {
                location: format!("adapters/{name}"),
                sha256: format!("sha256 of {name}"),
            },
            adapter,
        },
        made: made.as_object().cloned(),
        companions: vec![Companion {
            name: "chat_template.jinja".to_owned(),
            content: b"{{ messages }}".to_vec(),
        }],
    }
}

/// Ranks 2, 4 and 3: nine directions of QUERY, twelve of DOWN.
fn inputs() -> Vec<PackInput> {
    vec![input("a", 2, 1), input("b", 4, 2), input("c", 3, 3)]
}

fn options(kind: CoefficientKind, components: Components, precision: Precision) -> PackOptions {
    PackOptions {
        coefficients: kind,
        components,
        basis_precision: precision,
        coefficient_precision: precision,
        head_precision: precision,
        allow_base_mismatch: false,
    }
}

fn packed(inputs: &[PackInput], options: &PackOptions) -> (Store, PackReport) {
    pack(inputs, options, &|_, _| {}).expect("a store")
}

/// ‖ΔW − ΔŴ‖ / ‖ΔW‖ over all modules, of dense updates.
fn dense_error(before: &Adapter, after: &Adapter) -> f64 {
    let (mut lost, mut total) = (0.0, 0.0);
    for (path, module) in &before.modules {
        let (old, new) = (module.update(), after.modules[path].update());
        for (old, new) in old.values().iter().zip(new.values()) {
            lost += f64::from(old - new).powi(2);
            total += f64::from(*old).powi(2);
        }
    }
    (lost / total).sqrt()
}

#[test]
fn with_all_components_in_f32_every_adapter_comes_back_to_rounding() {
    for kind in [CoefficientKind::Full, CoefficientKind::Diagonal] {
        let inputs = inputs();
        let (store, report) = packed(&inputs, &options(kind, Components::All, Precision::F32));
        assert_eq!(report.directions[QUERY], [9, 9]);
        assert_eq!(report.directions[DOWN], [12, 12]);
        for input in &inputs {
            let before = &input.adapter.adapter;
            let after = store.adapter(&input.name).expect("the adapter");
            let error = dense_error(before, &after);
            assert!(error < 2e-6, "{kind:?} {}: {error}", input.name);
            assert_eq!(
                (&after.heads, &after.labels),
                (&before.heads, &before.labels)
            );
            assert_eq!(after.config, before.config);
            for (path, module) in &before.modules {
                assert_eq!(after.modules[path].rank(), module.rank());
            }
        }
    }
}

#[test]
fn the_error_that_is_told_is_that_of_the_adapter_that_comes_out() {
    for kind in [CoefficientKind::Full, CoefficientKind::Diagonal] {
        for precision in Precision::ALL {
            let inputs = inputs();
            let options = options(kind, Components::Count(6), precision);
            let (store, report) = packed(&inputs, &options);
            for input in &inputs {
                let before = &input.adapter.adapter;
                let after = store.adapter(&input.name).expect("the adapter");
                let told = &report.adapters[&input.name];
                let exact = dense_error(before, &after);
                assert!(
                    (told.relative_error - exact).abs() < 1e-4 * exact,
                    "{kind:?} {precision}"
                );
                let worst = &told.worst_module;
                let difference =
                    LowRank::of(&before.modules[worst]).minus(&LowRank::of(&after.modules[worst]));
                let worst_error = difference.norm() / LowRank::of(&before.modules[worst]).norm();
                assert!((told.worst_error - worst_error).abs() < 1e-9);
                assert!(told.worst_error >= told.relative_error);
            }
        }
    }
}

#[test]
fn fewer_components_and_fewer_bits_lose_more_and_take_less() {
    let inputs = inputs();
    let mean = |options: &PackOptions| {
        let report = packed(&inputs, options).1;
        let errors = report.adapters.values().map(|error| error.relative_error);
        (
            errors.sum::<f64>() / 3.0,
            report.basis_bytes + report.coefficient_bytes,
        )
    };
    for kind in [CoefficientKind::Full, CoefficientKind::Diagonal] {
        let mut before = (0.0, u64::MAX);
        for count in [9, 6, 3] {
            let now = mean(&options(kind, Components::Count(count), Precision::F32));
            assert!(
                now.0 > before.0 && now.1 < before.1,
                "{kind:?} {count}: {now:?}"
            );
            before = now;
        }
        let of = |precision| mean(&options(kind, Components::Count(9), precision));
        let (whole, eighth) = (of(Precision::F32), of(Precision::Int8));
        assert!(
            eighth.0 > whole.0 && eighth.1 * 2 < whole.1,
            "{whole:?} {eighth:?}"
        );
    }
}

#[test]
fn a_loud_adapter_does_not_drown_the_others() {
    // Ten thousand times as loud: the basis that minimises the sum of absolute errors would be its own.
    let mut inputs = inputs();
    for module in inputs[0].adapter.adapter.modules.values_mut() {
        module.scaling *= 1e4;
    }
    let options = options(CoefficientKind::Full, Components::Count(6), Precision::F32);
    let (_, report) = packed(&inputs, &options);
    let quiet = mean_error(&report, &["b", "c"]);
    let (_, alike) = packed(&self::inputs(), &options);
    // A scaled adapter has the same unit update, so nothing changes.
    assert!(
        (quiet - mean_error(&alike, &["b", "c"])).abs() < 1e-5,
        "{quiet}"
    );
}

fn mean_error(report: &PackReport, names: &[&str]) -> f64 {
    let errors = names
        .iter()
        .map(|name| report.adapters[*name].relative_error);
    errors.sum::<f64>() / names.len() as f64
}

#[test]
fn a_store_is_loaded_as_it_was_saved_with_all_that_lay_beside() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("store");
    let mut inputs = inputs();
    let down = inputs[1]
        .adapter
        .adapter
        .modules
        .get_mut(DOWN)
        .expect("a module");
    down.b = Matrix::zeros(29, 5);
    down.bias = Some(vec![0.5; 29]);
    inputs[1]
        .adapter
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("a module")
        .bias = Some(vec![1.0; 37]);
    for precision in Precision::ALL {
        let options = options(CoefficientKind::Full, Components::Count(6), precision);
        let (store, report) = packed(&inputs, &options);
        store.save(&directory, true).expect("saved");
        let loaded = Store::load(&directory).expect("loaded");
        assert_eq!(loaded, store);
        assert_eq!(loaded.report(), report);
    }
    let stored = Store::load(&directory).expect("loaded");
    let kept = stored.stored("a").expect("the adapter");
    assert_eq!(kept.companions, inputs[0].companions);
    assert_eq!(kept.made, inputs[0].made);
    // One file, although three adapters have it.
    let files = fs::read_dir(directory.join("companions")).expect("a directory");
    assert_eq!(files.count(), 1);
    let unpacked = stored.adapter("b").expect("the adapter");
    assert!(unpacked.modules[DOWN].update().is_zero());
    // Scaling 1.5 is in the bias.
    assert_eq!(unpacked.modules[DOWN].bias, Some(vec![0.75; 29]));
}

#[test]
fn an_unpacked_adapter_is_one_that_peft_would_write() {
    let place = tempfile::tempdir().expect("a directory");
    let options = options(CoefficientKind::Full, Components::All, Precision::F32);
    let (store, _) = packed(&inputs(), &options);
    let path = place.path().join("b");
    let adapter = store.adapter("b").expect("the adapter");
    adapter.save(&path, &SaveOptions::default()).expect("saved");
    let file = AdapterFile::open(&path).expect("an adapter");
    file.require_clean().expect("all of it is used");
    let error = dense_error(&inputs()[1].adapter.adapter, &file.load().expect("it"));
    assert!(error < 2e-6, "{error}");
}

fn saved(place: &Path) -> std::path::PathBuf {
    let directory = place.join("store");
    let options = options(CoefficientKind::Full, Components::Count(6), Precision::Int8);
    packed(&inputs(), &options)
        .0
        .save(&directory, false)
        .expect("saved");
    directory
}

#[test]
fn a_store_that_is_truncated_changed_or_incomplete_is_refused() {
    let files = [
        "basis.safetensors",
        "coefficients.safetensors",
        "whole.safetensors",
    ];
    for name in files {
        let place = tempfile::tempdir().expect("a directory");
        let directory = saved(place.path());
        let path = directory.join(name);
        let bytes = fs::read(&path).expect("the file");
        fs::write(&path, &bytes[..bytes.len() - 9]).expect("written");
        let error = Store::load(&directory).expect_err("truncated").to_string();
        assert!(error.contains("truncated"), "{error}");
        let mut changed = bytes.clone();
        *changed.last_mut().expect("a byte") ^= 1;
        fs::write(&path, &changed).expect("written");
        let error = Store::load(&directory).expect_err("changed").to_string();
        assert!(error.contains(name), "{error}");
        fs::remove_file(&path).expect("removed");
        Store::load(&directory).expect_err("missing");
    }
    let place = tempfile::tempdir().expect("a directory");
    let directory = saved(place.path());
    fs::write(directory.join("store.json"), "{\"version\": 1}").expect("written");
    let error = Store::load(&directory).expect_err("no description");
    assert!(matches!(error, StoreError::Description { .. }), "{error}");
    let error = Store::load(place.path()).expect_err("no store");
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
}

/// The error of loading a store of which one file was changed.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let place = tempfile::tempdir().expect("a directory");
    let directory = saved(place.path());
    Store::load(&directory).expect("a whole store");
    change(&directory);
    Store::load(&directory).expect_err("a refusal").to_string()
}

#[test]
fn a_file_beside_an_adapter_that_is_missing_changed_or_new_is_refused() {
    for name in ["labels.json", "eigenmix.json", "adapter_config.json"] {
        let path = |directory: &Path| directory.join("adapters/a").join(name);
        let message = refusal(|directory| fs::remove_file(path(directory)).expect("removed"));
        assert!(message.contains("is missing"), "{message}");
        let message = refusal(|directory| fs::write(path(directory), "{}").expect("written"));
        assert!(message.contains("bytes are not those"), "{message}");
    }
    let message = refusal(|directory| {
        fs::write(directory.join("adapters/a/prompts.json"), "{}").expect("written");
    });
    assert!(message.contains("does not tell of it"), "{message}");
}

#[test]
fn a_description_that_does_not_fit_its_files_is_refused_and_leads_nowhere_else() {
    let described = |pointer: &str, value: serde_json::Value| {
        refusal(|directory| {
            let path = directory.join("store.json");
            let text = fs::read(&path).expect("a description");
            let mut json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            *json.pointer_mut(pointer).expect(pointer) = value;
            fs::write(&path, json.to_string()).expect("written");
        })
    };
    let module = "/adapters/a/modules/layers.0.attention.query";
    for rank in [0u64, 1, 1_000_000_000_000, u64::MAX] {
        let message = described(&format!("{module}/rank"), rank.into());
        assert!(message.contains("the rank 2"), "{message}");
    }
    for kernel in [vec![0u64], vec![7, 13], vec![u64::MAX, u64::MAX]] {
        let layer = serde_json::json!({"rank": 2, "layer": {"convolution": kernel}});
        let message = described(module, layer);
        assert!(message.contains("does not divide"), "{message}");
    }
    let whole = "/adapters/a/whole";
    for shape in [
        serde_json::json!([]),
        serde_json::json!([2, 1u64 << 62, 41]),
    ] {
        for place in 0..3 {
            let message = described(&format!("{whole}/{place}/shape"), shape.clone());
            assert!(message.contains("has shape"), "{message}");
        }
    }
    let message = described(whole, serde_json::json!([]));
    assert!(message.contains("is not in store.json"), "{message}");
    let outside = serde_json::json!({"../../outside.txt": 0});
    let message = described("/adapters/a/companions", outside);
    assert!(message.contains("cannot be the name"), "{message}");
    let message = refusal(|directory| {
        let path = directory.join("store.json");
        let text = fs::read_to_string(&path).expect("a description");
        fs::write(&path, text.replace("\"a\":{\"source", "\"../a\":{\"source")).expect("written");
    });
    assert!(
        message.contains("cannot be the name") || message.contains("is not in"),
        "{message}"
    );
}

#[test]
fn the_error_of_what_is_kept_whole_is_told() {
    let with = |precision| {
        let options = PackOptions {
            head_precision: precision,
            ..options(CoefficientKind::Full, Components::All, Precision::F32)
        };
        let inputs = inputs();
        let (store, report) = packed(&inputs, &options);
        let (before, after) = (&inputs[0].adapter.adapter, store.adapter("a").expect("one"));
        let head = "classifier.weight";
        let (before, after) = (&before.heads[head].values, &after.heads[head].values);
        let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value).powi(2)).sum()
        };
        let lost = square(
            &mut before
                .iter()
                .zip(after)
                .map(|(before, after)| before - after),
        );
        let exact = (lost / square(&mut before.iter().copied())).sqrt();
        (report.adapters["a"].whole_error, exact)
    };
    assert_eq!(with(Precision::F32), (0.0, 0.0));
    let (told, exact) = with(Precision::Int8);
    assert!(
        told >= exact && exact > 1e-3 && told < 0.02,
        "{told} {exact}"
    );
    let options = options(CoefficientKind::Full, Components::All, Precision::Int8);
    let mut inputs = inputs();
    let head = inputs[0].adapter.adapter.heads.get_mut("classifier.weight");
    head.expect("a head").values[5] = f32::NAN;
    let error = pack(&inputs, &options, &|_, _| {}).expect_err("a refusal");
    assert!(error.to_string().contains("classifier.weight"), "{error}");
}

#[test]
fn an_existing_directory_is_replaced_only_when_forced() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = saved(place.path());
    let store = Store::load(&directory).expect("loaded");
    let error = store.save(&directory, false).expect_err("it is there");
    assert!(matches!(
        error,
        StoreError::File(FileError::AlreadyExists(_))
    ));
    store.save(&directory, true).expect("replaced");
}

#[test]
fn names_that_are_none_or_come_twice_are_refused_and_unknown_ones_told() {
    let options = options(CoefficientKind::Full, Components::All, Precision::F32);
    for name in ["", "../x", "a#b", "a/b", ".hidden"] {
        let named = [input(name, 2, 1)];
        let error = pack(&named, &options, &|_, _| {}).expect_err("a refusal");
        assert!(matches!(error, StoreError::Name { .. }), "{error}");
    }
    let twice = [input("a", 2, 1), input("a", 3, 2)];
    let error = pack(&twice, &options, &|_, _| {}).expect_err("a refusal");
    assert!(matches!(error, StoreError::NameTwice { .. }), "{error}");
    let (store, _) = packed(&inputs(), &options);
    let error = store.adapter("d").expect_err("a refusal").to_string();
    assert!(
        error.contains("`d`") && error.contains("a, b, c"),
        "{error}"
    );
}
