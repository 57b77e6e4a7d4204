//! An experiment file: the tables of a training file as defaults, `seeds`, and an `[[arm]]` a
//! variant. A plain training file is an experiment with one arm and one seed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};
use trainer::TrainConfig;

use crate::commands::train::resolve;
use crate::failure::BadInput;

/// An experiment, every cell of it resolved.
#[derive(Serialize)]
pub(crate) struct Experiment {
    pub(crate) output: PathBuf,
    pub(crate) arms: Vec<Arm>,
}

/// A variant, once for every seed.
#[derive(Serialize)]
pub(crate) struct Arm {
    pub(crate) name: String,
    pub(crate) cells: Vec<Cell>,
}

/// One training.
#[derive(Serialize)]
pub(crate) struct Cell {
    pub(crate) seed: u64,
    pub(crate) config: TrainConfig,
}

impl Experiment {
    /// Resolves every cell.
    ///
    /// - output: where to write instead of where the file says
    ///
    /// # Errors
    /// If a key is unknown, a value makes no sense, or two arms have the same name.
    pub(crate) fn from_table(mut table: Table, output: Option<&Path>) -> anyhow::Result<Self> {
        let output = match (output, table.remove("output")) {
            (Some(path), _) => path.to_owned(),
            (None, Some(Value::String(path))) => path.into(),
            (None, _) => return Err(bad("`output` must name the directory to write to").into()),
        };
        let seeds = seeds(&mut table)?;
        let arms = match table.remove("arm") {
            None => vec![(method(&table), Table::new())],
            Some(Value::Array(arms)) if !arms.is_empty() => {
                arms.into_iter().map(named_arm).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(bad("`arm` must be tables, each written as [[arm]]").into()),
        };
        let mut resolved: Vec<Arm> = Vec::new();
        for (name, mut changes) in arms {
            if resolved.iter().any(|arm| arm.name == name) {
                return Err(bad(format!("two arms are called `{name}`")).into());
            }
            // An arm may have seeds of its own.
            let seeds = match changes.contains_key("seed") || changes.contains_key("seeds") {
                true => self::seeds(&mut changes)?,
                false => seeds.clone(),
            };
            let mut merged = table.clone();
            overlay(&mut merged, changes);
            let cells = seeds
                .iter()
                .map(|&seed| cell(merged.clone(), &name, seed, &output))
                .collect::<anyhow::Result<_>>()
                .map_err(|error| error.context(format!("arm `{name}`")))?;
            resolved.push(Arm { name, cells });
        }
        Ok(Self {
            output,
            arms: resolved,
        })
    }

    pub(crate) fn cells(&self) -> usize {
        self.arms.iter().map(|arm| arm.cells.len()).sum()
    }
}

/// The plan: what would be trained, and where it would be written.
impl fmt::Display for Experiment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}`: {} trainings",
            self.output.display(),
            self.cells()
        )?;
        for arm in &self.arms {
            for cell in &arm.cells {
                let (adapter, training) = (&cell.config.adapter, &cell.config.training);
                write!(
                    formatter,
                    "\n  {}: {} on {}, {} epochs of batches of {}, learning rate {}",
                    cell.config.output,
                    adapter.method.name(),
                    cell.config.data.path,
                    training.epochs,
                    training.batch_size,
                    training.learning_rate
                )?;
            }
        }
        Ok(())
    }
}

fn bad(problem: impl Into<String>) -> BadInput {
    BadInput(problem.into())
}

fn seeds(table: &mut Table) -> Result<Vec<u64>, BadInput> {
    let wrong = || bad("`seeds` must be a list of whole numbers from 0 on, such as [0, 1, 2]");
    let number = |value: &Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
    let single = table.remove("seed");
    match (table.remove("seeds"), single) {
        (Some(_), Some(_)) => Err(bad("give either `seed` or `seeds`")),
        (None, None) => Ok(vec![0]),
        (None, Some(seed)) => number(&seed).map(|seed| vec![seed]).ok_or_else(wrong),
        (Some(seeds), None) => {
            let seeds: Option<Vec<u64>> = seeds
                .as_array()
                .and_then(|seeds| seeds.iter().map(number).collect());
            seeds.filter(|seeds| !seeds.is_empty()).ok_or_else(wrong)
        }
    }
}

fn named_arm(arm: Value) -> Result<(String, Table), BadInput> {
    let Value::Table(mut arm) = arm else {
        return Err(bad("`arm` must be tables, each written as [[arm]]"));
    };
    let name = match arm.remove("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(bad("the `name` of an arm must be text")),
        None => method(&arm),
    };
    // The name becomes a directory.
    let is_plain = !name.is_empty()
        && !name.starts_with('.')
        && name
            .chars()
            .all(|letter| letter.is_alphanumeric() || "-_.+= ".contains(letter));
    match is_plain {
        true => Ok((name, arm)),
        false => Err(bad(format!(
            "`{name}` is no name for an arm: use letters, digits, - and _"
        ))),
    }
}

/// What an arm without a name is called.
fn method(table: &Table) -> String {
    let method = table
        .get("adapter")
        .and_then(|adapter| adapter.get("method"));
    method
        .and_then(Value::as_str)
        .unwrap_or("training")
        .to_owned()
}

/// Puts `changes` over `table`, table by table.
fn overlay(table: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(Value::Table(inner)), Value::Table(changes)) => overlay(inner, changes),
            (_, change) => {
                table.insert(key, change);
            }
        }
    }
}

fn cell(mut table: Table, arm: &str, seed: u64, output: &Path) -> anyhow::Result<Cell> {
    let directory = output.join(arm).join(format!("seed-{seed}"));
    table.insert("seed".into(), Value::Integer(seed as i64));
    table.insert(
        "output".into(),
        Value::String(directory.display().to_string()),
    );
    Ok(Cell {
        seed,
        config: resolve(table)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        output = "runs/x"
        seeds = [3, 4]
        [base]
        model = "m"
        [data]
        path = "d"
        [adapter]
        method = "lora"
        rank = 8
        [training]
        epochs = 2
        batch_size = 4
        learning_rate = 1e-3
        [[arm]]
        name = "small"
        adapter.rank = 2
        [[arm]]
        adapter = { method = "moslora", mixer = "orthogonal" }
        training.learning_rate = 5e-4
    "#;

    #[test]
    fn an_arm_changes_what_it_names_and_keeps_the_rest() {
        let experiment = Experiment::from_table(FILE.parse().unwrap(), None).unwrap();
        let names: Vec<_> = experiment
            .arms
            .iter()
            .map(|arm| arm.name.as_str())
            .collect();
        assert_eq!(names, ["small", "moslora"]);
        assert_eq!(experiment.cells(), 4);
        let small = &experiment.arms[0].cells[1].config;
        assert_eq!((small.seed, small.adapter.rank), (4, Some(2)));
        assert_eq!(small.output, "runs/x/small/seed-4");
        let mixed = &experiment.arms[1].cells[0].config;
        assert_eq!(
            (mixed.adapter.rank, mixed.training.learning_rate),
            (Some(8), 5e-4)
        );
    }

    #[test]
    fn a_training_file_is_an_experiment_of_one_cell() {
        let mut table: Table = FILE.parse().unwrap();
        table.remove("arm");
        table.remove("seeds");
        let experiment = Experiment::from_table(table, Some(Path::new("elsewhere"))).unwrap();
        assert_eq!(experiment.cells(), 1);
        assert_eq!(
            experiment.arms[0].cells[0].config.output,
            "elsewhere/lora/seed-0"
        );
    }

    #[test]
    fn a_mistake_in_an_arm_names_the_arm() {
        let text = FILE.replace("adapter.rank = 2", "adapter.rnk = 2");
        let Err(error) = Experiment::from_table(text.parse().unwrap(), None) else {
            panic!("an error")
        };
        let message = format!("{error:#}");
        assert!(
            message.contains("small") && message.contains("rnk"),
            "{message}"
        );
    }
}
