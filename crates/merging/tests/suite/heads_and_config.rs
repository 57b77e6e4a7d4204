//! What a merged adapter brings along besides its updates.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterFile, Labels, LoadedAdapter, TargetModules};
use eigenmix_merging::{MergeOptions, Method, Space};

use crate::random_adapters::{DOWN, QUERY, merged, random_adapter, three_adapters};

fn sum() -> MergeOptions {
    MergeOptions::new(Space::Core, Method::Sum)
}

fn with_head(mut adapter: LoadedAdapter) -> LoadedAdapter {
    let head = HostTensor {
        shape: vec![2, 3],
        values: vec![0.5; 6],
    };
    adapter.adapter.heads = BTreeMap::from([("classifier.weight".to_owned(), head)]);
    adapter.adapter.labels = Some(Labels(["off", "on"].map(str::to_owned).to_vec()));
    let config = &adapter.adapter.config;
    adapter.adapter.config = config
        .with("modules_to_save", vec!["classifier"].into())
        .and_then(|config| config.with("task_type", "SEQ_CLS".into()))
        .expect("a configuration");
    adapter
}

#[test]
fn heads_are_listed_and_kept_apart() {
    let adapters: Vec<_> = three_adapters().into_iter().map(with_head).collect();
    let merge = merged(&adapters, &sum());
    assert!(merge.adapter.heads.is_empty() && merge.adapter.labels.is_none());
    assert!(merge.adapter.config.modules_to_save().is_empty());
    assert_eq!(merge.report.heads_of, None);
    for adapter in &merge.report.adapters {
        assert_eq!(adapter.whole_tensors, ["classifier.weight"]);
    }
}

#[test]
fn the_only_heads_there_are_come_along() {
    let mut adapters = three_adapters();
    adapters[1] = with_head(adapters[1].clone());
    let merge = merged(&adapters, &sum());
    assert_eq!(merge.report.heads_of, Some(1));
    assert_eq!(merge.adapter.heads, adapters[1].adapter.heads);
    assert_eq!(merge.adapter.labels, adapters[1].adapter.labels);
    assert_eq!(merge.adapter.config.task_type(), None, "not all have it");

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("merged");
    merge
        .adapter
        .save(&path, &Default::default())
        .expect("saved");
    let file = AdapterFile::open(&path).expect("the merged adapter");
    file.require_clean().expect("nothing unexpected");
    assert_eq!(file.config().modules_to_save(), ["classifier"]);
    assert_eq!(file.head_names().collect::<Vec<_>>(), ["classifier.weight"]);
}

/// PEFT 0.18.1 raises `KeyError: 'base_model.model.classifier.weight'` in
/// `PeftModel.from_pretrained` where the task type is SEQ_CLS and the file has no head; without a
/// task type it loads the updates and leaves the model's head alone.
#[test]
fn a_merge_without_a_head_has_no_task_type_that_needs_one() {
    for (task, expected) in [
        ("SEQ_CLS", None),
        ("TOKEN_CLS", None),
        ("QUESTION_ANS", None),
        ("CAUSAL_LM", Some("CAUSAL_LM")),
    ] {
        let mut adapters: Vec<_> = three_adapters().into_iter().map(with_head).collect();
        for adapter in &mut adapters {
            let config = &adapter.adapter.config;
            adapter.adapter.config = config
                .with("task_type", task.into())
                .expect("a configuration");
        }
        let merge = merged(&adapters, &sum());
        assert_eq!(merge.adapter.config.task_type(), expected, "{task}");
        let alone = merged(&adapters[..1], &sum());
        assert_eq!(alone.report.heads_of, Some(0));
        assert_eq!(alone.adapter.config.task_type(), Some(task));
    }
}

#[test]
fn a_saved_merge_says_what_it_is() {
    let mut adapters = three_adapters();
    for adapter in &mut adapters {
        let config = &adapter.adapter.config;
        adapter.adapter.config = config
            .with("target_modules", vec!["query", "down"].into())
            .and_then(|config| config.with("fan_in_fan_out", true.into()))
            .and_then(|config| config.with("use_rslora", true.into()))
            .expect("a configuration");
    }
    let merge = merged(&adapters, &sum());
    let config = &merge.adapter.config;
    let names = ["query", "down"].map(str::to_owned).to_vec();
    assert_eq!(config.target_modules(), Some(&TargetModules::Names(names)));
    assert!(config.fan_in_fan_out() && !config.use_rslora());
    for (path, module) in &merge.adapter.modules {
        assert_eq!(config.rank_of(path), module.rank());
        assert_eq!(config.scaling_of(path), 1.0);
    }
    let ranks = [QUERY, DOWN].map(|path| merge.adapter.modules[path].rank());
    assert_eq!(ranks, [9, 12]);

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("merged");
    merge
        .adapter
        .save(&path, &Default::default())
        .expect("saved");
    let file = AdapterFile::open(&path).expect("the merged adapter");
    assert_eq!(file.load().expect("read").modules, merge.adapter.modules);
}

#[test]
fn targets_that_would_adapt_other_modules_are_spelt_out() {
    let mut adapters = three_adapters();
    for adapter in &mut adapters {
        let config = &adapter.adapter.config;
        adapter.adapter.config = config
            .with("target_modules", vec!["query", "down"].into())
            .and_then(|config| config.with("layers_to_transform", vec![0].into()))
            .expect("a configuration");
    }
    let config = merged(&adapters, &sum()).adapter.config;
    let paths = [QUERY, DOWN].map(str::to_owned).to_vec();
    assert_eq!(config.target_modules(), Some(&TargetModules::Names(paths)));
    assert!(!config.targets("layers.1.attention.query", false));
}

#[test]
fn adapters_that_name_no_base_model_merge_into_one_that_names_none() {
    let mut adapter = random_adapter("one", 3, 5);
    let config = &adapter.adapter.config;
    adapter.adapter.config = config
        .with("base_model_name_or_path", serde_json::Value::Null)
        .expect("a configuration");
    let merge = merged(&[adapter], &sum());
    assert_eq!(merge.adapter.config.base_model(), None);
}
