//! `eigenmix select`: which adapters are worth recycling for a task.

use eigenmix_experiment::{BadInput, ConfigFile, SelectRequest, select};
use eigenmix_tensors::write_file;
use eigenmix_trainer::{DeviceChoice, GradientOptions, SelectionOptions};

use crate::cli::SelectArguments;
use crate::console::Console;
use crate::page_file::PageFile;

pub(crate) fn run(
    arguments: &SelectArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let file = |path: &Option<std::path::PathBuf>| {
        let file = path
            .as_deref()
            .map(|path| PageFile::new(path, arguments.force));
        file.transpose()
    };
    let page = file(&arguments.html)?;
    file(&arguments.out)?;
    if arguments.out.is_some() && arguments.out == arguments.html {
        let problem = "--out and --html name the same file; give each its own";
        return Err(BadInput(problem.to_owned()).into());
    }
    let default = SelectionOptions::default();
    let request = SelectRequest {
        adapters: arguments.adapters.clone(),
        task: ConfigFile::read(&arguments.task, &arguments.overrides)?,
        options: SelectionOptions {
            gradient: GradientOptions {
                examples: arguments.examples,
                ..default.gradient
            },
            loss_examples: arguments.loss_examples,
            top: arguments.top,
            // None is chosen without its loss.
            measured: default.measured.max(arguments.top),
        },
        allow_base_mismatch: arguments.allow_base_mismatch,
    };
    let found = select(&request, &device.open()?.inner(), console)?;
    if let Some(path) = &arguments.out {
        write_file(
            path,
            format!("{}\n", serde_json::to_string_pretty(&found)?).as_bytes(),
        )?;
    }
    if let Some(page) = page {
        page.write(&found.page(&format!("Adapters for {}", arguments.task.display())))?;
    }
    console.result(&found)
}
