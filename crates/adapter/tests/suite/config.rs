//! The typed view of adapter_config.json.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{AdapterError, BiasKind, PeftConfig, TargetModules};
use serde_json::{Value, json};

fn parse(mut fields: Value) -> Result<PeftConfig, AdapterError> {
    fields["peft_type"] = json!("LORA");
    let Value::Object(raw) = fields else {
        panic!("not an object")
    };
    PeftConfig::from_map(raw, Path::new("adapter_config.json"))
}

#[test]
fn keys_without_effect_survive_in_the_order_of_the_file() {
    let config = parse(json!({
        "auto_mapping": {"deep": [1, null]}, "r": 4, "lorap_lr_ratio": 1.5, "of_tomorrow": false,
    }))
    .unwrap();
    let again: Value = serde_json::from_str(&config.to_json()).unwrap();
    assert_eq!(again["auto_mapping"], json!({"deep": [1, null]}));
    assert_eq!(again["lorap_lr_ratio"], json!(1.5));
    let keys: Vec<&String> = again.as_object().unwrap().keys().collect();
    let written = [
        "auto_mapping",
        "r",
        "lorap_lr_ratio",
        "of_tomorrow",
        "peft_type",
    ];
    assert_eq!(keys, written);
}

#[test]
fn the_first_matching_pattern_in_the_order_of_the_file_wins() {
    let config = parse(json!({
        "r": 8, "lora_alpha": 16,
        "rank_pattern": {"layers.0.q": 2, "q": 4, "zzz": 5},
        "alpha_pattern": {"q": 3, "layers.0.q": 7},
    }))
    .unwrap();
    assert_eq!(config.rank_of("model.layers.0.q"), 2);
    assert_eq!(config.rank_of("model.layers.1.q"), 4);
    assert_eq!(config.rank_of("model.layers.1.v"), 8);
    assert_eq!(config.alpha_of("model.layers.0.q"), 3.0);
    assert_eq!(config.scaling_of("model.layers.0.q"), 1.5);
    assert_eq!(config.scaling_of("model.layers.1.q"), 0.75);
    assert_eq!(config.scaling_of("model.layers.1.v"), 2.0);
}

#[test]
fn rslora_divides_by_the_root_of_the_rank() {
    let config = parse(json!({
        "r": 16, "lora_alpha": 10.0, "use_rslora": true,
        "rank_pattern": {"q": 9}, "alpha_pattern": {"q": 4.5},
    }))
    .unwrap();
    assert_eq!(config.scaling_of("layer.v"), 2.5);
    assert_eq!(config.scaling_of("layer.q"), 1.5);
}

#[test]
fn layers_may_be_one_index_or_a_list_under_a_named_pattern() {
    let one = parse(json!({"target_modules": ["q"], "layers_to_transform": 1})).unwrap();
    assert!(one.targets("model.layers.1.q", false));
    assert!(!one.targets("model.layers.0.q", false));

    let named = parse(json!({
        "target_modules": ["w"], "layers_to_transform": [3], "layers_pattern": "layers",
    }))
    .unwrap();
    assert!(named.targets("model.layers.3.experts.0.w", false));
    assert!(!named.targets("model.layers.0.experts.3.w", false));

    let none = parse(json!({"target_modules": ["q"], "layers_to_transform": []})).unwrap();
    assert!(none.targets("model.layers.7.q", false));
}

#[test]
fn every_form_of_target_modules_is_understood() {
    let names = parse(json!({"target_modules": ["q", "v"]})).unwrap();
    assert_eq!(
        names.target_modules(),
        Some(&TargetModules::Names(vec!["q".into(), "v".into()]))
    );
    let all = parse(json!({"target_modules": "all-linear"})).unwrap();
    assert!(all.targets("h.0.mlp", false) && !all.targets("lm_head", true));
    let regex = parse(json!({"target_modules": r"h\.[02]\..*"})).unwrap();
    assert!(regex.targets("h.2.attn", false) && !regex.targets("h.1.attn", false));
    assert_eq!(parse(json!({})).unwrap().target_modules(), None);
    let excluded =
        parse(json!({"target_modules": "all-linear", "exclude_modules": r".*\.gate"})).unwrap();
    assert!(!excluded.targets("h.0.gate", false) && excluded.targets("h.0.up", false));
}

#[test]
fn a_field_of_the_wrong_form_names_itself_and_what_was_found() {
    for (fields, field) in [
        (json!({"r": 0}), "r"),
        (json!({"r": "eight"}), "r"),
        (json!({"lora_alpha": [16]}), "lora_alpha"),
        (json!({"rank_pattern": {"q": -1}}), "rank_pattern"),
        (json!({"alpha_pattern": []}), "alpha_pattern"),
        (json!({"bias": "some"}), "bias"),
        (json!({"use_dora": "yes"}), "use_dora"),
        (json!({"target_modules": [1]}), "target_modules"),
        (json!({"layers_to_transform": ["a"]}), "layers_to_transform"),
        (json!({"modules_to_save": 3}), "modules_to_save"),
    ] {
        let error = parse(fields.clone()).unwrap_err();
        assert!(
            matches!(&error, AdapterError::ConfigField { field: named, .. } if named == field),
            "{fields}: {error}"
        );
    }
}

#[test]
fn a_bad_regular_expression_is_an_error_of_reading() {
    for fields in [
        json!({"target_modules": "(q"}),
        json!({"target_modules": ["q"], "exclude_modules": "[q"}),
        json!({"rank_pattern": {"q(": 3}}),
    ] {
        let error = parse(fields.clone()).unwrap_err();
        assert!(
            matches!(error, AdapterError::Pattern { .. }),
            "{fields}: {error}"
        );
    }
}

#[test]
fn factors_that_do_not_mean_an_update_of_the_base_model_are_refused() {
    for (fields, option) in [
        (
            json!({"init_lora_weights": "pissa_niter_16"}),
            "init_lora_weights",
        ),
        (json!({"init_lora_weights": "olora"}), "init_lora_weights"),
        (
            json!({"alora_invocation_tokens": [1, 2]}),
            "alora_invocation_tokens",
        ),
        (json!({"use_qalora": true}), "use_qalora"),
        (json!({"layer_replication": [[0, 4]]}), "layer_replication"),
    ] {
        let error = parse(fields).unwrap_err();
        assert!(
            matches!(&error, AdapterError::UnsupportedOption { option: named, .. } if *named == option),
            "{error}"
        );
    }
    parse(json!({"use_qalora": false, "init_lora_weights": "gaussian", "arrow_config": null}))
        .unwrap();
}

#[test]
fn a_new_configuration_has_scaling_one_for_every_rank() {
    let ranks = BTreeMap::from([
        ("layer.0.q".to_owned(), 4),
        ("deep.layer.0.q".to_owned(), 3),
        ("layer.0.v".to_owned(), 8),
    ]);
    let targets = TargetModules::Names(vec!["q".into(), "v".into()]);
    let head = ["classifier".to_owned()];
    let config = PeftConfig::lora("org/base", 8, targets, &head, Some("SEQ_CLS"), &ranks).unwrap();
    for (module, rank) in &ranks {
        assert_eq!(config.rank_of(module), *rank, "{module}");
        assert_eq!(config.scaling_of(module), 1.0, "{module}");
    }
    assert_eq!(config.rank_of("layer.1.q"), 8);
    assert_eq!(config.base_model(), Some("org/base"));
    assert_eq!(config.task_type(), Some("SEQ_CLS"));
    assert_eq!(config.modules_to_save(), ["classifier"]);
    assert_eq!(config.bias(), BiasKind::None);
    let raw = config.raw();
    assert_eq!(raw["inference_mode"], json!(true));
    assert_eq!(raw["rank_pattern"], raw["alpha_pattern"]);
    assert_eq!(raw["rank_pattern"].as_object().unwrap().len(), 2);
}

#[test]
fn setting_a_key_is_checked_like_reading_it() {
    let config = parse(json!({"r": 4})).unwrap();
    assert!(
        config
            .with("fan_in_fan_out", json!(true))
            .unwrap()
            .fan_in_fan_out()
    );
    assert!(config.with("r", json!(-4)).is_err());
}
