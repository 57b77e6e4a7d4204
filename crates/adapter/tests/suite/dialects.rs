//! Adapters that other programs wrote mean here what they mean there, and are written again as they
//! were. golden/dialects/make.py says how the files were made.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{
    Adapter, AdapterError, AdapterFile, Dialect, LayerKind, SaveOptions, Style,
};
use eigenmix_tensors::{Dtype, FileError, Matrix, TensorFile};
use tempfile::TempDir;

/// An adapter, its updates in f32 as another program computed them, and its dialect.
const ADAPTERS: [(&str, Dialect); 8] = [
    ("kohya.safetensors", Dialect::Kohya),
    ("kohya_integers.safetensors", Dialect::Kohya),
    ("kohya_without_alpha.safetensors", Dialect::Kohya),
    ("locon.safetensors", Dialect::Kohya),
    ("diffusers.safetensors", Dialect::Diffusers),
    ("diffusers_old.safetensors", Dialect::Diffusers),
    ("peft_layers", Dialect::Peft),
    ("mlx", Dialect::Mlx),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/dialects")
        .join(name)
}

fn opened(name: &str) -> AdapterFile {
    let file = AdapterFile::open(&golden(name)).unwrap();
    file.require_clean().unwrap();
    file
}

/// ‖left − right‖ / ‖right‖ of two updates of the same shape.
fn relative_difference(left: &Matrix, right: &Matrix) -> f64 {
    assert_eq!(left.shape(), right.shape());
    let [rows, cols] = left.shape();
    let difference = Matrix::from_fn(rows, cols, |row, col| {
        left.get(row, col) - right.get(row, col)
    });
    difference.norm() / right.norm()
}

/// That both have the same modules with the same updates. Rounding to f32 leaves about 1e-7.
fn assert_same_updates(found: &Adapter, expected: &Adapter) {
    assert!(found.modules.keys().eq(expected.modules.keys()));
    for (path, module) in &found.modules {
        let expected = &expected.modules[path];
        let difference = relative_difference(&module.update(), &expected.update());
        assert!(difference < 1e-6, "{path}: {difference}");
        assert_eq!(module.layer, expected.layer, "{path}");
    }
}

/// Saves in a directory that is gone with the value, and reads again.
fn saved(adapter: &Adapter, style: &Style) -> (TempDir, AdapterFile) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("saved");
    adapter
        .save_as(&path, style, &SaveOptions::default())
        .unwrap();
    let file = AdapterFile::open(&path).unwrap();
    file.require_clean().unwrap();
    (root, file)
}

#[test]
fn updates_are_those_of_the_program_that_wrote_the_adapter() {
    for (name, dialect) in ADAPTERS {
        let file = opened(name);
        assert_eq!(file.style().dialect(), dialect, "{name}");
        let stem = name.strip_suffix(".safetensors").unwrap_or(name);
        let updates = TensorFile::open(&golden(&format!("{stem}.updates.safetensors"))).unwrap();
        assert!(file.module_paths().eq(updates.names()), "{name}");
        for path in file.module_paths() {
            let found = file.module(path).unwrap();
            let shape = updates.shape(path).unwrap();
            let expected = updates.read_f32(path).unwrap();
            let expected = Matrix::new(shape[0], expected.len() / shape[0], expected);
            let difference = relative_difference(&found.update(), &expected);
            assert!(difference < 1e-6, "{name} {path}: {difference}");
            let kernel = match &found.layer {
                LayerKind::Convolution { kernel } => kernel.as_slice(),
                _ => &[],
            };
            assert_eq!(kernel, &shape[2..], "{name} {path}");
        }
    }
}

#[test]
fn an_embedding_is_known_as_one() {
    for (name, path) in [("peft_layers", "words"), ("mlx", "model.embed_tokens")] {
        let file = opened(name);
        assert_eq!(file.layer(path).unwrap(), &LayerKind::Embedding, "{name}");
    }
}

#[test]
fn an_adapter_written_again_has_the_same_tensors_and_metadata() {
    for (name, dialect) in ADAPTERS {
        // The middle factor of a convolution is folded into A, and PEFT's dialect folds the scaling.
        if name == "locon.safetensors" || dialect == Dialect::Peft {
            continue;
        }
        let file = opened(name);
        let (root, again) = saved(&file.load().unwrap(), &file.style().of_copy(None));
        let [old, new] = [golden(name), root.path().join("saved")].map(|path| {
            let path = match (path.is_dir(), dialect) {
                (false, _) => path,
                (true, Dialect::Mlx) => path.join("adapters.safetensors"),
                (true, _) => path.join(name),
            };
            TensorFile::open(&path).unwrap()
        });
        assert!(new.names().eq(old.names()), "{name}");
        for key in old.names() {
            assert_eq!(
                new.tensor(key).unwrap(),
                old.tensor(key).unwrap(),
                "{name} {key}"
            );
            assert_eq!(
                new.view(key).unwrap(),
                old.view(key).unwrap(),
                "{name} {key}"
            );
        }
        if dialect != Dialect::Diffusers {
            assert_eq!(new.metadata(), old.metadata(), "{name}");
        }
        for (key, text) in old.metadata() {
            assert_eq!(new.metadata().get(key), Some(text), "{name} {key}");
        }
        assert_same_updates(&again.load().unwrap(), &file.load().unwrap());
    }
}

#[test]
fn mlx_keeps_its_configuration() {
    let file = opened("mlx");
    let (root, _) = saved(&file.load().unwrap(), file.style());
    let read = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path.join("adapter_config.json")).unwrap()).unwrap()
    };
    assert_eq!(read(root.path().join("saved")), read(golden("mlx")));
    assert_eq!(file.config().base_model(), Some("org/tiny-llama"));
}

#[test]
fn peft_layers_of_every_kind_are_written_as_peft_reads_them() {
    let file = opened("peft_layers");
    let (root, again) = saved(&file.load().unwrap(), &file.style().of_copy(None));
    assert_same_updates(&again.load().unwrap(), &file.load().unwrap());
    let new = TensorFile::open(&root.path().join("saved/adapter_model.safetensors")).unwrap();
    let old = TensorFile::open(&golden("peft_layers/adapter_model.safetensors")).unwrap();
    assert!(new.names().eq(old.names()));
    for key in old.names() {
        assert_eq!(new.shape(key).unwrap(), old.shape(key).unwrap(), "{key}");
    }
}

#[test]
fn kohya_and_diffusers_say_the_same_of_the_same_adapter() {
    for name in [
        "kohya.safetensors",
        "locon.safetensors",
        "diffusers.safetensors",
    ] {
        let file = opened(name);
        let adapter = file.load().unwrap();
        for dialect in [Dialect::Kohya, Dialect::Diffusers] {
            let (_root, converted) = saved(&adapter, &file.style().of_copy(Some(dialect)));
            assert_eq!(converted.style().dialect(), dialect);
            let converted_adapter = converted.load().unwrap();
            assert_same_updates(&converted_adapter, &adapter);
            // And back.
            let style = converted.style().of_copy(Some(file.style().dialect()));
            let (_root, back) = saved(&converted_adapter, &style);
            assert_same_updates(&back.load().unwrap(), &adapter);
        }
    }
}

#[test]
fn other_scalings_and_ranks_correct_what_the_metadata_say() {
    for name in [
        "kohya.safetensors",
        "diffusers.safetensors",
        "diffusers_old.safetensors",
    ] {
        let file = opened(name);
        let mut adapter = file.load().unwrap();
        for (index, module) in adapter.modules.values_mut().enumerate() {
            module.scaling = 0.75 + index as f32;
        }
        let query = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
        let module = adapter.modules.get_mut(query).unwrap();
        let [d_in, d_out] = [module.d_in(), module.d_out()];
        module.a = Matrix::from_fn(5, d_in, |row, col| (row * d_in + col) as f32 * 0.1);
        module.b = Matrix::from_fn(d_out, 5, |row, col| (row + 2 * col) as f32 * 0.3);
        let style = Style::of_result(&[file.style()], None).unwrap();
        let (_root, again) = saved(&adapter, &style);
        assert_same_updates(&again.load().unwrap(), &adapter);
        assert!(
            !again.style().metadata().contains_key("sshs_model_hash"),
            "{name}"
        );
    }
}

#[test]
fn diffusers_finds_a_configuration_for_every_part_or_for_none() {
    // With one for some parts alone, diffusers fails to read the others.
    let parts_of = |name: &str| {
        let file = opened(name);
        let style = file.style().of_copy(Some(Dialect::Diffusers));
        let (_root, again) = saved(&file.load().unwrap(), &style);
        let text = &again.style().metadata()["lora_adapter_metadata"];
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).unwrap();
        let ranks = fields.keys().filter(|key| key.ends_with(".r"));
        ranks.cloned().collect::<Vec<_>>()
    };
    // The ranks of its UNet differ.
    assert_eq!(parts_of("kohya.safetensors"), ["text_encoder.r", "unet.r"]);
    assert_eq!(
        parts_of("diffusers.safetensors"),
        ["text_encoder.r", "unet.r"]
    );
}

#[test]
fn the_dtype_of_the_file_is_kept_where_it_loses_nothing() {
    let file = opened("kohya.safetensors");
    let key = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight";
    let dtype_of = |adapter: &Adapter, style: &Style| {
        let (root, _) = saved(adapter, style);
        let path = root.path().join("saved/kohya.safetensors");
        TensorFile::open(&path).unwrap().tensor(key).unwrap().1
    };
    let mut adapter = file.load().unwrap();
    assert_eq!(dtype_of(&adapter, file.style()), Dtype::F16);
    let module = adapter.modules.values_mut().next().unwrap();
    module.b = module.b.clone().scaled(1.0 / 3.0);
    assert_eq!(dtype_of(&adapter, file.style()), Dtype::F32);
    let asked = file.style().clone().with_dtype(Dtype::BF16);
    assert_eq!(dtype_of(&adapter, &asked), Dtype::BF16);
    module_overflows(&mut adapter);
    let asked = file.style().clone().with_dtype(Dtype::F16);
    let path = tempfile::tempdir().unwrap().path().join("x.safetensors");
    let error = adapter
        .save_as(&path, &asked, &SaveOptions::default())
        .unwrap_err();
    assert!(
        matches!(error, AdapterError::File(FileError::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn another_dialect_keeps_the_dtype_as_well() {
    // Its scaling is 1, so that nothing is multiplied.
    let file = opened("kohya_without_alpha.safetensors");
    let style = file.style().of_copy(Some(Dialect::Diffusers));
    let (root, _) = saved(&file.load().unwrap(), &style);
    let path = root.path().join("saved/pytorch_lora_weights.safetensors");
    let tensors = TensorFile::open(&path).unwrap();
    assert!(
        tensors
            .names()
            .all(|name| tensors.tensor(name).unwrap().1 == Dtype::BF16)
    );
}

fn module_overflows(adapter: &mut Adapter) {
    let module = adapter.modules.values_mut().next().unwrap();
    module.b = module.b.clone().scaled(1e7);
}

#[test]
fn one_part_of_a_pipeline_becomes_a_peft_directory_and_back() {
    let file = opened("locon.safetensors");
    let adapter = file.load().unwrap();
    let (_root, peft) = saved(&adapter, &file.style().of_copy(Some(Dialect::Peft)));
    assert!(peft.module_paths().all(|path| !path.starts_with("unet.")));
    let style = peft.style().of_copy(Some(Dialect::Kohya));
    let (_root, back) = saved(&peft.load().unwrap(), &style);
    assert_same_updates(&back.load().unwrap(), &adapter);
}

#[test]
fn a_peft_directory_with_modules_named_by_part_is_written_for_image_generators() {
    let file = opened("kohya.safetensors");
    let mut adapter = file.load().unwrap();
    let query = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let module = adapter.modules.get_mut(query).unwrap();
    let [d_in, d_out] = [module.d_in(), module.d_out()];
    module.a = Matrix::from_fn(5, d_in, |row, col| (row * d_in + col) as f32 * 0.1);
    module.b = Matrix::from_fn(d_out, 5, |row, col| (row + 2 * col) as f32 * 0.3);
    let (_root, peft) = saved(&adapter, &Style::new(Dialect::Peft));
    for dialect in [Dialect::Kohya, Dialect::Diffusers] {
        let style = peft.style().of_copy(Some(dialect));
        let (root, converted) = saved(&peft.load().unwrap(), &style);
        assert_same_updates(&converted.load().unwrap(), &adapter);
        let path = root.path().join("saved/pytorch_lora_weights.safetensors");
        let tensors = TensorFile::open(&path).unwrap();
        let alphas = tensors.names().filter(|name| name.ends_with(".alpha"));
        let alphas: Vec<f32> = alphas
            .map(|name| tensors.read_f32(name).unwrap()[0])
            .collect();
        // diffusers takes one alpha for all.
        assert!(alphas.iter().all(|alpha| *alpha == alphas[0]), "{alphas:?}");
        assert_eq!(alphas.is_empty(), dialect == Dialect::Diffusers);
    }
}

#[test]
fn mlx_and_peft_are_written_from_each_other() {
    let file = opened("mlx");
    let adapter = file.load().unwrap();
    let (_root, peft) = saved(&adapter, &file.style().of_copy(Some(Dialect::Peft)));
    assert_same_updates(&peft.load().unwrap(), &adapter);
    assert_eq!(peft.config().base_model(), Some("org/tiny-llama"));
    let (_root, back) = saved(
        &peft.load().unwrap(),
        &peft.style().of_copy(Some(Dialect::Mlx)),
    );
    assert_same_updates(&back.load().unwrap(), &adapter);
    assert_eq!(back.config().base_model(), Some("org/tiny-llama"));
}

#[test]
fn what_would_have_to_be_guessed_is_refused() {
    let kohya = opened("kohya.safetensors");
    let layers = opened("peft_layers");
    let mlx = opened("mlx");
    for (file, dialect, expected) in [
        // Two models cannot be one directory.
        (&kohya, Dialect::Peft, "text_encoder and unet"),
        (&kohya, Dialect::Mlx, "text_encoder and unet"),
        (&layers, Dialect::Kohya, "which part of an image generator"),
        (
            &layers,
            Dialect::Diffusers,
            "which part of an image generator",
        ),
        (&layers, Dialect::Mlx, "a convolution of 2 × 3"),
        (&mlx, Dialect::Kohya, "which part of an image generator"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        let style = file.style().of_copy(Some(dialect));
        let error = file
            .load()
            .unwrap()
            .save_as(&path, &style, &SaveOptions::default())
            .unwrap_err();
        assert!(
            matches!(error, AdapterError::NotConvertible { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn results_of_several_dialects_need_one_to_be_chosen() {
    let (kohya, diffusers) = (opened("kohya.safetensors"), opened("diffusers.safetensors"));
    let styles = [kohya.style(), diffusers.style()];
    assert_eq!(
        Style::of_result(&styles, None).unwrap_err(),
        [Dialect::Kohya, Dialect::Diffusers]
    );
    let chosen = Style::of_result(&styles, Some(Dialect::Kohya)).unwrap();
    assert_eq!(chosen.dialect(), Dialect::Kohya);
    assert_eq!(chosen.metadata()["ss_base_model_version"], "sd_v1");
}

#[test]
fn an_adapter_is_written_to_a_file_where_one_is_named() {
    let file = opened("kohya.safetensors");
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("new/copy.safetensors");
    let adapter = file.load().unwrap();
    let mut options = SaveOptions::default();
    adapter.save_as(&path, file.style(), &options).unwrap();
    let again = AdapterFile::open(&path).unwrap().load().unwrap();
    assert_same_updates(&again, &adapter);
    let error = adapter.save_as(&path, file.style(), &options).unwrap_err();
    assert!(
        matches!(error, AdapterError::File(FileError::AlreadyExists(_))),
        "{error}"
    );
    options.force = true;
    adapter.save_as(&path, file.style(), &options).unwrap();
    let peft = Style::new(Dialect::Peft);
    let error = adapter.save_as(&path, &peft, &options).unwrap_err();
    assert!(matches!(error, AdapterError::NotOneFile { .. }), "{error}");
}
