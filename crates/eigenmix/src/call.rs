//! One command, called by another program in its own process.

use std::sync::Arc;

use clap::Parser;
use eigenmix_trainer::Processes;
use serde_json::{Map, Value};

use crate::cli::Cli;
use crate::commands;
use crate::console::Console;
use crate::failure::{self, BAD_INPUT, CallError};
use crate::host::Host;
use crate::words::Options;

/// Runs the command `name` and returns what `--json` prints for it, one JSON object.
///
/// - options: by their names (`allow_partial`), without those that are about a terminal; an option that is
///   null has its default
///
/// ```
/// # use std::sync::{Arc, atomic::AtomicBool};
/// # use serde_json::json;
/// struct Quiet(AtomicBool);
/// impl eigenmix_experiment::Listener for Quiet {}
/// impl eigenmix::Host for Quiet {
///     fn stop(&self) -> &AtomicBool {
///         &self.0
///     }
/// }
///
/// let options = json!({ "adapters": ["no/such/adapter"], "out": "shared", "components": 4, "variance": 0.9 });
/// let host = Arc::new(Quiet(AtomicBool::new(false)));
/// let error = eigenmix::call("extract", options.as_object().unwrap(), host).unwrap_err();
/// assert_eq!(error.status, 2);
/// assert_eq!(error.message, "the argument 'components' cannot be used with 'variance'");
/// ```
///
/// # Errors
/// As the command line reports it, with options by their names.
pub fn call(
    name: &str,
    options: &Map<String, Value>,
    host: Arc<dyn Host>,
) -> Result<String, CallError> {
    let bad_input = |message: String| CallError {
        message,
        status: BAD_INPUT,
    };
    let known = Options::of(name).map_err(|error| bad_input(error.to_string()))?;
    let words = known.words(options);
    let words = words.map_err(|error| bad_input(error.to_string()))?;
    let cli = Cli::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        // Behind the first paragraph is how a terminal is used.
        let problem = text.split("\n\n").next().unwrap_or(&text);
        let problem = problem.strip_prefix("error: ").unwrap_or(problem);
        bad_input(known.renamed(problem))
    })?;
    let known = Arc::new(known);
    let console = Console::hosted(host, Arc::clone(&known));
    // Other processes of a launcher call what they like.
    match commands::run(cli, &Processes::alone(), &console) {
        Ok(()) => Ok(console.into_output()),
        Err(error) => {
            let CallError { message, status } = failure::failure(error.as_ref());
            Err(CallError {
                message: known.renamed(&message),
                status,
            })
        }
    }
}
