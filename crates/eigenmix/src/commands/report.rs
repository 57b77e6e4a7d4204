//! `eigenmix report`: the comparison of an experiment's arms, from its finished cells.

use eigenmix_experiment::BadInput;
use eigenmix_experiment::ExperimentPlan;

use crate::cli::ReportArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &ReportArguments, console: &Console) -> anyhow::Result<()> {
    let directories = &arguments.directories;
    let Some(first) = directories.first() else {
        return Err(BadInput("name the directory of an experiment".to_owned()).into());
    };
    let plan = ExperimentPlan::read(first)?;
    for other in &directories[1..] {
        if !ExperimentPlan::read(other)?.has_same_cells(&plan) {
            let problem = format!(
                "`{}` and `{}` are different experiments: their arms or seeds differ",
                first.display(),
                other.display()
            );
            return Err(BadInput(problem).into());
        }
    }
    let (cells, finished) = plan.progress(directories)?;
    if finished < cells {
        console.note(format_args!("{finished} of {cells} cells are finished"));
    }
    let out = arguments.out.as_ref().unwrap_or(first);
    let collected = plan.collect(directories)?;
    std::fs::create_dir_all(out).map_err(eigenmix_tensors::FileError::io("create", out))?;
    collected.write(out)?;
    console.result(&collected)
}
