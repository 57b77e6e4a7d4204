//! Adapters that a training cannot go on from, and what the refusals say.

use super::*;

#[test]
fn what_a_training_would_not_keep_is_refused_by_name() {
    let place = Workplace::new();
    let with = |change: &dyn Fn(&mut Adapter)| {
        let mut adapter = gym();
        change(&mut adapter);
        adapter
    };
    let first = gym().modules.keys().next().expect("a module").clone();
    let of_first = first.clone();
    let magnitudes = with(&|adapter| {
        for module in adapter.modules.values_mut() {
            module.magnitude = Some(vec![1.5; module.d_out()]);
        }
    });
    let b_biases = with(&|adapter| {
        for module in adapter.modules.values_mut() {
            module.bias = Some(vec![0.5; module.d_out()]);
        }
    });
    let biases = with(&|adapter| {
        let bias = HostTensor::new([64], vec![0.5; 64]);
        adapter.biases.insert(format!("{of_first}.bias"), bias);
    });
    let table = with(&|adapter| {
        let shape = [30, 64];
        let table = HostTensor::new(shape, vec![0.5; 30 * 64]);
        adapter
            .heads
            .insert("bert.embeddings.word_embeddings.weight".to_owned(), table);
    });
    let stranger = support::random_adapter(1, 2);
    for (name, adapter, words) in [
        (
            "magnitudes",
            magnitudes,
            ["a DoRA magnitude", &first, "--merge-into-base"],
        ),
        (
            "b-biases",
            b_biases,
            ["lora_bias", &first, "--merge-into-base"],
        ),
        (
            "biases",
            biases,
            ["trained biases", &first, "--merge-into-base"],
        ),
        (
            "table",
            table,
            [
                "trained `bert.embeddings.word_embeddings.weight` whole",
                "adapter.init",
                "--merge-into-base",
            ],
        ),
        (
            "stranger",
            stranger,
            ["37 × 23", "64 × 64", "another base model"],
        ),
    ] {
        save(&place, name, &adapter, json!({}));
        for method in ["lora", "moslora"] {
            refuses(
                &place,
                &format!("method = \"{method}\"\ninit = \"{name}\""),
                &words,
            );
        }
    }
    let gym = quickstart("adapters/gym");
    for (more, words) in [
        (
            "rank = 3",
            ["adapter.rank is 3", "rank 4", "leave adapter.rank"],
        ),
        (
            "alpha = 6",
            ["adapter.alpha is 6", "alpha = 8", "leave adapter.alpha"],
        ),
        (
            "target_modules = [\"query\"]",
            ["value", "of its", "leave adapter.target_modules"],
        ),
        (
            "target_modules = \"all-linear\"",
            ["has no update of", "key", "leave adapter.target_modules"],
        ),
        (
            "mixer = \"kaiming\"",
            ["adapter.mixer", "moslora", "identity"],
        ),
    ] {
        refuses(
            &place,
            &format!("method = \"moslora\"\ninit = \"{gym}\"\n{more}"),
            &words,
        );
    }
    for (init, words) in [
        (
            "zeros",
            ["init `zeros` is unknown", "did you mean `zero`?", "ADAPTER"],
        ),
        (
            "project:org/adapter",
            ["adapter.init", "goes on from its factors", "org/adapter"],
        ),
        (
            "no/such/path/of/one",
            ["no/such/path/of/one", "existing path", "org/name"],
        ),
    ] {
        refuses(
            &place,
            &format!("method = \"lora\"\nrank = 4\ninit = \"{init}\""),
            &words,
        );
    }
}

/// Expects a training with this `[adapter]` table to be refused in these words.
fn refuses(place: &Workplace, adapter: &str, words: &[&str]) {
    let file = write(place, "refused", adapter);
    let outcome = place.run(&["train", &file]);
    assert_eq!(outcome.status, 2, "{adapter}: {outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
    }
    assert!(!place.path("refused").exists());
}

#[test]
fn an_adapter_for_another_base_model_is_refused_unless_that_is_allowed() {
    let place = Workplace::new();
    save(
        &place,
        "other",
        &gym(),
        json!({"base_model_name_or_path": "org/other"}),
    );
    // The directory of the base model may hold the one that the adapter names.
    let (_, outcome) = run(&place, "noted", "method = \"lora\"\ninit = \"other\"");
    assert!(
        outcome.stderr.contains("names the base model `org/other`"),
        "{outcome:?}"
    );
    let allowed = "method = \"lora\"\ninit = \"other\"\nallow_base_mismatch = true";
    let (_, outcome) = run(&place, "allowed", allowed);
    assert!(!outcome.stderr.contains("org/other"), "{outcome:?}");
}

#[test]
fn an_adapter_in_the_output_of_the_training_is_refused() {
    let place = Workplace::new();
    run(&place, "first", "method = \"lora\"\nrank = 3");
    let file = write(&place, "first", "method = \"lora\"\ninit = \"first\"");
    let outcome = place.run(&["train", &file, "--force"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("give another output"),
        "{outcome:?}"
    );
    assert!(place.path("first/adapter").is_dir());
}
