//! A LoRA of the quick start's model on one of its tasks, trained from Rust.
//!
//! `cargo run --release -p eigenmix-trainer --example train_a_task`, from the root of the repository.

use std::error::Error;
use std::sync::atomic::AtomicBool;

use eigenmix_trainer::{
    DeviceChoice, Observer, Processes, RunOptions, StepRecord, TrainConfig, Training, TrainingPlan,
};

/// Prints what happens.
struct Print;

impl Observer for Print {
    fn started(&mut self, plan: &TrainingPlan) {
        println!(
            "{} of {} parameters",
            plan.adapter_parameters, plan.base_parameters
        );
    }

    fn logged(&mut self, record: &StepRecord) {
        println!("step {}: loss {:.4}", record.step, record.loss);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::temp_dir().join(format!("eigenmix-example-{}", std::process::id()));
    let config = TrainConfig::from_toml(&format!(
        r#"
        output = {place:?}
        [base]
        model = "datasets/quickstart/base"
        [data]
        path = "datasets/quickstart/tasks/ferry_port"
        max_length = 32
        examples_per_class = 5
        [adapter]
        method = "lora"
        rank = 4
        [training]
        epochs = 4
        batch_size = 16
        learning_rate = 5e-3
        "#
    ))?;
    let stop = AtomicBool::new(false);
    let options = RunOptions {
        device: DeviceChoice::default().open()?,
        resume: false,
        force: false,
        stop: &stop,
        processes: &Processes::alone(),
    };
    let outcome = Training::prepare(config)?.run(&options, &mut Print)?;
    println!("test: {:?}; the adapter is in {place:?}", outcome.test);
    Ok(())
}
