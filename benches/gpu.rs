//! What a step of a training asks of a GPU, counted, which needs no GPU: a device in software is enough.
//!
//!     cargo bench --features wgpu --bench gpu -- [--device wgpu] [--layers 2,3] [--batch N] [--length N]
//!         [--vocabulary N] [--uneven] [--dry] [--kernels] [--only causal|classification]
//!
//! For each shape and number of layers, between two logs: kernels launched, values read back and uploaded a
//! step, seconds a step, and what the forward pass keeps on the device for the backward pass. Counts grow
//! linearly with the layers beyond the first and the last, so those of the whole model follow from two smaller
//! ones (`--layers 2,3`, the default, as emulated GPUs are slow); `--layers 0` measures the whole model. Launches
//! do not depend on batch, length and vocabulary as long as texts are not cut into blocks. With `--dry`, kernels
//! of the counted steps are compiled and tuned but not run, which leaves the counts and bytes as they are.

mod counts;
mod shapes;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::cubecl::dry_run::DryRun;
use burn::tensor::{Device, Tensor};
use counts::{Counter, Counts};
use eigenmix_models::{
    Adaptation, Architecture, Batch, Checkpoint, HeadKind, LoadOptions, Loaded, Network,
    TokenBatch, Train,
};
use eigenmix_trainer::{
    DeviceChoice, Observer, Processes, RunOptions, TrainConfig, Training, TrainingPlan,
};
use shapes::{Run, Shape, shapes, word};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps before those that are counted: the first are logged or compile kernels.
const BEFORE: usize = 3;
/// Steps that are counted.
const COUNTED: usize = 2;

struct Options {
    device: DeviceChoice,
    layers: Vec<usize>,
    kernels: bool,
    uneven: bool,
    dry: bool,
    batch: Option<usize>,
    length: Option<usize>,
    vocabulary: Option<usize>,
    only: Option<String>,
}

/// The figures of one number of layers.
#[derive(Clone, Debug)]
struct Figures {
    counts: Counts,
    seconds: f64,
    kept: f64,
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let counter = Counter::install();
    let place = tempfile::tempdir()?;
    println!(
        "| shape | layers | launches a step | read-backs | uploads | bytes uploaded | MB kept | s a step |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|"
    );
    for mut shape in shapes() {
        if options
            .only
            .as_ref()
            .is_some_and(|only| !shape.kind.contains(only.as_str()))
        {
            continue;
        }
        shape.batch = options.batch.unwrap_or(shape.batch);
        shape.length = options.length.unwrap_or(shape.length);
        if let Some(vocabulary) = options.vocabulary {
            shape.config["vocab_size"] = vocabulary.into();
        }
        let all = shape.config["num_hidden_layers"].as_u64().unwrap_or(0) as usize;
        let mut found: Vec<(usize, Figures)> = Vec::new();
        for &layers in &options.layers {
            let layers = if layers == 0 { all } else { layers };
            let mut shape = shape.clone();
            shape.config["num_hidden_layers"] = layers.into();
            let place = place.path().join(format!("{}-{layers}", shape.kind));
            let figures = measure(&place, &shape, &options, &counter)?;
            println!("{}", line(&shape, &layers.to_string(), &figures));
            found.push((layers, figures));
        }
        if let [(fewer, one), (more, other)] = &found[..] {
            let whole = one.extrapolated(other, [*fewer, *more, all]);
            println!("{}", line(&shape, &format!("{all}, by these"), &whole));
        }
    }
    Ok(())
}

fn line(shape: &Shape, layers: &str, figures: &Figures) -> String {
    let Figures {
        counts,
        seconds,
        kept,
    } = figures;
    format!(
        "| {}, {} × {} | {layers} | {:.0} | {:.1} | {:.1} | {:.0} | {:.1} | {seconds:.2} |",
        shape.name,
        shape.batch,
        shape.length,
        counts.launches,
        counts.read_backs,
        counts.uploads,
        counts.bytes_uploaded,
        kept / 1e6,
    )
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            device: "wgpu".parse()?,
            layers: vec![2, 3],
            kernels: false,
            uneven: false,
            dry: false,
            batch: None,
            length: None,
            vocabulary: None,
            only: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or(format!("`{argument}` needs a value"))
            };
            match argument.as_str() {
                "--device" => options.device = value()?.parse()?,
                "--layers" => {
                    let numbers = value()?;
                    let numbers = numbers.split(',').map(str::parse);
                    options.layers = numbers.collect::<std::result::Result<_, _>>()?;
                }
                "--batch" => options.batch = Some(value()?.parse()?),
                "--length" => options.length = Some(value()?.parse()?),
                "--vocabulary" => options.vocabulary = Some(value()?.parse()?),
                "--dry" => options.dry = true,
                "--only" => options.only = Some(value()?),
                "--kernels" => options.kernels = true,
                "--uneven" => options.uneven = true,
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("`{other}` is no option").into()),
            }
        }
        Ok(options)
    }
}

impl Figures {
    /// Those of `all` layers, on the line through those of `fewer` and `more`.
    fn extrapolated(&self, other: &Self, [fewer, more, all]: [usize; 3]) -> Self {
        let share = (all as f64 - fewer as f64) / (more as f64 - fewer as f64);
        let along = |one: f64, other: f64| one + (other - one) * share;
        let (one, two) = (&self.counts, &other.counts);
        Self {
            counts: Counts {
                launches: along(one.launches, two.launches),
                read_backs: along(one.read_backs, two.read_backs),
                uploads: along(one.uploads, two.uploads),
                bytes_uploaded: along(one.bytes_uploaded, two.bytes_uploaded),
            },
            seconds: along(self.seconds, other.seconds),
            kept: along(self.kept, other.kept),
        }
    }
}

fn measure(
    place: &Path,
    shape: &Shape,
    options: &Options,
    counter: &Arc<Counter>,
) -> Result<Figures> {
    std::fs::create_dir_all(place)?;
    let lengths = match options.uneven {
        true => vec![shape.length, shape.length * 3 / 4, shape.length / 2 + 3],
        false => vec![shape.length],
    };
    let written = shape.write(place, &lengths, BEFORE + COUNTED + 1)?;
    let base = place.join("base");
    let config = shape.training_file(&Run {
        output: &base,
        model: &written.model,
        base: "from_scratch = true",
        data: &written.data,
        method: "full",
        adapter: "",
        epochs: 1,
        log_every: 1,
        training: "max_steps = 1",
    });
    train(&config, DeviceChoice::default(), &mut Silent)?;
    let model = base.join("model");
    let adapter = format!("rank = 8\nalpha = 16\ntarget_modules = {}", shape.targets);
    let config = shape.training_file(&Run {
        output: &place.join("run"),
        model: &model,
        base: "",
        data: &written.data,
        method: "lora",
        adapter: &adapter,
        epochs: 1,
        log_every: 100,
        training: "",
    });
    let mut watch = Watch {
        counter: counter.clone(),
        device: options.device.open()?,
        started: Instant::now(),
        found: None,
        kernels: options.kernels,
        dry: options.dry,
        dry_run: None,
    };
    train(&config, options.device, &mut watch)?;
    drop(watch.dry_run.take());
    let (counts, seconds) = watch.found.ok_or("too few steps")?;
    let _dry_run = options.dry.then(DryRun::new);
    let kept = kept(shape, &model, &lengths, &options.device.open()?)?;
    Ok(Figures {
        counts,
        seconds,
        kept,
    })
}

fn train(config: &str, device: DeviceChoice, observer: &mut dyn Observer) -> Result<()> {
    let mut training = Training::prepare(TrainConfig::from_toml(config)?)?;
    let options = RunOptions {
        device: device.open()?,
        resume: false,
        force: false,
        stop: &AtomicBool::new(false),
        processes: &Processes::alone(),
    };
    training.run(&options, observer)?;
    Ok(())
}

struct Silent;

impl Observer for Silent {}

/// Counts the steps after the first ones.
struct Watch {
    counter: Arc<Counter>,
    device: Device,
    started: Instant,
    found: Option<(Counts, f64)>,
    kernels: bool,
    dry: bool,
    dry_run: Option<DryRun>,
}

impl Observer for Watch {
    fn started(&mut self, plan: &TrainingPlan) {
        let trained = plan.adapter_parameters;
        eprintln!("{trained} parameters in {} modules", plan.adapted_modules);
    }

    fn stepped(&mut self, step: usize) {
        // What was asked for has to be done before it counts.
        self.device.sync().expect("the device");
        if step == 1 && self.dry {
            self.dry_run = Some(DryRun::new());
        }
        if step == BEFORE {
            self.counter.start();
            self.started = Instant::now();
        }
        if step == BEFORE + COUNTED {
            let seconds = self.started.elapsed().as_secs_f64() / COUNTED as f64;
            self.found = Some((self.counter.counts(COUNTED), seconds));
            if self.kernels {
                for (kernel, count) in self.counter.kernels() {
                    eprintln!("{:8.1} {kernel}", count as f64 / COUNTED as f64);
                }
                self.counter.uploaded_shapes();
            }
        }
    }
}

/// How many bytes the device holds after a forward pass that it did not hold before.
fn kept(shape: &Shape, model: &Path, lengths: &[usize], device: &Device) -> Result<f64> {
    let checkpoint = Checkpoint::open(model)?;
    let architecture = Architecture::from_json(checkpoint.config(), checkpoint.path())?;
    let head = match shape.kind {
        "causal-lm" => HeadKind::LanguageModel,
        _ => HeadKind::Classification { labels: 15 },
    };
    let mut adaptation = Adaptation::default();
    for layer in &architecture.describe(head)?.layers {
        let name = layer.path.rsplit('.').next().unwrap_or_default();
        let is_meant = match head {
            HeadKind::LanguageModel => name != "lm_head",
            _ => shape.targets.contains(&format!("\"{name}\"")),
        };
        if is_meant {
            let size = [layer.d_out, layer.d_in];
            let update = eigenmix_moslora::lora(&layer.path, 5, size, 8, 2.0, 0.0);
            adaptation.updates.insert(layer.path.clone(), update);
        }
    }
    let loading = LoadOptions {
        head,
        adaptation: &adaptation,
        train: Train::Head,
        dropout: 0.0,
        seed: 3,
    };
    let device = device.clone().autodiff();
    let Loaded { model, .. } = Network::load(&checkpoint, &architecture, &loading, &device)?;
    let vocabulary = shape.config["vocab_size"].as_u64().unwrap_or_default() as usize;
    let texts: Vec<Vec<u32>> = (0..shape.batch)
        .map(|row| {
            let places = 0..lengths[row % lengths.len()];
            places
                .map(|place| word(row, place, vocabulary) as u32)
                .collect()
        })
        .collect();
    let batch = Batch::from(TokenBatch::continuing(&texts, &vec![0; texts.len()]));
    // Tables of the batch are made in the first pass and stay.
    let loss = loss_of(&model, head, &texts, &batch, &device);
    let in_use = || -> Result<f64> {
        device.sync()?;
        let usage = device
            .memory_pool_usage()
            .ok_or("the device does not tell its memory")?;
        Ok(usage.bytes_in_use as f64)
    };
    drop(loss.backward());
    let before = in_use()?;
    let loss = loss_of(&model, head, &texts, &batch, &device);
    let kept = in_use()? - before;
    drop(loss.backward());
    Ok(kept)
}

fn loss_of(
    model: &Network,
    head: HeadKind,
    texts: &[Vec<u32>],
    batch: &Batch,
    device: &Device,
) -> Tensor<1> {
    let hidden = model.hidden_states(batch, device);
    if !matches!(head, HeadKind::LanguageModel) {
        return model.logits(hidden).square().mean();
    }
    let (mut rows, mut targets, mut first) = (Vec::new(), Vec::new(), 0);
    for text in texts {
        for (place, &next) in text[1..].iter().enumerate() {
            rows.push((first + place) as i32);
            targets.push(next as i32);
        }
        first += text.len();
    }
    model.next_token_loss(hidden, &rows, &targets, 0.0)
}

/// By name, most frequent first.
fn sorted(kernels: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    let mut kernels: Vec<_> = kernels.clone().into_iter().collect();
    kernels.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    kernels
}
