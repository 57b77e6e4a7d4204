//! `eigenmix init`: a training file for the user's model, data and adapters.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;
use eigenmix_experiment::starter::{
    FoundAdapter, FoundBase, FoundData, StarterFile, Surroundings, adapters_in,
};
use eigenmix_experiment::{BadInput, ConfigFile, SelectRequest, message, select};
use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::{AdapterMethod, DeviceChoice, SelectionOptions, TrainConfig};
use serde::Serialize;

use crate::cli::InitArguments;
use crate::console::Console;
use crate::page_file::require_directory_of;

/// Nothing is computed with larger base models unless it is asked for.
const MOST_PARAMETERS: usize = 1_000_000_000;

/// Of more adapters than these, the best are selected for the task.
const MOST_ADAPTERS: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

pub(crate) fn run(
    arguments: &InitArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    if arguments.out.symlink_metadata().is_ok() && !arguments.force {
        return Err(FileError::AlreadyExists(arguments.out.clone()).into());
    }
    require_directory_of(&arguments.out)?;
    let named = [&arguments.base, &arguments.data];
    let is_open = named.iter().all(|name| name.is_none()) && arguments.adapters.is_empty();
    let around = match is_open {
        true => Surroundings::of(Path::new(".")),
        false => Surroundings::default(),
    };
    let mut result = InitResult::new(&arguments.out);

    let adapters: Vec<String> = match arguments.adapters.is_empty() {
        true => around.adapters.clone(),
        false => {
            let arguments = arguments.adapters.iter();
            arguments
                .flat_map(|argument| adapters_in(argument))
                .collect()
        }
    };
    let base_name = match &arguments.base {
        Some(name) => Some(name.clone()),
        None => result.only("base model", "--base", &around.bases),
    };
    let base_name = base_name.or_else(|| named_by(&adapters));
    let base = match (&base_name, &arguments.base) {
        (Some(name), Some(_)) => Some(FoundBase::open(name)?),
        // The user did not name it, so a failure to open it is not an error.
        (Some(name), None) => match FoundBase::open(name) {
            Ok(base) => Some(base),
            Err(error) => {
                result.found.push(format!("{name}: {}", message(&error)));
                None
            }
        },
        (None, _) => None,
    };
    result.found.extend(base.as_ref().map(FoundBase::summary));

    let data_path = match &arguments.data {
        Some(path) => Some(path.clone()),
        None => result.only("dataset", "--data", &around.data),
    };
    let data = data_path.map(|path| FoundData::look(&path, base.as_ref()));
    let data = data.transpose()?;
    result.found.extend(data.as_ref().map(FoundData::summary));

    let description = base.as_ref().map(|base| &base.description);
    let looked: Vec<FoundAdapter> = adapters
        .iter()
        .map(|name| FoundAdapter::look(name, description))
        .collect();
    result.found.extend(looked.iter().map(line_of));
    let fitting: Vec<&FoundAdapter> = looked
        .iter()
        .filter(|adapter| adapter.problem.is_none())
        .collect();
    let method = method(arguments.method, fitting.len())?;
    let path = arguments.out.to_string_lossy();
    let mut file = StarterFile {
        path: &path,
        base: base.as_ref(),
        base_name: base_name.as_deref(),
        data: data.as_ref(),
        adapters: fitting,
        selected_of: None,
        method,
    };
    select_adapters(&mut file, arguments, device, console)?;
    let text = file.to_string();
    TrainConfig::from_toml(&text).context("the generated file is not a valid training file")?;
    write_file(&arguments.out, text.as_bytes())?;
    result.method = method.name();
    if method.is_on_adapters() {
        let adapters = file.adapters.iter();
        result.adapters = adapters.map(|one| one.name.clone()).collect();
    }
    result.selected_of = file.selected_of;
    result.is_complete = file.is_complete();
    result.guesses = guesses(&text);
    console.result(&result)
}

/// Leaves the adapters that are most worth recycling for the task, if that is asked for, or if there are many
/// and nothing has to be fetched for it.
fn select_adapters(
    file: &mut StarterFile,
    arguments: &InitArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let fitting = file.adapters.len();
    let top = arguments.top.unwrap_or(MOST_ADAPTERS);
    if !file.method.is_on_adapters() {
        return match arguments.top {
            None => Ok(()),
            Some(_) => Err(BadInput(format!(
                "--top chooses among adapters to recycle, and the method is {}; {}",
                file.method.name(),
                match arguments.method {
                    Some(_) => "leave one of the two out",
                    None => "leave it out, or name adapters for this base model with --adapters",
                }
            ))
            .into()),
        };
    }
    let is_here = file.base.is_some_and(|base| {
        Path::new(base.name()).exists() && base.description.parameters < MOST_PARAMETERS
    });
    if fitting <= top.get() || (arguments.top.is_none() && !(is_here && file.is_complete())) {
        return Ok(());
    }
    if !file.is_complete() {
        let problem = "--top needs a base model and data to choose adapters for; name them with --base and --data";
        return Err(BadInput(problem.to_owned()).into());
    }
    let options = SelectionOptions::default();
    let request = SelectRequest {
        adapters: { file.adapters.iter() }
            .map(|adapter| adapter.name.clone())
            .collect(),
        task: ConfigFile::of_text(&arguments.out, &file.to_string(), &[])?,
        options: SelectionOptions {
            top,
            measured: options.measured.max(top),
            ..options
        },
        allow_base_mismatch: true,
    };
    console.note(format!(
        "looking for the best of the {fitting} adapters that fit, at most {top}; --top {fitting} names all"
    ));
    let device = device.open()?.inner();
    let found = match select(&request, &device, console) {
        Ok(found) => found,
        // Nobody asked for it.
        Err(error) if arguments.top.is_none() => {
            console.note(format!(
                "all of the {fitting} adapters that fit are named, because the best of them could not be selected: {}",
                message(&error)
            ));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if found.chosen.is_empty() {
        let none = format!(
            "none of the {fitting} adapters that fit is aligned with what the task asks for"
        );
        if arguments.top.is_some() {
            let problem = format!("{none}; --top {fitting} names all of them");
            return Err(BadInput(problem).into());
        }
        console.note(format!("{none}, so all of them are named"));
        return Ok(());
    }
    file.adapters
        .retain(|adapter| found.chosen.contains(&adapter.name));
    file.selected_of = Some(fitting);
    Ok(())
}

/// The guesses of a file, each with the reason above it.
fn guesses(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let mut guesses = Vec::new();
    while let Some(line) = lines.next() {
        let Some(reason) = line.strip_prefix("# Guessed: ") else {
            continue;
        };
        let setting = lines.clone().find(|line| !line.starts_with('#'));
        guesses.push(format!("{}: {reason}", setting.unwrap_or_default()));
    }
    guesses
}

/// The base model that all adapters name, if they agree.
fn named_by(adapters: &[String]) -> Option<String> {
    let mut names = adapters
        .iter()
        .map(|name| FoundAdapter::look(name, None).base_model);
    let first = names.next()??;
    names
        .all(|name| name.as_ref() == Some(&first))
        .then_some(first)
}

fn method(asked: Option<AdapterMethod>, fitting: usize) -> Result<AdapterMethod, BadInput> {
    match (asked, fitting) {
        (Some(method), 0) if method.is_on_adapters() => Err(BadInput(format!(
            "--method {} needs adapters for this base model, and none were found; name some with --adapters",
            method.name()
        ))),
        (Some(method), _) => Ok(method),
        (None, 0) => Ok(AdapterMethod::Lora),
        (None, _) => Ok(AdapterMethod::Eigenmix),
    }
}

fn line_of(adapter: &FoundAdapter) -> String {
    match &adapter.problem {
        Some(problem) => format!("{}: left out, {problem}", adapter.name),
        None => format!(
            "{}: an adapter of rank {} for {} modules of `{}`",
            adapter.name,
            adapter.rank,
            adapter.modules,
            adapter
                .base_model
                .as_deref()
                .unwrap_or("an unnamed base model")
        ),
    }
}

#[derive(Serialize)]
struct InitResult {
    out: String,
    method: &'static str,
    /// Whether nothing has to be filled in.
    is_complete: bool,
    found: Vec<String>,
    guesses: Vec<String>,
    /// Those that are recycled.
    adapters: Vec<String>,
    /// Out of how many they were selected for the task, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    selected_of: Option<usize>,
}

impl InitResult {
    fn new(out: &Path) -> Self {
        Self {
            out: out.display().to_string(),
            method: "",
            is_complete: false,
            found: Vec::new(),
            guesses: Vec::new(),
            adapters: Vec::new(),
            selected_of: None,
        }
    }

    /// The only one that was found; if there are several, the user has to choose.
    fn only(&mut self, what: &str, flag: &str, names: &[String]) -> Option<String> {
        match names {
            [name] => Some(name.clone()),
            [] => None,
            several => {
                let list = several.join(", ");
                self.found.push(format!(
                    "more than one {what}: {list}; name one with {flag}"
                ));
                None
            }
        }
    }
}

impl fmt::Display for InitResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.found {
            writeln!(formatter, "found    {line}")?;
        }
        for line in &self.guesses {
            writeln!(formatter, "guessed  {line}")?;
        }
        if let Some(of) = self.selected_of {
            let count = self.adapters.len();
            writeln!(
                formatter,
                "selected {count} of {of} adapters, by what the gradient of the task asks for"
            )?;
        }
        let out = &self.out;
        match self.is_complete {
            true => write!(
                formatter,
                "`{out}`: {}; next: eigenmix train {out} --dry-run",
                self.method
            ),
            false => write!(formatter, "`{out}`: a template; fill in what it asks for"),
        }
    }
}
