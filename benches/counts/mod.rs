//! Counters of what a program asks of a GPU.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::fusion::observer::{BlockOperations, FusionObservation, FusionObserver};
use burn::backend::ir::OperationIr;
use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use log::{LevelFilter, Log, Metadata, Record};

/// Counts since [`Counter::start`].
#[derive(Default)]
pub struct Counter {
    found: Mutex<Found>,
}

#[derive(Clone, Default)]
struct Found {
    kernels: BTreeMap<String, usize>,
    read_backs: usize,
    /// The bytes of each.
    uploads: Vec<(String, usize)>,
}

/// A step's.
#[derive(Clone, Debug)]
pub struct Counts {
    pub launches: f64,
    /// Of wgpu and Vulkan.
    pub read_backs: f64,
    /// Tensors made of values of the host.
    pub uploads: f64,
    pub bytes_uploaded: f64,
}

impl Counter {
    /// Counts from here to the end of the program.
    pub fn install() -> Arc<Self> {
        let counter = Arc::new(Self::default());
        // The feature for boxed loggers would build everything anew.
        let calls: &'static Calls = Box::leak(Box::new(Calls(counter.clone())));
        if log::set_logger(calls).is_ok() {
            log::set_max_level(LevelFilter::Trace);
        }
        // Both watch as long as they live.
        let launches: Arc<dyn LaunchObserver> = counter.clone();
        Box::leak(Box::new(LaunchObservation::new(launches)));
        Box::leak(Box::new(FusionObservation::new(counter.clone())));
        counter
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn start(&self) {
        self.change(|found| *found = Found::default());
    }

    pub fn counts(&self, steps: usize) -> Counts {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let a_step = |count: usize| count as f64 / steps as f64;
        Counts {
            launches: a_step(found.kernels.values().sum()),
            read_backs: a_step(found.read_backs),
            uploads: a_step(found.uploads.len()),
            bytes_uploaded: a_step(found.uploads.iter().map(|(_, bytes)| bytes).sum()),
        }
    }

    /// By name, most frequent first.
    pub fn kernels(&self) -> Vec<(String, usize)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        super::sorted(&found.kernels)
    }

    pub fn uploaded_shapes(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (shape, bytes) in &found.uploads {
            eprintln!("uploaded {shape}, {bytes} bytes");
        }
    }
}

impl LaunchObserver for Counter {
    fn launched(&self, kernel: &'static str) {
        self.change(|found| *found.kernels.entry(kernel.to_owned()).or_default() += 1);
    }
}

impl FusionObserver for Counter {
    fn registered(&self, operation: &OperationIr) {
        if let OperationIr::Init(made) = operation {
            let bytes = made.out.shape.num_elements() * made.out.dtype.size();
            let shape = format!("{:?} {:?}", made.out.dtype, made.out.shape);
            self.change(|found| found.uploads.push((shape, bytes)));
        }
    }

    fn block_starts(&self, _: BlockOperations<'_>) {}

    fn block_ran(&self) {}
}

/// Hears of wgpu's calls.
struct Calls(Arc<Counter>);

impl Log for Calls {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("wgpu_core")
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata())
            && record.args().to_string().starts_with("Buffer::map_async")
        {
            self.0.change(|found| found.read_backs += 1);
        }
    }

    fn flush(&self) {}
}
