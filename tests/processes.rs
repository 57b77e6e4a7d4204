//! Trainings that several processes share, with threads in their place: what a build without MPI has of them.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use eigenmix_tensors::TensorFile;
use eigenmix_trainer::{
    DeviceChoice, Observer, Outcome, ProcessError, Processes, RunOptions, TrainConfig,
    TrainerError, Training, Transport,
};
use serde_json::Value;
use support::{Workplace, metrics, quickstart};

/// Where the threads leave their messages.
struct Table {
    barrier: Barrier,
    messages: Mutex<Vec<Vec<u8>>>,
}

struct Thread {
    rank: usize,
    table: Arc<Table>,
    /// Whether the next gradients come to this thread with one of them turned around.
    errs: AtomicBool,
}

impl Transport for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.table.messages.lock().expect("a table").len()
    }

    fn host(&self) -> String {
        format!("node-{}", self.rank)
    }

    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>, ProcessError> {
        let Table { barrier, messages } = &*self.table;
        messages.lock().expect("a table")[self.rank] = own.to_vec();
        barrier.wait();
        let mut all = messages.lock().expect("a table").concat();
        barrier.wait();
        let are_gradients = lengths[0] > 8000;
        if are_gradients && self.errs.swap(false, Ordering::Relaxed) {
            const SIGN: u8 = 0x80;
            *all.last_mut().expect("values") ^= SIGN;
        }
        Ok(all)
    }
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn note(&mut self, note: &str) {
        self.0.push(note.to_owned());
    }
}

/// Trains the files, each in a thread of its own, as processes of one training.
fn together(files: &[String]) -> Vec<Result<Outcome, TrainerError>> {
    let ended = together_with(files, None).into_iter();
    ended.map(|(ended, _)| ended).collect()
}

/// The same with the notes of each, and one of them computing something else once.
fn together_with(
    files: &[String],
    erring: Option<usize>,
) -> Vec<(Result<Outcome, TrainerError>, Vec<String>)> {
    let table = Arc::new(Table {
        barrier: Barrier::new(files.len()),
        messages: Mutex::new(vec![Vec::new(); files.len()]),
    });
    let train = |rank: usize| {
        let processes = match files.len() {
            1 => Processes::alone(),
            _ => {
                let thread = Thread {
                    rank,
                    table: table.clone(),
                    errs: AtomicBool::new(erring == Some(rank)),
                };
                Processes::over(Box::new(thread)).expect("all are there")
            }
        };
        let config = TrainConfig::from_toml(&files[rank]).expect("a configuration");
        let mut training = Training::prepare(config).expect("a training");
        let stop = AtomicBool::new(false);
        let options = RunOptions {
            device: DeviceChoice::default().open().expect("a device"),
            resume: false,
            force: false,
            stop: &stop,
            processes: &processes,
        };
        let mut notes = Notes::default();
        (training.run(&options, &mut notes), notes.0)
    };
    let train = &train;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..files.len())
            .map(|rank| scope.spawn(move || train(rank)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.expect("no panic")).collect()
    })
}

/// A training file; `adapter` is its table, `training` the end of `[training]`.
fn file(place: &Workplace, output: &str, adapter: &str, training: &str) -> String {
    format!(
        "seed = 3\noutput = {:?}\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 40\n\
         examples_per_class = 6\n[adapter]\n{adapter}\n\
         [training]\nepochs = 2\nlearning_rate = 5e-3\nlog_every = 1\n{training}\n",
        place.path(output).display().to_string(),
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

/// The bits of what was trained, and the metrics.
fn result(place: &Workplace, output: &str) -> (BTreeMap<String, Vec<u32>>, Vec<Value>) {
    let run = place.path(output);
    let file = TensorFile::open(&run.join("adapter/adapter_model.safetensors")).expect("tensors");
    let bits = |name: &str| {
        let values = file.read_f32(name).expect("values").into_iter();
        (name.to_owned(), values.map(f32::to_bits).collect())
    };
    (file.names().map(bits).collect(), metrics(&run))
}

#[test]
fn processes_have_the_bits_of_one_with_the_same_micro_batches() {
    let place = Workplace::new();
    let pool = ["adapters/gym", "adapters/library"].map(quickstart);
    let adapter = format!(
        "method = \"eigenmix\"\nrank = 3\nadapters = {pool:?}\nallow_base_mismatch = true\ncomponents = 4"
    );
    for training in [
        "batch_size = 16\nmicro_batches = 3",
        "batch_size = 5\ngradient_accumulation = 4",
    ] {
        let train = |count: usize| {
            let output = format!("{}-{count}", training.len());
            let files = vec![file(&place, &output, &adapter, training); count];
            let mut ended = together(&files).into_iter();
            let first = ended.next().expect("one").expect("an outcome");
            for other in ended {
                let other = other.expect("an outcome");
                assert_eq!(other.validation, first.validation);
                assert_eq!(other.loss, first.loss);
            }
            result(&place, &output)
        };
        let alone = train(1);
        assert_eq!(train(2), alone, "{training}");
        assert_eq!(train(4), alone, "{training}");
    }
}

#[test]
fn a_batch_in_micro_batches_is_the_whole_batch_up_to_rounding() {
    let place = Workplace::new();
    let adapter = "method = \"moslora\"\nrank = 4";
    let losses = |output: &str, training: &str| {
        let training = format!("batch_size = 16\nmax_steps = 20\n{training}");
        let outcome = together(&[file(&place, output, adapter, &training)]);
        assert!(outcome.iter().all(Result::is_ok));
        let lines = metrics(&place.path(output)).into_iter();
        let losses = lines.filter(|line| line.get("learning_rate").is_some());
        losses
            .map(|line| line["loss"].as_f64().expect("a number"))
            .collect::<Vec<f64>>()
    };
    let (whole, parts) = (losses("whole", ""), losses("parts", "micro_batches = 5"));
    assert_eq!(whole.len(), parts.len());
    assert_ne!(whole, parts, "the sums have another order");
    for (found, expected) in parts.iter().zip(&whole) {
        assert!((found - expected).abs() <= 1e-5, "{found} {expected}");
    }
}

#[test]
fn a_process_with_another_file_is_named_in_all_of_them() {
    let place = Workplace::new();
    let adapter = "method = \"lora\"\nrank = 4";
    let [same, other] = ["batch_size = 16", "batch_size = 15"]
        .map(|training| file(&place, "run", adapter, training));
    let ended = together(&[same.clone(), same, other]);
    for ended in ended {
        let error = ended.expect_err("an error").to_string();
        let expected = "the training file is not the same in all processes: `batch_size = 15` in process 2 \
                        on `node-2`, `batch_size = 16` in process 0";
        assert_eq!(error, expected);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn a_process_that_fails_alone_ends_all_of_them() {
    let place = Workplace::new();
    let adapter = "method = \"lora\"\nrank = 4";
    let run = file(&place, "run", adapter, "batch_size = 16");
    assert!(together(std::slice::from_ref(&run))[0].is_ok());
    // The first one alone looks at what is there.
    let ended = together(&[run.clone(), run]);
    let errors = ended
        .into_iter()
        .map(|ended| ended.expect_err("an error").to_string());
    let errors: Vec<String> = errors.collect();
    assert!(errors[0].contains("exists already"), "{errors:?}");
    assert!(
        errors[1].starts_with("process 0 on `node-0` failed: "),
        "{errors:?}"
    );
}

#[test]
fn a_process_that_computes_something_else_takes_over_the_state_of_the_first() {
    let place = Workplace::new();
    let adapter = "method = \"lora\"\nrank = 4";
    let run = file(&place, "run", adapter, "batch_size = 16");
    let ended = together_with(&[run.clone(), run.clone(), run], Some(1));
    for (outcome, notes) in ended {
        assert!(outcome.is_ok());
        let told: Vec<&String> = notes
            .iter()
            .filter(|note| note.contains("taken over"))
            .collect();
        // At the end of the first epoch, and not at that of the second.
        assert_eq!(told.len(), 1, "{notes:?}");
        let expected = "process 1 on `node-1` rounds other than process 0";
        assert!(told[0].starts_with(expected), "{notes:?}");
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_says_so_when_mpirun_starts_several() {
    let place = Workplace::new();
    let started = |rank: &str, arguments: &[&str]| {
        let variables = [
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_RANK", rank),
        ];
        place.run_with(arguments, &variables)
    };
    let first = started("0", &["train", "x.toml"]);
    assert_eq!(first.status, 2, "{first:?}");
    let expected = "one of 2 processes of `mpirun`, and this build has no MPI";
    assert!(first.stderr.contains(expected), "{first:?}");
    // Once is enough.
    let second = started("1", &["train", "x.toml"]);
    assert_eq!((second.status, second.stderr.as_str()), (2, ""));
    let tune = started("0", &["tune", "x.toml", "--budget", "1m", "--out", "o"]);
    let expected = "`eigenmix tune` works in one process, and `mpirun` has started several";
    assert!(tune.stderr.contains(expected), "{tune:?}");
}
