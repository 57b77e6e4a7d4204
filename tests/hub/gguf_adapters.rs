//! Adapters in GGUF files of a Hub, and adapters whose base model is such a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::fake_hub::{Access, FakeHub, Files};
use crate::support::Workplace;
use crate::{run, run_json};

const BASE: &str = "llama-Q4_0.gguf";
const ADAPTER: &str = "llama-lora-F32.gguf";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/gguf_adapters")
        .join(name)
}

fn one_file(name: &str, of: &str) -> Files {
    let content = fs::read(golden(of)).expect("a golden file");
    Files::from([(name.to_owned(), content)])
}

#[test]
fn an_adapter_on_the_hub_that_is_a_gguf_file_is_merged_by_the_heads_of_the_given_base() {
    let hub = FakeHub::with_model("org/lora", one_file("X.GGUF", ADAPTER));
    let place = Workplace::new();
    fs::copy(golden(BASE), place.path(BASE)).expect("a golden file");
    let merge = ["export", "org/lora", "--merge-into-base", BASE];
    let out = ["--dtype", "f32", "--out", "merged"];
    let told = run_json(&place, &hub, &[&merge[..], &out].concat());
    assert_eq!(told["merged"]["merged"], 14);
    fs::copy(golden(ADAPTER), place.path(ADAPTER)).expect("a golden file");
    let merge = ["export", ADAPTER, "--merge-into-base", BASE];
    let out = ["--dtype", "f32", "--out", "expected"];
    place.run_json(&[&merge[..], &out].concat());
    let weights = |name: &str| {
        let path = place.path(name).join("model.safetensors");
        fs::read(path).expect("weights")
    };
    assert!(weights("merged") == weights("expected"));
}

#[test]
fn an_adapter_names_a_gguf_file_on_the_hub_as_its_base_and_inspect_does_not_ask_for_it() {
    let hub = FakeHub::with_model("org/files", one_file("Q4/a.gguf", BASE));
    for (base, revision) in [
        ("org/files:Q4/a.gguf", None),
        ("org/files:Q4/a.gguf@main", None),
        ("org/files:Q4/a.gguf", Some("main")),
    ] {
        let place = Workplace::new();
        fs::create_dir(place.path("peft")).expect("a directory");
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let from = golden("llama-adapter").join(name);
            fs::copy(from, place.path("peft").join(name)).expect("a golden file");
        }
        let mut config = place.config("peft");
        config["base_model_name_or_path"] = json!(base);
        config["revision"] = json!(revision);
        place.write_config("peft", &config);
        let to = ["export", "peft", "--format", "gguf", "--out", "lora.gguf"];
        run_json(&place, &hub, &to);

        hub.forget_requests();
        run_json(&place, &hub, &["inspect", "lora.gguf"]);
        fs::copy(place.path("lora.gguf"), place.path("copy.gguf")).expect("a file");
        run_json(&place, &hub, &["inspect", "lora.gguf", "copy.gguf"]);
        assert_eq!(hub.request_lines(), Vec::<String>::new());
        // Back by the base model that the file names.
        run_json(&place, &hub, &["export", "lora.gguf", "--out", "back"]);
        assert_eq!(place.config("back")["base_model_name_or_path"], base);
    }
}

#[test]
fn inspect_tells_an_adapter_on_the_hub_from_a_model_by_the_beginning_of_the_file() {
    let hub = FakeHub::with_model("org/lora", one_file("lora.gguf", ADAPTER));
    hub.add(
        "models",
        "org/model",
        one_file("a.gguf", BASE),
        Access::Public,
    );
    let place = Workplace::new();
    let told = run_json(&place, &hub, &["inspect", "org/lora"]);
    let here = golden(ADAPTER);
    let here = place.run_json(&["inspect", here.to_str().expect("UTF-8")]);
    assert_eq!(told["norm"], here["norm"]);
    // From the cache as well.
    let again = run_json(&place, &hub, &["inspect", "org/lora"]);
    assert_eq!(again, told);

    let refused = run(&place, &hub, &["inspect", "org/model"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("org/model:a.gguf"), "{refused:?}");
    let is_there = |path: &Path| path.ends_with("a.gguf");
    assert!(!place.entries().iter().any(|path| is_there(path)));
}

#[test]
fn one_of_several_adapters_in_a_repository_is_named_by_its_file() {
    let mut files = one_file("lora-f32.gguf", ADAPTER);
    files.extend(one_file("lora-f16.gguf", "llama-lora-F16.gguf"));
    files.extend(one_file("folder/base.gguf", BASE));
    let hub = FakeHub::with_model("org/loras", files);
    let place = Workplace::new();
    let export = ["export", "org/loras", "--out", "copy"];
    let refused = run(&place, &hub, &export);
    assert_eq!(refused.status, 2, "{refused:?}");
    let example = "name one of them: `org/loras:lora-f16.gguf`";
    assert!(refused.stderr.contains(example), "{refused:?}");

    let norm = |name: &str| run_json(&place, &hub, &["inspect", name])["norm"].clone();
    let here = golden(ADAPTER);
    let here = place.run_json(&["inspect", here.to_str().expect("UTF-8")]);
    assert_eq!(norm("org/loras:lora-f32.gguf@main"), here["norm"]);
    hub.forget_requests();
    norm("org/loras:lora-f16.gguf");
    let requests = hub.request_lines().concat();
    let fetched = |name: &str| requests.contains(name);
    assert!(
        fetched("lora-f16.gguf") && !fetched("lora-f32.gguf"),
        "{requests}"
    );
    // Merged and recycled like others, and named by the file.
    let pool = ["org/loras:lora-f32.gguf", "org/loras:lora-f16.gguf"];
    let base = ["--base", "org/loras:folder/base.gguf"];
    let how = [
        "--space",
        "core",
        "--method",
        "average",
        "--out",
        "merged.gguf",
    ];
    run_json(&place, &hub, &[&["merge"], &pool[..], &base, &how].concat());
    let nothing = run(&place, &hub, &["inspect", "org/loras:lora-q4.gguf"]);
    assert!(
        nothing.stderr.contains("has no file `lora-q4.gguf`"),
        "{nothing:?}"
    );
    let base = ["--base", "org/loras:a.safetensors", "--input", "x.txt"];
    let refused = run(&place, &hub, &[&["predict"], &base[..]].concat());
    assert!(
        refused.stderr.contains("alone is no base model"),
        "{refused:?}"
    );
}
