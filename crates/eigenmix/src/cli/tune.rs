//! The command that chooses the settings of a training by measuring.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::TrainingFileArguments;

/// Choose the settings of a training by measuring, within a budget of time.
///
/// Reads a training file and tries changes of it: learning rate, gradient, start, components, epochs,
/// method. All are measured a little, the better half some more, and so on: on the validation split if
/// there is one, otherwise on folds of the training rows. A change is only taken if it beats the file
/// itself by more than the spread of the measurements. The winner is trained on all rows. The test split
/// has no part in the choice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix tune ferry.toml --budget 3m --out ferry-tuned
  eigenmix tune ferry.toml --out ferry-tuned --parameters 7000 --folds 4
  eigenmix train ferry-tuned/winner.toml --set output=again")]
pub(crate) struct TuneArguments {
    #[command(flatten)]
    pub(crate) file: TrainingFileArguments,

    /// Where to write the report, the winner's file and its run: a new directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The time for all of it, such as 90s, 10m or 2h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) budget: Duration,

    /// Measure on so many folds of the training rows, even if there is a validation split.
    #[arg(long, value_name = "N")]
    pub(crate) folds: Option<usize>,

    /// Only try what trains at most so many parameters of the adapter.
    #[arg(long, value_name = "N")]
    pub(crate) parameters: Option<u64>,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// A number with a unit: seconds, minutes or hours.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with a unit, such as 90s, 10m or 2h".to_owned();
    let (number, seconds) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let seconds = |text| duration(text).map(|time| time.as_secs_f64());
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("1.5m"), Ok(90.0));
        assert_eq!(seconds("2h"), Ok(7200.0));
        for wrong in ["", "10", "m", "0s", "-3m", "3d", "NaNs", "1e300h", "3µ"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
