//! Commands, arguments and flags, with their help.

mod columns;
mod completions;
mod device;
mod experiment;
mod format;
mod generate;
mod gradient;
mod hub;
mod init;
mod merge_search;
mod merging;
mod model;
mod parameter_flags;
mod recycling;
mod select;
mod store;
mod training;
mod training_file;
mod tune;
mod zero_shot;
use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};
use eigenmix_trainer::DeviceChoice;

pub(crate) use columns::{ColumnArguments, changed};
pub(crate) use completions::CompletionsArguments;
pub(crate) use experiment::{FileKind, ReportArguments, RunArguments, SchemaArguments};
pub(crate) use format::FormatArguments;
pub(crate) use generate::GenerateArguments;
pub(crate) use gradient::GradientArguments;
pub(crate) use hub::PushArguments;
pub(crate) use init::InitArguments;
pub(crate) use merge_search::SearchArguments;
pub(crate) use merging::MergeArguments;
pub(crate) use model::{LabelArguments, ModelArguments, no_labels};
pub(crate) use recycling::{ExportArguments, ExtractArguments, InspectArguments, ProjectArguments};
pub(crate) use select::SelectArguments;
pub(crate) use store::{PackArguments, UnpackArguments};
pub(crate) use training::{EvaluateArguments, ForwardArguments, PredictArguments, TrainArguments};
pub(crate) use training_file::TrainingFileArguments;
pub(crate) use tune::TuneArguments;
pub(crate) use zero_shot::ZeroShotArguments;

const OVERVIEW: &str = "\
An ADAPTER is a directory as PEFT or mlx-lm writes it, a .safetensors file of kohya or diffusers
(or a directory with one), a .gguf file, a run of `eigenmix train`, an adapter of a store
(STORE#NAME), or a Hub id (org/name, or org/name@revision). A MODEL is a directory, a .gguf file
or a Hub id.

From published adapters to a new one (`eigenmix init` writes the training file):
  eigenmix extract datasets/quickstart/adapters/* --out shared
  eigenmix init --base datasets/quickstart/base --data datasets/quickstart/tasks/ferry_port \\
      --adapters datasets/quickstart/adapters --out ferry.toml
  eigenmix train ferry.toml --set output=runs/ferry
  eigenmix evaluate --base datasets/quickstart/base --adapter runs/ferry \\
      --data datasets/quickstart/tasks/ferry_port
  eigenmix export runs/ferry --out ferry-lora
  eigenmix push runs/ferry me/ferry-lora

Exit status: 0 on success, 2 for wrong usage or bad input, 1 otherwise.";

/// Recycle LoRA adapters: extract the subspace they share, train in it, merge them.
#[derive(Debug, Parser)]
#[command(name = "eigenmix", version, after_help = OVERVIEW, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Where to run models: `cpu` (this project's kernels), `auto` (a GPU if there is one), or
    /// another backend of this build; `cuda:1` is the second CUDA device.
    #[arg(long, global = true, default_value_t, value_parser = device::parser())]
    pub(crate) device: DeviceChoice,

    /// The number of CPU threads [default: all].
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Print only warnings and errors on standard error.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Print more notes on standard error, and tables by module.
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Print exactly one JSON object on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(InitArguments),
    Extract(ExtractArguments),
    Gradient(GradientArguments),
    Select(SelectArguments),
    Project(ProjectArguments),
    Merge(Box<MergeArguments>),
    Pack(PackArguments),
    Unpack(UnpackArguments),
    Train(TrainArguments),
    Tune(TuneArguments),
    Evaluate(EvaluateArguments),
    Predict(PredictArguments),
    Forward(ForwardArguments),
    Generate(GenerateArguments),
    Export(ExportArguments),
    Inspect(InspectArguments),
    Push(PushArguments),
    Run(RunArguments),
    Report(ReportArguments),
    Schema(SchemaArguments),
    /// Run one cell of an experiment, for `eigenmix run --jobs`.
    #[command(hide = true, after_help = "Example:\n  eigenmix run-cell < cell.json")]
    RunCell,
    Completions(CompletionsArguments),
    /// List the backends of this build and the devices they find.
    #[command(after_help = "Example:\n  eigenmix devices --json")]
    Devices,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_summary_and_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let example = command.get_after_help().map(ToString::to_string);
            let invocation = format!("eigenmix {name}");
            assert!(
                example.is_some_and(|text| text.contains(&invocation)),
                "{name}"
            );
        }
    }

    #[test]
    fn common_flags_may_follow_the_command() {
        let cli = Cli::parse_from(["eigenmix", "inspect", "x", "--json", "--threads", "3"]);
        assert!(cli.common.json);
        assert_eq!(cli.common.threads.map(NonZeroUsize::get), Some(3));
    }
}
