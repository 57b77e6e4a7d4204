//! The commands on experiments.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::overrides::Override;

/// Run an experiment: its stages, then arms × seeds × values, and compare the arms in one report.
///
/// What is finished is not done again, and what was interrupted goes on; a cell that fails is
/// reported, and the others are run all the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix run configs/clinc150.toml
  eigenmix run configs/clinc150.toml --set training.epochs=1 --out runs/quick --jobs 2
  eigenmix run configs/clinc150.toml --shard 3/8")]
pub(crate) struct RunArguments {
    /// The experiment, a TOML file with `seeds` and an [[arm]] a variant; or a training file.
    #[arg(
        value_name = "EXPERIMENT.toml",
        default_value = "configs/quickstart.toml"
    )]
    pub(crate) experiment: PathBuf,

    /// Override a key of the defaults; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// Where to write the runs and the report, instead of where the file says.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Only check the file and show what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many cells to run at once, each in a process of its own with its part of the threads.
    #[arg(long, short, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Run only the I-th of N parts of the cells, from 1/N to N/N, as for a job array; every part
    /// makes the stages it needs, and `eigenmix report` collects the parts.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,

    /// Start every stage and every cell anew, whatever is finished or begun.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Write the report of an experiment from what is finished of it.
///
/// Several directories are those of one experiment whose parts were run on different machines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix report runs/clinc150
  eigenmix report from-node-1/clinc150 from-node-2/clinc150 --out runs/clinc150-report")]
pub(crate) struct ReportArguments {
    /// The directory that `eigenmix run` wrote to.
    #[arg(required = true, value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,

    /// Where to write the report [default: the first DIR].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Print the JSON schema of training or experiment files, with which editors complete their keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  eigenmix schema experiment > experiment.schema.json

An editor with a TOML language server (Taplo, Even Better TOML) uses it once the first line of the
file says so: #:schema ./experiment.schema.json")]
pub(crate) struct SchemaArguments {
    /// The kind of file.
    #[arg(value_enum)]
    pub(crate) kind: FileKind,
}

/// A kind of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileKind {
    Training,
    Experiment,
}

/// One of several parts of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Which one, from 0.
    index: usize,
    count: NonZeroUsize,
}

impl Shard {
    /// Every `count`-th item, so that all parts take about as long.
    pub(crate) fn part_of<T: Copy>(self, items: &[T]) -> Vec<T> {
        let own = items.iter().skip(self.index).step_by(self.count.get());
        own.copied().collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let number = |text: &str| text.trim().parse::<NonZeroUsize>().ok();
        let numbers = parts.and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match numbers {
            Some((index, count)) if index <= count => Ok(Self {
                index: index.get() - 1,
                count,
            }),
            _ => Err("expected I/N, from 1/N to N/N, such as 3/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_together_are_everything_once() {
        let items: Vec<usize> = (0..11).collect();
        let part = |text: &str| text.parse::<Shard>().unwrap().part_of(&items);
        assert_eq!(part("2/4"), [1, 5, 9]);
        let mut all = [part("1/4"), part("2/4"), part("3/4"), part("4/4")].concat();
        all.sort_unstable();
        assert_eq!(all, items);
        assert_eq!(part("1/1"), items);
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for text in ["0/4", "5/4", "4", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
