//! Which adapters are worth recycling: real ones above copies with noise, rotated copies and copies with
//! shuffled modules, and every adapter that cannot be used named with its reason.

mod support;

use std::fs;
use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, LoraModule};
use eigenmix_eigenlorax::{range_of, test_matrix};
use eigenmix_tensors::Matrix;
use serde_json::Value;
use support::{Random, Workplace, quickstart};

const REAL: [&str; 6] = [
    "bakery",
    "bicycle_shop",
    "gym",
    "library",
    "pet_clinic",
    "theatre",
];

/// Those of tasks that are nearest to the new one: they change the base model as it asks.
const NEAR: [&str; 2] = ["bicycle_shop", "theatre"];

fn training_file(place: &Workplace, data: &str, more: &str) {
    let file = format!(
        "seed = 3\noutput = \"run\"\n[base]\nmodel = \"{}\"\n[data]\npath = \"{data}\"\nmax_length = 24\n\
         {more}\n[adapter]\nmethod = \"eigenmix\"\nadapters = [\"nowhere\"]\n\
         [training]\nepochs = 1\nbatch_size = 16\nlearning_rate = 1e-3\n",
        quickstart("base"),
    );
    fs::write(place.path("task.toml"), file).expect("a file");
}

fn real(name: &str) -> Adapter {
    let path = quickstart(&format!("adapters/{name}"));
    let file = AdapterFile::open(Path::new(&path)).expect("an adapter");
    file.load().expect("an adapter")
}

/// With noise of the size of its own factors on both.
fn noisy(mut adapter: Adapter, seed: u64) -> Adapter {
    let mut random = Random(seed);
    for module in adapter.modules.values_mut() {
        for factor in [&mut module.b, &mut module.a] {
            let noise = random.matrix(factor.rows(), factor.cols());
            let size = (factor.norm() / noise.norm()) as f32;
            *factor = Matrix::from_fn(factor.rows(), factor.cols(), |row, col| {
                factor.get(row, col) + size * noise.get(row, col)
            });
        }
    }
    adapter
}

/// Turned by random orthonormal matrices on both sides.
fn rotated(mut adapter: Adapter, seed: u64) -> Adapter {
    for (path, module) in &mut adapter.modules {
        let turn =
            |side: &str, size| range_of(&test_matrix(&format!("{path}/{side}"), size, size, seed));
        module.b = turn("out", module.d_out()).product(&module.b);
        module.a = module.a.product(&turn("in", module.d_in()));
    }
    adapter
}

/// Every module has the update of the next.
fn shuffled(mut adapter: Adapter) -> Adapter {
    let mut modules: Vec<LoraModule> = adapter.modules.values().cloned().collect();
    modules.rotate_left(1);
    for (module, other) in adapter.modules.values_mut().zip(modules) {
        *module = other;
    }
    adapter
}

fn names(found: &Value) -> Vec<String> {
    let adapters = found["adapters"].as_array().expect("adapters");
    let name = |adapter: &Value| adapter["name"].as_str().expect("a name").to_owned();
    adapters.iter().map(name).collect()
}

fn adapter<'a>(found: &'a Value, name: &str) -> &'a Value {
    let adapters = found["adapters"].as_array().expect("adapters");
    let found = adapters.iter().find(|adapter| adapter["name"] == name);
    found.unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn real_adapters_are_above_noisy_rotated_and_shuffled_copies_and_a_copy_is_called_one() {
    let place = Workplace::new();
    training_file(&place, &quickstart("tasks/ferry_port"), "");
    for (number, name) in REAL.into_iter().enumerate() {
        let seed = number as u64 + 1;
        place.save(&format!("pool/{name}"), &real(name));
        place.save(&format!("pool/noisy_{name}"), &noisy(real(name), seed));
        place.save(&format!("pool/rotated_{name}"), &rotated(real(name), seed));
        place.save(&format!("pool/shuffled_{name}"), &shuffled(real(name)));
    }
    // The same update in other factors.
    let mut copy = real(NEAR[0]);
    for module in copy.modules.values_mut() {
        module.b = module.b.clone().scaled(4.0);
        module.a = module.a.clone().scaled(0.25);
    }
    place.save("pool/the_copy", &copy);
    let select = ["select", "pool", "--for", "task.toml"];
    let found = place.run_json(&select);
    let order = names(&found);
    assert_eq!(order.len(), 25);
    // Rounding decides which of the two that are one is the first.
    let is_first = |name: &str| order[0] == name;
    let other = match (is_first(NEAR[0]), is_first("the_copy")) {
        (true, false) => "the_copy",
        (false, true) => NEAR[0],
        _ => panic!("{order:?}"),
    };
    assert_eq!(order[1], NEAR[1], "{order:?}");
    let redundant = adapter(&found, other);
    assert_eq!(redundant["redundant"], true, "{redundant}");
    assert_eq!(redundant["chosen"], false, "{redundant}");
    assert!(redundant["nearest"]["cosine"].as_f64().expect("a cosine") > 0.9999);
    let number = |name: &str, key: &str| adapter(&found, name)[key].as_f64().expect("a number");
    let over_chance = |name: &str| number(name, "alignment") / number(name, "alignment_chance");
    for name in NEAR {
        assert!(over_chance(name) > 8.0, "{name}: {}", over_chance(name));
        let rotated = over_chance(&format!("rotated_{name}"));
        assert!(rotated.abs() < 4.0, "{name}: {rotated}");
        // A copy with noise is aligned too, with what its original has left nothing of.
        let noisy = format!("noisy_{name}");
        assert!(over_chance(&noisy) > 4.0, "{name}: {}", over_chance(&noisy));
        assert!(
            number(&noisy, "score") < 0.5 * number(NEAR[1], "score"),
            "{name}"
        );
    }
    let line = found["training_file"].as_str().expect("lines");
    let table: toml::Table = line.parse().expect("TOML");
    let chosen = table["adapter"]["adapters"].as_array().expect("adapters");
    assert_eq!(
        chosen.len(),
        found["chosen"].as_array().expect("chosen").len()
    );
    let text = place.run(&select).stdout;
    assert!(
        text.contains("a copy of") && text.contains("Recycling "),
        "{text}"
    );
}

#[test]
fn a_selection_is_written_as_json_and_as_a_page_and_is_the_same_again() {
    let place = Workplace::new();
    training_file(&place, &quickstart("tasks/ferry_port"), "");
    let pool = quickstart("adapters");
    let files = ["--out", "found.json", "--html", "found.html"];
    let command = ["select", &pool, "--for", "task.toml", "--top", "2"];
    let found = place.run_json(&[&command[..], &files].concat());
    let mut written = support::read_json(&place.path("found.json"));
    let mut again = place.run_json(&command);
    for result in [&mut written, &mut again] {
        result["seconds"] = found["seconds"].clone();
        assert_eq!(*result, found);
    }
    let page = fs::read_to_string(place.path("found.html")).expect("a page");
    assert!(page.contains("Loss with the adapter applied") && page.contains("<svg"));
    let refused = place.run_refused(&[&command[..], &files].concat());
    assert!(refused.contains("exists"), "{refused}");
    let same = ["--out", "one", "--html", "one"];
    let refused = place.run_refused(&[&command[..], &same].concat());
    assert!(refused.contains("same file"), "{refused}");
    // The head was fitted to other examples: what an adapter does for it is no overfitting.
    let accuracy = |one: &Value| {
        assert_eq!(one["metric"]["name"], "accuracy");
        one["metric"]["value"].as_f64().expect("a number")
    };
    let best = accuracy(&adapter(&found, NEAR[0])["loss"]);
    assert!(best > 0.6 && accuracy(&found["base"]) < 0.4, "{found}");
    assert!(accuracy(&found["random"]) < 0.4, "{found}");
    assert_eq!(found["prospect"], "good");
}

#[test]
fn adapters_that_cannot_be_recycled_are_named_with_the_reason_and_none_left_is_refused() {
    let place = Workplace::new();
    training_file(
        &place,
        &quickstart("tasks/ferry_port"),
        "examples_per_class = 2",
    );
    let mut small = real("gym");
    for module in small.modules.values_mut() {
        module.b = Matrix::zeros(32, module.rank());
    }
    place.save("small", &small);
    let mut zero = real("gym");
    for module in zero.modules.values_mut() {
        module.b = Matrix::zeros(module.d_out(), module.rank());
    }
    place.save("zero", &zero);
    place.save("damaged", &real("gym"));
    fs::write(place.path("damaged/adapter_model.safetensors"), b"no").expect("a file");
    let bad = ["small", "zero", "damaged", "nowhere/at/all"];
    let reasons = [
        "is 32",
        "changes nothing",
        "adapter_model.safetensors",
        "nowhere",
    ];

    let gym = quickstart("adapters/gym");
    let mut command = vec!["select", &gym];
    command.extend(bad);
    command.extend(["--for", "task.toml"]);
    let found = place.run_json(&command);
    assert_eq!(names(&found), ["gym"]);
    let unused = found["unused"].as_array().expect("a list");
    for (name, reason) in bad.iter().zip(reasons) {
        let named = unused.iter().find(|one| one["location"] == *name);
        let named = named.unwrap_or_else(|| panic!("{name} in {unused:?}"));
        let said = named["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{name}: {said}");
    }

    command.remove(1);
    let refused = place.run_refused(&command);
    assert!(refused.contains("none of the 4 adapters"), "{refused}");
    for reason in reasons {
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    let twice = ["select", &gym, &gym, "--for", "task.toml"];
    assert!(place.run_refused(&twice).contains("given twice"));
    fs::create_dir(place.path("empty")).expect("a directory");
    let empty = ["select", "empty", "--for", "task.toml"];
    assert!(
        place
            .run_refused(&empty)
            .contains("none lies directly in it")
    );
}

#[test]
fn numbers_as_targets_are_measured_by_their_correlation() {
    let place = Workplace::new();
    let rows = fs::read_to_string(quickstart("tasks/ferry_port/train.jsonl")).expect("rows");
    let rows: Vec<String> = { rows.lines() }
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("a row");
            let label = row["label"].as_str().expect("a label");
            // A number that only the meaning of the text gives.
            let number = f64::from(u8::from(label < "h"));
            serde_json::json!({ "text": row["text"], "label": number }).to_string()
        })
        .collect();
    fs::create_dir_all(place.path("numbers")).expect("a directory");
    fs::write(place.path("numbers/train.jsonl"), rows.join("\n")).expect("a file");
    let data = place.path("numbers").display().to_string();
    training_file(&place, &data, "[task]\ntarget = \"number\"");
    let pool = quickstart("adapters");
    let found = place.run_json(&["select", &pool, "--for", "task.toml"]);
    let found = &adapter(&found, NEAR[0])["loss"]["metric"];
    assert_eq!(found["name"], "pearson");
    assert!(found["value"].as_f64().expect("a number") > 0.5, "{found}");
}

#[test]
fn of_adapters_that_know_nothing_none_is_chosen_and_recycling_is_not_recommended() {
    let place = Workplace::new();
    training_file(&place, &quickstart("tasks/ferry_port"), "");
    for (number, name) in REAL.into_iter().enumerate() {
        let seed = number as u64 + 11;
        place.save(&format!("pool/{name}"), &rotated(real(name), seed));
    }
    let select = ["select", "pool", "--for", "task.toml"];
    let found = place.run_json(&select);
    assert_eq!(found["chosen"], serde_json::json!([]), "{found}");
    assert_eq!(found["prospect"], "poor");
    assert_eq!(found["training_file"], "");
    let text = place.run(&select).stdout;
    assert!(text.contains("Recycling will probably not pay"), "{text}");
    assert!(!text.contains("[adapter]"), "{text}");
}
