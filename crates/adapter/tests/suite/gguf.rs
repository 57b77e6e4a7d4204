//! LoRA adapters in GGUF, read and written. The files of tests/golden/gguf_adapters are llama.cpp's form of the
//! PEFT adapters beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{
    Adapter, AdapterError, AdapterFile, Dialect, GgufBase, LayerKind, LoraModule, SaveOptions,
    Style,
};
use eigenmix_gguf::{GgufFamily, GgufFile, GgufOutput, GgufValue, write_gguf};
use eigenmix_quant::Encoding;
use eigenmix_tensors::{Dtype, Matrix};
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

const QUERY: &str = "model.layers.1.self_attn.q_proj";
const VALUE: &str = "model.layers.0.self_attn.v_proj";
const LLAMA: GgufBase = GgufBase {
    family: GgufFamily::Llama,
    heads: Some([4, 2]),
    is_tied: false,
};
const QWEN2: GgufBase = GgufBase {
    family: GgufFamily::Qwen2,
    heads: Some([4, 2]),
    is_tied: true,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/gguf_adapters")
        .join(name)
}

fn opened(name: &str) -> AdapterFile {
    let file = AdapterFile::open(&golden(name)).unwrap();
    file.require_clean().unwrap();
    file
}

fn in_gguf(base: GgufBase) -> Style {
    Style::new(Dialect::Gguf).for_base(base)
}

#[test]
fn files_of_llama_cpp_have_the_very_factors_of_the_peft_adapters_that_they_were_made_of() {
    for (name, peft, base) in [
        ("llama-lora-F32.gguf", "llama-adapter", LLAMA),
        ("llama-lora-F16.gguf", "llama-adapter", LLAMA),
        ("qwen2-lora-F32.gguf", "qwen2-adapter", QWEN2),
    ] {
        let expected = opened(peft).load().unwrap();
        let file = opened(name);
        assert_eq!(file.style().dialect(), Dialect::Gguf);
        assert_eq!(file.needs_base(), base == LLAMA, "{name}");
        let found = file.with_base(&base).unwrap().load().unwrap();
        assert_eq!(found.modules, expected.modules, "{name}");
    }
}

#[test]
fn the_rows_of_queries_and_keys_are_not_read_without_their_base_model() {
    let file = opened("llama-lora-F32.gguf");
    let error = file.module(QUERY).unwrap_err();
    assert!(matches!(error, AdapterError::RowOrder { .. }), "{error}");
    assert!(error.to_string().contains("--base MODEL"), "{error}");
    assert!(file.load().is_err());
    // Values, sizes and what is zero do not depend on the order.
    file.module(VALUE).unwrap();
    assert_eq!(file.shape(QUERY).unwrap(), (4, 64, 64));
    assert_eq!(file.zero_effect().unwrap(), Vec::<String>::new());
    let as_it_lies = file.in_any_order().module(QUERY).unwrap();
    let in_order = opened("llama-lora-F32.gguf").with_base(&LLAMA).unwrap();
    let in_order = in_order.module(QUERY).unwrap();
    assert_ne!(as_it_lies, in_order);
    assert_eq!(as_it_lies.b.row(2), in_order.b.row(1));
}

#[test]
fn a_base_model_of_another_family_or_of_other_heads_is_refused() {
    let with = |base: GgufBase| opened("llama-lora-F32.gguf").with_base(&base).unwrap_err();
    let error = with(QWEN2).to_string();
    assert!(
        error.contains("llama") && error.contains("qwen2"),
        "{error}"
    );
    let heads = Some([4, 3]);
    let error = with(GgufBase { heads, ..LLAMA }).to_string();
    assert!(
        error.contains("k_proj") && error.contains("3 heads"),
        "{error}"
    );
}

#[test]
fn what_is_written_has_all_that_the_file_of_llama_cpp_has() {
    for (name, peft, base, dtype) in [
        ("llama-lora-F32.gguf", "llama-adapter", LLAMA, Dtype::F32),
        ("llama-lora-F16.gguf", "llama-adapter", LLAMA, Dtype::F16),
        ("qwen2-lora-F32.gguf", "qwen2-adapter", QWEN2, Dtype::F32),
    ] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tiny.gguf");
        let adapter = opened(peft).load().unwrap();
        let style = in_gguf(base).with_dtype(dtype);
        adapter
            .save_as(&path, &style, &SaveOptions::default())
            .unwrap();
        let (written, expected) = (
            GgufFile::open(&path).unwrap(),
            GgufFile::open(&golden(name)).unwrap(),
        );
        for (key, value) in expected.metadata() {
            let found = written.value(key);
            match key {
                "general.name" => assert_eq!(found, Some(&GgufValue::from("tiny"))),
                _ => assert_eq!(found, Some(value), "{name}: {key}"),
            }
        }
        let names = |file: &GgufFile| file.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&written), names(&expected));
        for tensor in expected.names() {
            let (found, expected) = (
                written.tensor(tensor).unwrap(),
                expected.tensor(tensor).unwrap(),
            );
            assert_eq!(found.shape, expected.shape, "{name}: {tensor}");
            assert_eq!(found.encoding, expected.encoding, "{name}: {tensor}");
            assert_eq!(found.data, expected.data, "{name}: {tensor}");
        }
    }
}

/// [d_out, d_in] = [8, 6] of rank 2, other numbers for each seed.
fn module(seed: usize, scaling: f32) -> LoraModule {
    let entry = |row: usize, col: usize| ((seed + 7 * row + 3 * col) % 11) as f32 - 5.0;
    LoraModule::new(
        Matrix::from_fn(8, 2, entry),
        Matrix::from_fn(2, 6, |row, col| entry(row + 3, col + 1)),
        scaling,
    )
}

fn adapter_of(modules: Vec<(&str, LoraModule)>) -> Adapter {
    let modules = modules
        .into_iter()
        .map(|(path, module)| (path.to_owned(), module))
        .collect::<BTreeMap<_, _>>();
    let config = opened("llama-adapter").config().clone();
    Adapter::new(config, modules)
}

fn there_and_back(adapter: &Adapter, base: GgufBase) -> Adapter {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("lora.gguf");
    let options = SaveOptions::default();
    adapter.save_as(&path, &in_gguf(base), &options).unwrap();
    let file = AdapterFile::open(&path).unwrap().with_base(&base).unwrap();
    file.require_clean().unwrap();
    file.load().unwrap()
}

#[test]
fn scalings_that_differ_and_mixers_keep_every_update() {
    let mixer = Matrix::new(2, 2, vec![0.0, 2.0, 1.0, -1.0]);
    let mixed = LoraModule {
        mixer: Some(mixer),
        ..module(1, 0.75)
    };
    let plain = module(4, 0.75);
    let other = module(2, 2.5);
    let none = module(3, 0.0);
    let adapter = adapter_of(vec![
        (QUERY, mixed),
        ("model.layers.0.self_attn.k_proj", other),
        ("model.layers.0.mlp.up_proj", none),
        (VALUE, plain.clone()),
    ]);
    let found = there_and_back(&adapter, LLAMA);
    assert_eq!(found.modules.len(), 4);
    for (path, expected) in &adapter.modules {
        let (found, expected) = (found.modules[path].update(), expected.update());
        let largest = expected
            .values()
            .iter()
            .fold(0.0f32, |most, &value| most.max(value.abs()));
        for (found, expected) in found.values().iter().zip(expected.values()) {
            // One rounding of B, and the sums of two products.
            assert!((found - expected).abs() <= 1e-6 * largest, "{path}");
        }
    }
    // What has the common alpha is as it was.
    assert_eq!(found.modules[VALUE], plain);
    assert_eq!(found.config.base_model(), Some("../llama-hf"));
}

#[test]
fn a_table_of_tokens_goes_there_and_back() {
    let table = module(5, 1.5).of_layer(LayerKind::Embedding);
    let adapter = adapter_of(vec![("model.embed_tokens", table.clone())]);
    let found = there_and_back(&adapter, LLAMA);
    assert_eq!(found.modules["model.embed_tokens"], table);
}

fn refused(adapter: &Adapter, base: GgufBase) -> String {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("lora.gguf");
    let saved = adapter.save_as(&path, &in_gguf(base), &SaveOptions::default());
    assert!(!path.exists());
    saved.unwrap_err().to_string()
}

#[test]
fn what_such_a_file_cannot_hold_is_refused_by_name() {
    let tied = GgufBase {
        is_tied: true,
        ..LLAMA
    };
    let table = module(1, 1.0).of_layer(LayerKind::Embedding);
    for (adapter, base, word) in [
        (
            adapter_of(vec![("lm_head", module(1, 1.0))]),
            tied,
            "lm_head",
        ),
        (
            adapter_of(vec![("model.embed_tokens", table)]),
            tied,
            "embed_tokens",
        ),
        (
            adapter_of(vec![("model.layers.0.mlp.gate_up_proj", module(1, 1.0))]),
            LLAMA,
            "gate_up_proj",
        ),
        (
            adapter_of(vec![("model.norm", module(1, 1.0))]),
            LLAMA,
            "norm",
        ),
        (
            adapter_of(vec![(
                VALUE,
                LoraModule {
                    magnitude: Some(vec![1.0; 8]),
                    ..module(1, 1.0)
                },
            )]),
            LLAMA,
            "DoRA",
        ),
        (
            adapter_of(vec![(
                VALUE,
                LoraModule {
                    bias: Some(vec![1.0; 8]),
                    ..module(1, 1.0)
                },
            )]),
            LLAMA,
            "bias",
        ),
    ] {
        let error = refused(&adapter, base);
        assert!(error.contains(word), "{error}");
    }
    let mut with_head = adapter_of(vec![(VALUE, module(1, 1.0))]);
    let weight = eigenmix_tensors::HostTensor::new([2, 3], vec![0.0; 6]);
    with_head.heads.insert("score.weight".to_owned(), weight);
    let error = refused(&with_head, LLAMA);
    assert!(error.contains("score.weight"), "{error}");
    let nobody = GgufBase {
        heads: None,
        ..LLAMA
    };
    let error = refused(&adapter_of(vec![(QUERY, module(1, 1.0))]), nobody);
    assert!(error.contains("--base MODEL"), "{error}");
}

/// A file of one module of values, and what is said of it.
fn file_of(
    changed: &[(&str, Option<GgufValue>)],
    tensors: &[(&str, [usize; 2], Encoding)],
) -> Result<AdapterFile, AdapterError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("lora.gguf");
    let mut metadata: BTreeMap<&str, GgufValue> = BTreeMap::from([
        ("general.architecture", "llama".into()),
        ("general.type", "adapter".into()),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", 6.0f32.into()),
    ]);
    for (key, value) in changed {
        match value {
            Some(value) => metadata.insert(key, value.clone()),
            None => metadata.remove(key),
        };
    }
    let metadata: Vec<_> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, [rows, cols], encoding)| vec![1; rows * encoding.row_bytes(*cols).unwrap()])
        .collect();
    let outputs: Vec<GgufOutput<'_>> = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape, encoding), data)| GgufOutput::new(*name, *shape, *encoding, data))
        .collect();
    write_gguf(&path, &metadata, &outputs).unwrap();
    AdapterFile::open(&path)
}

const A: (&str, [usize; 2], Encoding) = ("blk.0.attn_v.weight.lora_a", [2, 64], Encoding::F32);
const B: (&str, [usize; 2], Encoding) = ("blk.0.attn_v.weight.lora_b", [32, 2], Encoding::F32);

#[test]
fn alpha_is_for_all_modules_and_none_or_zero_is_a_scaling_of_one() {
    let scaling = |alpha: Option<GgufValue>| {
        let file = file_of(&[("adapter.lora.alpha", alpha)], &[A, B]).unwrap();
        file.module(VALUE).unwrap().scaling
    };
    assert_eq!(scaling(Some(6.0f32.into())), 3.0);
    assert_eq!(scaling(Some(0.0f32.into())), 1.0);
    assert_eq!(scaling(None), 1.0);
}

#[test]
fn alpha_is_the_number_of_single_precision_that_stands_in_the_file() {
    // 1.2857143 as a number of double precision is another one, and a fifth of it rounds elsewhere.
    let alpha = 9.0f32 / 7.0;
    let (a, b) = ((A.0, [5, 64], A.2), (B.0, [32, 5], B.2));
    let file = file_of(&[("adapter.lora.alpha", Some(alpha.into()))], &[a, b]).unwrap();
    let expected = (f64::from(alpha) / 5.0) as f32;
    let of_the_text = (alpha.to_string().parse::<f64>().unwrap() / 5.0) as f32;
    assert_ne!(expected, of_the_text);
    assert_eq!(file.module(VALUE).unwrap().scaling, expected);
}

#[test]
fn the_name_of_the_base_model_comes_back_as_it_was() {
    for name in [
        "org/name",
        "../my models/llama",
        "llama-hf",
        "org/name:Q4/a.gguf",
    ] {
        let mut adapter = adapter_of(vec![(VALUE, module(1, 1.0))]);
        adapter.config = adapter
            .config
            .with("base_model_name_or_path", name.into())
            .unwrap();
        let found = there_and_back(&adapter, LLAMA);
        assert_eq!(found.config.base_model(), Some(name));
    }
}

#[test]
fn quantised_factors_are_decoded() {
    let a = (A.0, [2, 64], Encoding::Q8_0);
    let file = file_of(&[], &[a, B]).unwrap();
    let module = file.module(VALUE).unwrap();
    // Bytes of 1: the half 0x0101 times the integer 1.
    let scale = f32::from_bits(0x0101 << 13) * 2.0f32.powi(112);
    assert!(
        module.a.values().iter().all(|&value| value == scale),
        "{scale}"
    );
}

#[test]
fn what_is_no_lora_adapter_is_refused_with_what_was_found() {
    let text = |value: &str| Some(GgufValue::from(value));
    let array = eigenmix_gguf::GgufArray::U32(vec![1, 2]);
    for (key, value, word) in [
        ("general.type", text("model"), "model"),
        ("general.type", None, "general.type"),
        ("adapter.type", text("control"), "control"),
        ("adapter.type", None, "adapter.type"),
        ("general.architecture", text("mamba"), "mamba"),
        ("general.architecture", None, "general.architecture"),
        ("adapter.lora.alpha", text("6"), "adapter.lora.alpha"),
        ("adapter.lora.alpha", Some(f32::NAN.into()), "NaN"),
        (
            "adapter.alora.invocation_tokens",
            Some(GgufValue::Array(array)),
            "certain tokens",
        ),
    ] {
        let error = file_of(&[(key, value)], &[A, B]).unwrap_err();
        let error = format!("{error}");
        assert!(error.contains(word), "{key}: {error}");
    }
}

#[test]
fn factors_that_do_not_fit_are_refused_and_strange_tensors_are_named() {
    let wide = (B.0, [32, 3], Encoding::F32);
    for (tensors, word) in [
        (vec![A], "has no lora_b"),
        (vec![B], "has no lora_a"),
        (vec![A, wide], "has rank 2"),
        (vec![], "no LoRA"),
    ] {
        let error = file_of(&[], &tensors).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    for strange in [
        "blk.0.attn_norm.weight",
        "blk.0.attn_v.bias",
        "blk.0.expert.weight.lora_a",
    ] {
        let file = file_of(&[], &[A, B, (strange, [2, 4], Encoding::F32)]).unwrap();
        let unexpected = &file.report().unexpected;
        assert_eq!(unexpected.len(), 1);
        assert_eq!(unexpected[0].name, strange);
        let error = file.require_clean().unwrap_err().to_string();
        assert!(error.contains(strange), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_file_is_read_or_refused(
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(golden("llama-lora-F16.gguf")).unwrap();
        // The header, where sizes and names are.
        let header = 2208;
        for (at, byte) in changes {
            bytes[at.index(header)] = byte;
        }
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("lora.gguf");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(file) = AdapterFile::open(&path) {
            let _ = file.load();
            if let Ok(file) = file.with_base(&LLAMA) {
                let _ = file.load();
            }
        }
    }
}
