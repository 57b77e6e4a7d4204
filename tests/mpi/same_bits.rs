//! Any number of processes gives what one gives that accumulates the same micro-batches.

use std::fs;

use eigenmix_adapter::AdapterFile;

use crate::launched::{File, Result, encoder, methods, together, train_alone, train_together};
use crate::support::image_tasks::{Attribute, TaskSize, write_image_task, write_vit};
use crate::support::letter_tasks::{Instruction, LetterTask, write_decoder, write_letter_tasks};
use crate::support::{Workplace, read_json};

#[test]
fn two_and_four_processes_are_equal_to_the_bit_to_one_with_the_same_micro_batches() {
    let place = Workplace::new();
    for (method, adapter) in methods() {
        let train = |output: &str, processes: usize| {
            let file = encoder(
                &place,
                &File {
                    output,
                    adapter: &adapter,
                    training: "batch_size = 16\nmicro_batches = 4\nmax_steps = 8",
                },
            );
            match processes {
                1 => train_alone(&place, &[&file]),
                processes => drop(train_together(&place, processes, &[&file])),
            }
            Result::of(&place, output)
        };
        let alone = train(&format!("{method}-1"), 1);
        assert_eq!(alone.losses().len(), 8);
        for processes in [2, 4] {
            let found = train(&format!("{method}-{processes}"), processes);
            assert_eq!(found, alone, "{method}, {processes} processes");
        }
        // As many micro-batches as are not a multiple of the processes.
        assert_eq!(train(&format!("{method}-3"), 3), alone, "{method}");
    }
}

#[test]
fn batches_that_one_process_accumulates_are_shared_whole_and_give_the_same_bits() {
    let place = Workplace::new();
    let [_, (_, moslora), ..] = methods();
    // The plan of the dropout belongs to the micro-batch, whichever process has it.
    let adapter = format!("{moslora}\ndropout = 0.1");
    let train = |output: &str, processes: usize| {
        let training = "tokens_per_batch = 120\ngradient_accumulation = 4\nmax_steps = 9\n\
                        gradient_checkpointing = true\nkeep = \"best\"";
        let file = File {
            output,
            adapter: &adapter,
            training,
        };
        let file = encoder(&place, &file);
        match processes {
            1 => train_alone(&place, &[&file]),
            processes => drop(train_together(&place, processes, &[&file])),
        }
        Result::of(&place, output)
    };
    let alone = train("alone", 1);
    assert_eq!(train("two", 2), alone);
    assert_eq!(train("four", 4), alone);
    // Twice the same.
    assert_eq!(train("again", 4), alone);
}

#[test]
fn a_decoder_gives_the_same_bits_and_its_evaluations_are_shared() {
    let place = Workplace::new();
    write_decoder(&place.path("sizes"));
    let tasks = LetterTask::all();
    let letters = |name: &str, tasks: &[LetterTask], counts| {
        write_letter_tasks(&place.path(name), tasks, Instruction::Given, counts, 5);
    };
    letters("all", &tasks, [40, 2, 2]);
    letters("one", &tasks[3..4], [60, 7, 9]);
    let file = |output: &str, base: &str, data: &str, adapter: &str, training: &str| {
        let text = format!(
            "seed = 2\noutput = \"{output}\"\n[base]\n{base}\n[data]\npath = \"{data}\"\nmax_length = 16\n\
             [task]\nkind = \"causal-lm\"\nmetrics = [\"exact-match\", \"perplexity\"]\n\
             [adapter]\n{adapter}\n[training]\nepochs = 2\nlearning_rate = 4e-3\nlog_every = 1\n\
             evaluation_batch_size = 2\n{training}\n"
        );
        let name = format!("{output}.toml");
        fs::write(place.path(&name), text).expect("a file");
        name
    };
    let base = "model = \"sizes\"\nfrom_scratch = true";
    let pretraining = file("base", base, "all", "method = \"full\"", "batch_size = 32");
    train_alone(&place, &[&pretraining]);
    let base = "model = \"base/model\"";
    let lora =
        "method = \"lora\"\nrank = 4\ntarget_modules = [\"q_proj\", \"v_proj\", \"down_proj\"]";
    for source in ["first", "second"] {
        let source = file(source, base, "all", lora, "batch_size = 32\nmax_steps = 6");
        train_alone(&place, &[&source]);
    }
    let pool = "adapters = [\"first\", \"second\"]\nallow_base_mismatch = true\ncomponents = 4";
    let adapters = [
        ("lora", lora.to_owned()),
        ("moslora", lora.replace("lora", "moslora")),
        (
            "eigenlorax",
            format!("method = \"eigenlorax\"\nrank = 2\n{pool}"),
        ),
        (
            "eigenmix",
            format!("method = \"eigenmix\"\nrank = 2\n{pool}"),
        ),
    ];
    for (method, adapter) in &adapters {
        let train = |processes: usize| {
            let output = format!("{method}-{processes}");
            let training = "batch_size = 8\ngradient_accumulation = 2\nmicro_batches = 2";
            let file = file(&output, base, "one", adapter, training);
            match processes {
                1 => train_alone(&place, &[&file]),
                processes => drop(train_together(&place, processes, &[&file])),
            }
            Result::of(&place, &output)
        };
        let alone = train(1);
        for processes in [2, 4] {
            assert_eq!(train(processes), alone, "{method}, {processes}");
        }
    }
}

#[test]
fn batches_that_are_divided_train_what_whole_ones_train() {
    let place = Workplace::new();
    for (method, adapter) in methods() {
        let train = |output: &str, processes: usize| {
            let training = "batch_size = 16\nepochs = 5\nmax_steps = 20\nevaluate_every = 0";
            let file = File {
                output,
                adapter: &adapter,
                training: &training.replace("epochs = 5\n", ""),
            };
            let file = encoder(&place, &file);
            let epochs = ["--set", "training.epochs=5"];
            let arguments = [&[file.as_str()][..], &epochs].concat();
            match processes {
                1 => train_alone(&place, &arguments),
                processes => drop(train_together(&place, processes, &arguments)),
            }
            Result::of(&place, output).losses()
        };
        let [whole, divided] = ["whole", "divided"].map(|name| format!("{method}-{name}"));
        let (expected, found) = (train(&whole, 1), train(&divided, 4));
        assert_eq!((expected.len(), found.len()), (20, 20));
        for (found, expected) in found.iter().zip(&expected) {
            // f32 sums in another order.
            assert!(
                (found - expected).abs() <= 1e-5,
                "{method}: {found} {expected}"
            );
        }
        let [found, expected] = [&divided, &whole].map(|run| {
            let file = AdapterFile::open(&place.path(run).join("adapter")).expect("an adapter");
            file.load().expect("a whole adapter")
        });
        let (mut difference, mut size) = (0.0, 0.0);
        for (path, module) in &expected.modules {
            let (found, expected) = (found.modules[path].update(), module.update());
            for (found, expected) in found.values().iter().zip(expected.values()) {
                difference += f64::from(found - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
        }
        let relative = (difference / size).sqrt();
        println!("{method}: ‖δΔW‖/‖ΔW‖ = {relative:.1e}");
        assert!(relative <= 1e-3, "{method}: {relative}");
        let outcome = read_json(&place.path(&divided).join("outcome.json"));
        assert_eq!(outcome["processes"]["count"], 4);
        assert_eq!(outcome["processes"]["micro_batches"], 4);
        // The trained parameters in f32, a little before them, and the beginning of every message.
        let trained = outcome["adapter_parameters"].as_u64().expect("a number")
            + outcome["head_parameters"].as_u64().expect("a number");
        let bytes = outcome["processes"]["bytes"].as_u64().expect("a number") / 20;
        assert!(
            (4 * trained..4 * trained + 1000).contains(&bytes),
            "{bytes} {trained}"
        );
    }
}

#[test]
fn the_start_and_the_end_that_measurements_decide_are_those_of_one_process() {
    let place = Workplace::new();
    let [.., (_, eigenmix)] = methods();
    let adapter = eigenmix.replace("\"zero\"", "\"auto\"");
    let train = |output: &str, processes: usize| {
        let training = "batch_size = 16\nmicro_batches = 2\nearly_stopping = 1\nkeep = \"best\"\n\
                        scheduler = \"reduce-on-plateau\"";
        let file = File {
            output,
            adapter: &adapter,
            training,
        };
        let file = encoder(&place, &file);
        let arguments = [
            &file,
            "--set",
            "training.epochs=9",
            "--set",
            "data.fold=1/3",
        ];
        match processes {
            1 => train_alone(&place, &arguments),
            processes => drop(train_together(&place, processes, &arguments)),
        }
        let start = read_json(&place.path(output).join("start.json"));
        (Result::of(&place, output), start)
    };
    let alone = train("alone", 1);
    assert_eq!(train("three", 3), alone);
}

#[test]
fn images_are_decoded_and_augmented_by_the_process_that_computes_them() {
    let place = Workplace::new();
    write_vit(&place.path("sizes"), 16);
    let size = TaskSize {
        side: 16,
        per_class: [11, 3, 2],
    };
    write_image_task(&place.path("data"), &[Attribute::Color], size, 4);
    let file = |output: &str| {
        let text = format!(
            "seed = 6\noutput = \"{output}\"\n[base]\nmodel = \"sizes\"\nfrom_scratch = true\ndropout = 0.1\n\
             [data]\npath = \"data\"\naugment = \"flip\"\n[task]\nkind = \"image-classification\"\n\
             [adapter]\nmethod = \"full\"\n[training]\nepochs = 2\nbatch_size = 8\nmicro_batches = 3\n\
             learning_rate = 1e-3\nlog_every = 1\n"
        );
        let name = format!("{output}.toml");
        fs::write(place.path(&name), text).expect("a file");
        name
    };
    train_alone(&place, &[&file("alone")]);
    train_together(&place, 2, &[&file("two")]);
    assert_eq!(Result::of(&place, "two"), Result::of(&place, "alone"));
    // One that nobody can read ends all, whoever comes to it.
    let damaged = place.path("data/train/red");
    let damaged = fs::read_dir(damaged).expect("images").next().expect("one");
    fs::write(damaged.expect("an image").path(), "no image").expect("a file");
    let outcome = together(&place, 3, &["train", &file("three")]);
    assert_ne!(outcome.status, 0, "{outcome:?}");
    let lines = outcome.stderr.lines();
    let errors: Vec<&str> = lines.filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{outcome:?}");
    assert!(errors[0].contains("data/train/red"), "{errors:?}");
}
