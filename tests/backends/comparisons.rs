//! Losses, gradients and the steps of trainings on every backend that is built and finds a device.

// Not every model of the other suite is used here.
#[allow(dead_code)]
#[path = "../../crates/models/tests/suite/small_models.rs"]
mod small_models;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::stopped_training::train_on;
use crate::support::{Workplace, quickstart};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use eigenmix_models::{Batch, HeadKind, Loaded, Precision, TokenBatch};
use eigenmix_moslora::{Factor, Mixer, ParameterNames, Update};
use eigenmix_tensors::{Dtype, Matrix};
use eigenmix_trainer::{Backend, DeviceChoice};
use serde_json::Value;

/// The choices of `--device` that reach another backend here.
pub fn other_backends() -> Vec<DeviceChoice> {
    let backends = [
        Backend::Ndarray,
        Backend::Wgpu,
        Backend::Vulkan,
        Backend::Cuda,
    ];
    let built = backends.into_iter().filter(|backend| backend.is_built());
    let choices: Vec<DeviceChoice> = built
        .filter(|backend| !backend.present().is_empty())
        .map(|backend| DeviceChoice::Of(backend, None))
        .collect();
    // It needs nothing but a CPU.
    assert!(
        !(cfg!(feature = "ndarray") && choices.is_empty()),
        "no device of the ndarray backend"
    );
    if choices.is_empty() {
        println!("skipped: no device of the other backends of this build");
    }
    choices
}

const METHODS: [&str; 4] = ["lora", "moslora", "eigenlorax", "eigenmix"];

/// An update as the method trains it: its factors, its mixer, or coefficients between frozen factors.
fn update(method: &str, path: &str, number: usize, shape: [usize; 2]) -> Update {
    let mut update = small_models::lora_update(path, number, shape);
    let coefficients = |phase: usize| {
        let value = |row: usize, col: usize| ((row * 5 + col * 2 + phase) as f32).cos() * 0.4;
        Factor::trained(Matrix::from_fn(2, 2, value))
    };
    update.mixer = match method {
        "moslora" | "eigenmix" => Mixer::Full(coefficients(number)),
        "eigenlorax" => Mixer::Factored {
            left: coefficients(number),
            right: coefficients(number + 1),
        },
        _ => Mixer::Identity,
    };
    if matches!(method, "eigenlorax" | "eigenmix") {
        update.left.trained = false;
        update.right.trained = false;
    }
    update
}

/// The gradients of everything that is trained, by name.
struct Collect<'a> {
    names: &'a ParameterNames,
    gradients: &'a Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(name) = self.names.get(param.id) else {
            return;
        };
        if let Some(gradient) = param.val().grad(self.gradients) {
            let values = gradient.into_data().try_to_vec().expect("f32");
            self.found.insert(name.to_owned(), values);
        }
    }
}

/// The mean square of the logits, and its gradients.
fn loss_and_gradients(
    config: &Value,
    head: HeadKind,
    method: &str,
    device: &Device,
) -> (f32, BTreeMap<String, Vec<f32>>) {
    let device = device.clone().autodiff();
    let of_method =
        |path: &str, number: usize, shape: [usize; 2]| update(method, path, number, shape);
    let Loaded { model, names, .. } = match method {
        "full" => small_models::from_scratch(config, head, &device),
        _ => small_models::updated(
            config,
            head,
            Dtype::F32,
            Precision::Auto,
            &device,
            &of_method,
        ),
    };
    let texts = [vec![3, 5, 8, 30, 2], vec![1, 2], vec![9, 9, 4, 6]];
    let batch = Batch::from(TokenBatch::continuing(&texts, &[0, 0, 0]));
    let loss = model
        .logits(model.hidden_states(&batch, &device))
        .square()
        .mean();
    let mut collect = Collect {
        names: &names,
        gradients: &loss.backward(),
        found: BTreeMap::new(),
    };
    model.visit(&mut collect);
    (loss.into_scalar::<f32>(), collect.found)
}

#[test]
fn losses_and_gradients_of_every_method_are_those_of_the_cpu() {
    let classification = HeadKind::Classification { labels: 3 };
    // Every method on one model, every family with one method, and weights that are trained themselves.
    let bert = METHODS
        .into_iter()
        .chain(["full"])
        .map(|method| (small_models::encoder(), classification, method));
    let (_, llama) = small_models::decoders().swap_remove(0);
    let families = small_models::decoders().into_iter();
    let decoders = families
        .map(|(_, config)| (config, HeadKind::LanguageModel, "eigenmix"))
        .chain([(llama, HeadKind::LanguageModel, "full")]);
    let cases = bert.chain(decoders);
    for choice in other_backends() {
        let other = choice.open().expect("the device");
        for (config, head, method) in cases.clone() {
            let what = format!("{method} on {choice}, {}", config["model_type"]);
            let (expected, expected_gradients) =
                loss_and_gradients(&config, head, method, &Device::flex());
            let (loss, gradients) = loss_and_gradients(&config, head, method, &other);
            println!("{what}: a loss of {loss}, on the CPU {expected}");
            let difference = (loss - expected).abs();
            // The cap of Gemma 2's logits is the tanh of a graphics interface, which is made of exponentials.
            let most = match config["model_type"] == "gemma2" {
                true => 2e-5,
                false => 1e-5,
            };
            assert!(difference < most * expected, "{what}: {loss} {expected}");
            assert!(
                gradients.keys().eq(expected_gradients.keys()),
                "{what}: {:?}",
                gradients.keys()
            );
            let largest_of = |values: &[f32]| {
                let sizes = values.iter().map(|value| value.abs());
                sizes.fold(0.0f32, f32::max)
            };
            // A bias of keys has no gradient: what is found of it, where it is trained, is rounding.
            let of_all = expected_gradients.values().map(|values| largest_of(values));
            let least = match method {
                "full" => of_all.fold(0.0, f32::max) * 1e-4,
                _ => 0.0,
            };
            for (name, expected) in &expected_gradients {
                let largest = largest_of(expected).max(least);
                for (found, expected) in gradients[name].iter().zip(expected) {
                    // Sums of f32 in another order, and other approximations of eˣ and erf.
                    let difference = (found - expected).abs();
                    assert!(
                        difference <= 1e-4 * largest,
                        "{what}, {name}: off by {difference} of {largest}"
                    );
                }
            }
        }
    }
}

/// A training of a few steps, all of the same shape.
fn configuration(output: &Path, data: &Path, method: &str) -> String {
    let sources = ["bakery", "gym"].map(|name| quickstart(&format!("adapters/{name}")));
    let sources = match method {
        "eigenlorax" | "eigenmix" => format!("adapters = {sources:?}\ncomponents = 6"),
        _ => String::new(),
    };
    format!(
        r#"
        seed = 5
        output = "{output}"
        [base]
        model = "{base}"
        [data]
        path = "{data}"
        max_length = 6
        examples_per_class = 1
        [adapter]
        method = "{method}"
        rank = 4
        {sources}
        [training]
        epochs = 2
        batch_size = 5
        learning_rate = 2e-3
        log_every = 1
        evaluate_every = 0
        "#,
        output = output.display(),
        base = quickstart("base"),
        data = data.display(),
    )
}

#[test]
fn trainings_of_every_method_take_the_steps_of_the_cpu() {
    let place = Workplace::new();
    // Without other splits, nothing is evaluated.
    let data = place.path("data");
    fs::create_dir(&data).expect("a directory");
    let rows = quickstart("tasks/ferry_port/train.jsonl");
    fs::copy(rows, data.join("train.jsonl")).expect("a file");
    for choice in other_backends() {
        for method in METHODS {
            let [expected, found] = [DeviceChoice::default(), choice].map(|device| {
                let output = place.path(&format!("{method}-{device}").replace(':', "-"));
                let config = configuration(&output, &data, method);
                train_on(device, &config, false, usize::MAX)
            });
            println!("{method} on {choice}: losses {found:?}, on the CPU {expected:?}");
            assert!(expected.len() >= 4, "{expected:?}");
            assert_eq!(expected.len(), found.len());
            for (expected, found) in expected.iter().zip(&found) {
                let difference = (expected - found).abs();
                assert!(
                    difference < 1e-4,
                    "{method} on {choice}: {expected} {found}"
                );
            }
        }
    }
}
