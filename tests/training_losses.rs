//! Losses of trainings that weigh classes and smooth targets, in one batch and in several.

mod support;
use std::path::Path;

use eigenmix_tensors::TensorFile;
use support::letter_tasks::{Instruction, LetterTask, write_decoder, write_letter_tasks};
use support::stopped_training::train;
use support::{Workplace, largest_difference, quickstart};

/// The values of the adapter of a run.
fn values(place: &Workplace, run: &str) -> Vec<f32> {
    let path = place.path(&format!("{run}/adapter/adapter_model.safetensors"));
    let file = TensorFile::open(&path).expect("an adapter");
    let mut names: Vec<&str> = file.names().collect();
    names.sort_unstable();
    let values = names
        .into_iter()
        .map(|name| file.read_f32(name).expect("values"));
    values.flatten().collect()
}

#[test]
fn weighted_and_smoothed_batches_that_are_accumulated_are_one_batch() {
    let place = Workplace::new();
    let data = quickstart("tasks/ferry_port");
    let run = |output: &str, task: &str, training: &str| {
        let text = format!(
            "seed = 5\noutput = \"{}\"\n[base]\nmodel = \"{}\"\n\
             [data]\npath = \"{data}\"\nmax_length = 24\nmax_examples = 30\n[task]\n{task}\n\
             [adapter]\nmethod = \"lora\"\nrank = 4\n\
             [training]\nepochs = 3\nlearning_rate = 5e-3\nlog_every = 1\nevaluate_every = 0\n{training}",
            place.path(output).display(),
            quickstart("base"),
        );
        (train(&text, false, usize::MAX), values(&place, output))
    };
    let smoothing = "label_smoothing = 0.1";
    let balanced = "class_weights = \"balanced\"";
    // All examples in one step; the last of the small batches is smaller than the others.
    let at_once = format!("batch_size = 32\n{smoothing}");
    let in_parts = format!("batch_size = 7\ngradient_accumulation = 5\n{smoothing}");
    let (losses, whole) = run("whole", balanced, &at_once);
    let (others, parts) = run("parts", balanced, &in_parts);
    assert_eq!((losses.len(), others.len()), (3, 3));
    for (found, expected) in others.iter().zip(&losses) {
        // f32 sums in another order.
        assert!((found - expected).abs() < 2e-5, "{others:?} {losses:?}");
    }
    // Adam divides gradients by their own size, so that rounding shows most where they are small; a
    // step moves a value by 5e-3.
    assert!(largest_difference(&whole, &parts) < 1e-3);
    // And both do something.
    let (plain, _) = run("plain", "", "batch_size = 32");
    let (weighted, _) = run("weighted", balanced, "batch_size = 32");
    assert!(
        (plain[0] - weighted[0]).abs() > 1e-4,
        "{plain:?} {weighted:?}"
    );
    assert!(
        (losses[0] - weighted[0]).abs() > 1e-4,
        "{losses:?} {weighted:?}"
    );
}

/// The losses of a language model in steps of all its examples.
///
/// - base: its lines of the `[base]` table
/// - adapter: its lines of the `[adapter]` table
fn language_losses(
    data: &Path,
    output: &Path,
    base: &str,
    adapter: &str,
    training: &str,
) -> Vec<f64> {
    let text = format!(
        "output = \"{}\"\n[base]\n{base}\n[data]\npath = \"{}\"\nmax_length = 32\n\
         [task]\nkind = \"causal-lm\"\n[adapter]\n{adapter}\n\
         [training]\nepochs = 2\nlearning_rate = 1e-3\nlog_every = 1\nevaluate_every = 0\n{training}",
        output.display(),
        data.display(),
    );
    train(&text, false, usize::MAX)
}

#[test]
fn the_smoothed_loss_of_a_language_model_is_linear_in_the_share_that_is_spread() {
    let place = Workplace::new();
    write_decoder(&place.path("decoder"));
    let data = place.path("data");
    let task = LetterTask {
        shift: 2,
        reversed: true,
    };
    write_letter_tasks(&data, &[task], Instruction::Given, [12, 2, 2], 3);
    let scratch = format!(
        "model = \"{}\"\nfrom_scratch = true",
        place.path("decoder").display()
    );
    let trained = format!("model = \"{}\"", place.path("full-0/model").display());
    // Every weight trained, for which operations are composed; and then frozen weights, for which the
    // loss is a kernel.
    for (name, base, adapter) in [
        ("full", scratch, "method = \"full\""),
        ("lora", trained, "method = \"lora\"\nrank = 2"),
    ] {
        let losses = |number: usize, training: &str| {
            let output = place.path(&format!("{name}-{number}"));
            language_losses(&data, &output, &base, adapter, training)
        };
        let plain = losses(0, "batch_size = 12");
        let little = losses(1, "batch_size = 12\nlabel_smoothing = 0.1");
        let more = losses(2, "batch_size = 12\nlabel_smoothing = 0.3");
        // Before the first step the models are the same.
        let (first, second) = (little[0] - plain[0], more[0] - plain[0]);
        assert!(first.abs() > 1e-3, "{name}: {first}");
        assert!(
            (second - 3.0 * first).abs() < 1e-5,
            "{name}: {first} {second}"
        );
        let parts = "batch_size = 5\ngradient_accumulation = 3\nlabel_smoothing = 0.3";
        let parts = losses(3, parts);
        for (found, expected) in parts.iter().zip(&more) {
            // f32 sums in another order.
            assert!(
                (found - expected).abs() < 2e-5,
                "{name}: {parts:?} {more:?}"
            );
        }
    }
}
