//! `eigenmix gradient`: the gradient of a task as an adapter.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use eigenmix_experiment::Destination;
use eigenmix_trainer::{
    DeviceChoice, GradientOptions, ModuleGradient, NetworkTraining, TaskGradient, TaskKind,
};
use serde::Serialize;

use crate::cli::GradientArguments;
use crate::console::Console;
use crate::layer_table::LayerTable;

pub(crate) fn run(
    arguments: &GradientArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let config = arguments.file.read()?.train_config()?;
    destination.keep_apart_from_training(&arguments.file.config, &config)?;
    let fits_head = !matches!(
        config.task.kind,
        TaskKind::CausalLm | TaskKind::VisionLanguage
    );
    let training = NetworkTraining::prepare(config)?;
    training.notes().for_each(|note| console.note(note));
    let options = GradientOptions {
        rank: arguments.rank,
        examples: arguments.examples,
    };
    let started = Instant::now();
    let work = training.gradient_work(&options);
    let progress = console.progress("gradient", work, "examples");
    let advance = |count| (0..count).for_each(|_| progress.advance());
    let gradient = training.gradient(&options, &device.open()?.inner(), &advance)?;
    drop(progress);
    let companions = training.text_companions()?;
    let (path, force) = (destination.path(), destination.force());
    training.save_gradient(&gradient, &options, path, companions, force)?;
    console.result(&GradientResult {
        fits_head,
        ..GradientResult::new(arguments, &gradient, started)
    })
}

#[derive(Serialize)]
struct GradientResult<'a> {
    out: String,
    examples: usize,
    /// The mean loss, of a classifier under the fitted head.
    loss: f64,
    /// Whether a head was fitted for it.
    #[serde(skip)]
    fits_head: bool,
    /// How far two halves of the examples agree.
    agreement: f64,
    modules: BTreeMap<&'a str, ModuleResult<'a>>,
    parameters: usize,
    seconds: f64,
}

#[derive(Serialize)]
struct ModuleResult<'a> {
    /// The singular values that are kept.
    values: &'a [f64],
    /// ‖G‖, estimated.
    norm: f64,
    /// The share of ‖G‖² that is kept.
    kept: f64,
    agreement: f64,
}

impl<'a> GradientResult<'a> {
    fn new(arguments: &GradientArguments, gradient: &'a TaskGradient, started: Instant) -> Self {
        let module = |(path, module): (&'a String, &'a ModuleGradient)| {
            let result = ModuleResult {
                values: &module.values,
                norm: module.energy.sqrt(),
                kept: module.kept(),
                agreement: module.agreement,
            };
            (path.as_str(), result)
        };
        Self {
            out: arguments.out.display().to_string(),
            examples: gradient.examples,
            loss: gradient.loss,
            fits_head: false,
            agreement: gradient.agreement(),
            modules: gradient.modules.iter().map(module).collect(),
            parameters: gradient.adapter.parameter_count(),
            seconds: started.elapsed().as_secs_f64(),
        }
    }
}

impl fmt::Display for GradientResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_modules = |value: fn(&ModuleResult) -> f64| -> BTreeMap<String, f64> {
            let modules = self.modules.iter();
            modules
                .map(|(path, module)| ((*path).to_owned(), value(module)))
                .collect()
        };
        write!(
            formatter,
            "`{}`: the gradient over {} examples, in {:.1} s\n  loss       {:.4} {}\n  agreement  {:.4} between two halves of the examples\n  size       {} parameters\n  share of ‖G‖² that is kept, by layer:\n\n{}",
            self.out,
            self.examples,
            self.seconds,
            self.loss,
            match self.fits_head {
                true => "under a head fitted on frozen features",
                false => "of the base model as it is",
            },
            self.agreement,
            self.parameters,
            LayerTable::new(&of_modules(|module| module.kept), |kept| format!(
                "{kept:.3}"
            ))
        )
    }
}
