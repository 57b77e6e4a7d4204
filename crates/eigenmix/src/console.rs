//! Output: results to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use eigenmix_experiment::{self as experiment, Listener};
use eigenmix_trainer::{Observer, Processes};
use serde::Serialize;

use crate::Host;
use crate::cli::Common;
use crate::interruption;
use crate::progress::{Progress, suspend};
use crate::training_display::TrainingDisplay;
use crate::words::Options;

/// The two streams, used according to `--json`, `--quiet` and `--verbose`; or, of a command that a
/// program calls, that program in their place.
#[derive(Clone)]
pub(crate) struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// Whether it is that of a process that leaves everything to the first of several.
    silent: bool,
    /// Whether results and progress are shown here.
    is_first: bool,
    host: Option<Arc<Hosted>>,
}

/// The program that called the command, and what standard output would have got.
struct Hosted {
    host: Arc<dyn Host>,
    /// Whose names it knows, not the flags.
    options: Arc<Options>,
    output: Mutex<String>,
}

impl Hosted {
    fn renamed(&self, words: impl Display) -> String {
        self.options.renamed(&words.to_string())
    }
}

/// Standard output was closed.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct OutputClosed;

impl Console {
    pub(crate) fn new(common: &Common, processes: &Processes) -> Self {
        Self {
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
            silent: !processes.is_first(),
            is_first: processes.is_first(),
            host: None,
        }
    }

    /// The console of a command that `host` calls: results are one JSON object, kept for
    /// [`Console::into_output`], and everything else goes to the host.
    pub(crate) fn hosted(host: Arc<dyn Host>, options: Arc<Options>) -> Self {
        Self {
            json: true,
            quiet: false,
            verbose: false,
            silent: false,
            is_first: true,
            host: Some(Arc::new(Hosted {
                host,
                options,
                output: Mutex::default(),
            })),
        }
    }

    /// What standard output would have got; nothing without a host.
    pub(crate) fn into_output(self) -> String {
        let Some(hosted) = &self.host else {
            return String::new();
        };
        let mut output = hosted.output.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut output)
    }

    /// Shows notes and warnings in every process, each of which has work of its own.
    pub(crate) fn with_notes(self) -> Self {
        Self {
            silent: false,
            ..self
        }
    }

    /// The flag that asks long work to stop after its step: that of Ctrl-C, or of the host.
    ///
    /// # Errors
    /// If Ctrl-C cannot be watched for.
    pub(crate) fn stop(&self, processes: &Processes) -> anyhow::Result<&AtomicBool> {
        match &self.host {
            Some(hosted) => Ok(hosted.host.stop()),
            None => Ok(interruption::flag(processes)?),
        }
    }

    /// Whether to print one JSON object on standard output.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose && !self.silent
    }

    /// Prints the result of the command: as text, or with `--json` as one object.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn result<R: Serialize + Display>(&self, result: &R) -> anyhow::Result<()> {
        if !self.is_first {
            Ok(())
        } else if self.json {
            self.line(&serde_json::to_string(result)?)
        } else {
            self.line(result)
        }
    }

    /// Prints one line on standard output at once, for results that come one by one.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn line(&self, line: &(impl Display + ?Sized)) -> anyhow::Result<()> {
        self.part(format_args!("{line}\n"))
    }

    /// Prints part of a line on standard output at once, for text that is generated token by token.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn part(&self, part: impl Display) -> anyhow::Result<()> {
        if let Some(hosted) = &self.host {
            let mut output = hosted.output.lock();
            let output = output.as_mut().map_err(|_| OutputClosed)?;
            output.push_str(&part.to_string());
            return Ok(());
        }
        let mut stream = io::stdout().lock();
        let written = write!(stream, "{part}").and_then(|()| stream.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => OutputClosed.into(),
            _ => anyhow::Error::new(error).context("cannot write to standard output"),
        })
    }

    /// A note, on standard error; not with `--quiet`.
    pub(crate) fn note(&self, note: impl Display) {
        match &self.host {
            Some(hosted) => hosted.host.note(&hosted.renamed(note)),
            None if self.quiet || self.silent => {}
            None => say(format_args!("{note}")),
        }
    }

    /// A detail, on standard error; only with `--verbose`.
    pub(crate) fn detail(&self, detail: impl Display) {
        match &self.host {
            Some(hosted) => hosted.host.detail(&hosted.renamed(detail)),
            None if self.is_verbose() => say(format_args!("{detail}")),
            None => {}
        }
    }

    /// A warning: the result may not be what is expected. `--quiet` does not hide it.
    pub(crate) fn warn(&self, warning: impl Display) {
        match &self.host {
            Some(hosted) => hosted.host.warn(&hosted.renamed(warning)),
            None if self.silent => {}
            None => say(format_args!("{WARNING}warning:{WARNING:#} {warning}")),
        }
    }

    /// A progress display on standard error for `total` steps, such as `modules`.
    pub(crate) fn progress(&self, action: &str, total: usize, unit: &'static str) -> Progress {
        match &self.host {
            Some(hosted) => Progress::of_host(hosted.host.progress(action, total, unit)),
            None => Progress::new(action, total, unit, self.quiet || !self.is_first),
        }
    }
}

impl Listener for Console {
    fn note(&self, note: &dyn Display) {
        Console::note(self, note);
    }

    fn detail(&self, detail: &dyn Display) {
        Console::detail(self, detail);
    }

    fn warn(&self, warning: &dyn Display) {
        Console::warn(self, warning);
    }

    fn progress(
        &self,
        action: &str,
        total: usize,
        unit: &'static str,
    ) -> Box<dyn experiment::Progress> {
        Box::new(Console::progress(self, action, total, unit))
    }

    fn training<'a>(&'a self, action: &str) -> Box<dyn Observer + 'a> {
        Box::new(TrainingDisplay::new(self, action))
    }
}

/// The style of the word before a warning; the word alone is enough without colours.
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Why a command failed, on standard error.
pub(crate) fn say_error(error: impl Display) {
    say(format_args!("{ERROR}error:{ERROR:#} {error}"));
}

/// If standard error is closed, the message is dropped. Colours only reach a terminal, and not with
/// NO_COLOR.
fn say(words: std::fmt::Arguments<'_>) {
    suspend(|| {
        let _ = writeln!(anstream::stderr().lock(), "{words}");
    });
}
