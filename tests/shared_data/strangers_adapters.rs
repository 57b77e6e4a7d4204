//! Published third-party adapters, and those of a real base model.

use std::path::Path;

use eigenmix_adapter::{AdapterFile, SaveOptions};

use crate::merged_with_itself::assert_update_is_kept_and_heads_are_not;

fn open(directory: &Path) -> AdapterFile {
    AdapterFile::open(directory).unwrap_or_else(|error| panic!("{error}"))
}

/// Every folder of `adapters` is one.
pub fn every_adapter_survives_saving(adapters: &Path) {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for entry in adapters.read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        let file = open(&entry.path());
        file.require_clean().expect("nothing unexpected");
        assert_eq!(file.zero_effect().expect("read"), [""; 0]);
        let adapter = file.load().expect("an adapter");
        let copy = scratch.path().join(entry.file_name());
        let saved = adapter.save(&copy, &SaveOptions::default());
        saved.expect("a saved adapter");
        let again = open(&copy);
        again.require_clean().expect("nothing unexpected");
        let again = again.load().expect("the same");
        assert_eq!(again.modules.len(), adapter.modules.len(), "{entry:?}");
        for (path, module) in &adapter.modules {
            let update = again.modules[path].update();
            assert_eq!(update, module.update(), "{entry:?} {path}");
        }
        assert_eq!(again.heads, adapter.heads, "{entry:?}");
        assert_eq!(again.labels, adapter.labels, "{entry:?}");
        count += 1;
    }
    assert!(count >= 2, "only {count} adapters");
}

pub fn heads_are_found_declared_or_not(wild: &Path) {
    let file = open(&wild.join("gpt2-sentiment"));
    assert!(file.config().modules_to_save().is_empty());
    assert_eq!(file.head_names().collect::<Vec<_>>(), ["score.weight"]);
    assert_eq!(file.heads().expect("read")["score.weight"].shape, [6, 768]);
    let shape = file.shape("transformer.h.0.attn.c_attn").expect("a module");
    assert_eq!(shape, (8, 768, 2304));

    let file = open(&wild.join("distilbert-emotion"));
    let names: Vec<&str> = file.head_names().collect();
    assert_eq!(
        names,
        [
            "classifier.bias",
            "classifier.weight",
            "pre_classifier.bias",
            "pre_classifier.weight"
        ]
    );
    assert_eq!(file.module_paths().count(), 12);
    for path in file.module_paths() {
        assert_eq!(file.module(path).expect("a module").scaling, 2.0, "{path}");
    }
}

pub fn an_adapter_merged_with_itself_keeps_its_heads_apart(distilbert: &Path) {
    assert_update_is_kept_and_heads_are_not(&open(distilbert));
}
