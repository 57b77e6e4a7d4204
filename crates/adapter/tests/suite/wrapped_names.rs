//! Names of tensors with what torch.compile, DDP, FSDP and PEFT around PEFT put into them.

use eigenmix_adapter::{AdapterError, AdapterFile};
use serde_json::json;

use crate::fixture::{Fixture, QUERY};

/// The adapter of [`QUERY`] with `rename` applied to every name.
fn renamed(rename: impl Fn(&str) -> String) -> Fixture {
    let names: Vec<String> = QUERY.iter().map(|(name, _)| rename(name)).collect();
    let tensors: Vec<(&str, &[usize])> = names
        .iter()
        .zip(QUERY)
        .map(|(name, (_, shape))| (name.as_str(), shape))
        .collect();
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&tensors);
    fixture
}

#[test]
fn an_adapter_of_a_wrapped_model_is_that_of_the_model() {
    let plain = renamed(str::to_owned);
    let expected = AdapterFile::open(&plain.path()).unwrap().load().unwrap();
    assert!(expected.modules.contains_key("layer.0.query"));
    let inside = |wrapper: &str| {
        let wrapper = format!(".{wrapper}query");
        renamed(move |name| name.replace(".query", &wrapper))
    };
    for fixture in [
        renamed(|name| format!("_orig_mod.{name}")),
        renamed(|name| format!("module.{name}")),
        renamed(|name| format!("base_model.model.{name}")),
        renamed(|name| format!("thinker.{name}")),
        renamed(|name| name.replace("layer.0", "_orig_mod.layer.0")),
        inside("_fsdp_wrapped_module."),
        inside("_checkpoint_wrapped_module."),
    ] {
        let file = AdapterFile::open(&fixture.path()).unwrap();
        file.require_clean().unwrap();
        assert_eq!(file.load().unwrap(), expected);
    }
}

#[test]
fn one_tensor_with_and_without_a_wrapper_is_refused() {
    let fixture = Fixture::new();
    let wrapped = format!("_orig_mod.{}", QUERY[0].0);
    fixture
        .config(json!({}))
        .tensors(&[QUERY[0], QUERY[1], (&wrapped, QUERY[0].1)]);
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::DuplicateTensor { .. }),
        "{error}"
    );
}

#[test]
fn a_pattern_for_a_wrapped_module_applies_to_it() {
    let fixture = renamed(|name| name.replace("layer.0", "_orig_mod.layer.0"));
    fixture.config(json!({
        "alpha_pattern": {"_orig_mod.layer.0.query": 4},
        "target_modules": ["_orig_mod.layer.0.query"],
    }));
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    assert_eq!(file.module("layer.0.query").unwrap().scaling, 2.0);
}

#[test]
fn a_module_of_the_model_that_is_called_module_is_part_of_its_path() {
    // As in LeViT, of which DDP may be around the whole besides.
    for parallel in ["", "module."] {
        let path = format!("{parallel}layer.0.module.query");
        let fixture = renamed(|name| name.replace("layer.0.query", &path));
        fixture.config(json!({
            "alpha_pattern": {"layer.0.module.query": 4},
            "target_modules": ["module.query"],
        }));
        let file = AdapterFile::open(&fixture.path()).unwrap();
        assert!(file.module_paths().eq(["layer.0.module.query"]));
        assert_eq!(file.module("layer.0.module.query").unwrap().scaling, 2.0);
        file.require_clean().unwrap();
    }
}

#[test]
fn a_regular_expression_for_a_wrapped_module_applies_to_it() {
    for wrapper in ["module", "_orig_mod"] {
        let path = format!("{wrapper}.layer.0");
        let fixture = renamed(|name| name.replace("layer.0", &path));
        fixture.config(json!({
            "alpha_pattern": {format!("^{wrapper}\\.layer\\.0\\.query"): 4},
            "target_modules": format!("{wrapper}\\.layer\\.\\d+\\.query"),
        }));
        let file = AdapterFile::open(&fixture.path()).unwrap();
        file.require_clean().unwrap();
        assert_eq!(file.module("layer.0.query").unwrap().scaling, 2.0);
    }
}
