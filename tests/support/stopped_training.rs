//! Trainings in this process, stopped where a test wants them to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use eigenmix_trainer::{
    DeviceChoice, Observer, Processes, RunOptions, StepRecord, TrainConfig, Training,
};

/// Stops the training after a step.
struct StopAfter<'a> {
    step: usize,
    flag: &'a AtomicBool,
    losses: Vec<f64>,
}

impl Observer for StopAfter<'_> {
    fn stepped(&mut self, step: usize) {
        self.flag.store(step == self.step, Ordering::Relaxed);
    }

    fn logged(&mut self, record: &StepRecord) {
        self.losses.push(record.loss);
    }
}

/// Dropout draws from a generator that belongs to the process: one training at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a training up to a step (or its end), and gives the losses it logged.
pub fn train(configuration: &str, resume: bool, until: usize) -> Vec<f64> {
    train_on(DeviceChoice::default(), configuration, resume, until)
}

/// The same on another device than the CPU.
pub fn train_on(device: DeviceChoice, configuration: &str, resume: bool, until: usize) -> Vec<f64> {
    let config = TrainConfig::from_toml(configuration).expect("a configuration");
    let mut training = Training::prepare(config).expect("a training");
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let flag = AtomicBool::new(false);
    let options = RunOptions {
        device: device.open().expect("the device"),
        resume,
        force: false,
        stop: &flag,
        processes: &Processes::alone(),
    };
    let mut observer = StopAfter {
        step: until,
        flag: &flag,
        losses: Vec::new(),
    };
    let outcome = training.run(&options, &mut observer).expect("a run");
    assert_eq!(outcome.interrupted, until != usize::MAX);
    observer.losses
}
