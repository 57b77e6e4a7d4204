//! An experiment file: the tables of a training file as defaults, stages that are made first,
//! `seeds`, lists of values, and one `[[arm]]` per variant. A plain training file is an experiment
//! with one arm and one seed.

mod cell;
mod control;
mod input_check;
mod naming;
mod reader;
mod reference;
#[cfg(test)]
mod refusal_tests;
mod schema;
mod seeds;
mod shard;
mod sharing;
mod stage;
mod unread_keys;
mod variation;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use cell::{Cell, EvaluationConfig, Work};
pub use input_check::InputCheck;
pub use reference::StageKind;
pub use schema::schema;
pub use shard::Shard;
pub use sharing::Sharing;
pub use stage::Stage;

use crate::ExperimentError;
use crate::config_file::ConfigFile;

/// An experiment, every cell of it resolved.
#[derive(Serialize)]
pub struct Experiment {
    pub output: PathBuf,
    /// What several processes share.
    pub processes: Sharing,
    /// In the order in which they are made.
    pub stages: Vec<Stage>,
    pub arms: Vec<Arm>,
}

/// A variant, run once per seed.
#[derive(Serialize)]
pub struct Arm {
    pub name: String,
    pub cells: Vec<Cell>,
    /// The arm that this one is the control of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_of: Option<String>,
}

impl Experiment {
    /// Resolves every stage and every cell.
    ///
    /// - output: the output directory, instead of that of the file
    ///
    /// # Errors
    /// With all problems of the file.
    pub fn from_file(
        file: &ConfigFile,
        output: Option<&Path>,
        inputs: InputCheck,
    ) -> Result<Self, ExperimentError> {
        reader::read(file, output, inputs).map_err(|problems| file.error(problems).into())
    }

    /// Keeps only the cells of a shard, and of the arms those that have any.
    pub fn keep(&mut self, shard: Shard) {
        let names: Vec<&str> = self.cells().map(|cell| cell.name.as_str()).collect();
        let kept: HashSet<String> = shard
            .part_of(&names)
            .into_iter()
            .map(str::to_owned)
            .collect();
        for arm in &mut self.arms {
            arm.cells.retain(|cell| kept.contains(&cell.name));
        }
        self.arms.retain(|arm| !arm.cells.is_empty());
    }

    /// All cells, arm by arm.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.arms.iter().flat_map(|arm| &arm.cells)
    }
}

/// The plan: what would be made, and where it would be written.
impl fmt::Display for Experiment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = self.output.display();
        let count = self.cells().count();
        write!(
            formatter,
            "`{output}`: {} stages, {count} cells",
            self.stages.len()
        )?;
        for stage in &self.stages {
            write!(formatter, "\n  {stage}")?;
        }
        for cell in self.cells() {
            write!(formatter, "\n  {cell}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const FILE: &str = r#"
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

    pub(super) fn read(text: &str) -> Result<Experiment, ExperimentError> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        Experiment::from_file(&ConfigFile::read(&path, &[])?, None, InputCheck::Skipped)
    }

    fn names(experiment: &Experiment) -> Vec<&str> {
        experiment.cells().map(|cell| cell.name.as_str()).collect()
    }

    fn training(cell: &Cell) -> &eigenmix_trainer::TrainConfig {
        let Work::Train(config) = &cell.work else {
            panic!("a training")
        };
        config
    }

    /// The lines of the error, without the file's name.
    pub(super) fn mistakes(text: &str) -> Vec<String> {
        let Err(error) = read(text) else {
            panic!("an error")
        };
        let error = error.to_string();
        let lines = error.lines().filter_map(|line| line.split_once("x.toml:"));
        lines.map(|(_, line)| line.to_owned()).collect()
    }

    #[test]
    fn an_arm_changes_what_it_names_and_keeps_the_rest() {
        let experiment = read(FILE).unwrap();
        assert_eq!(
            names(&experiment),
            [
                "small/seed-3",
                "small/seed-4",
                "moslora/seed-3",
                "moslora/seed-4"
            ]
        );
        let small = training(&experiment.arms[0].cells[1]);
        assert_eq!((small.seed, small.adapter.rank), (4, Some(2)));
        assert_eq!(small.output, "runs/x/small/seed-4");
        let mixed = training(&experiment.arms[1].cells[0]);
        assert_eq!(
            (mixed.adapter.rank, mixed.training.learning_rate),
            (Some(8), 5e-4)
        );
    }

    #[test]
    fn a_training_file_is_an_experiment_of_one_cell() {
        let text = FILE
            .split("[[arm]]")
            .next()
            .unwrap()
            .replace("seeds = [3, 4]", "");
        assert_eq!(names(&read(&text).unwrap()), ["lora/seed-0"]);
    }

    #[test]
    fn lists_of_values_make_a_variant_of_every_arm_for_each() {
        let text = format!("vary.data.examples_per_class = ['all', 5]\n{FILE}");
        let experiment = read(&text).unwrap();
        let arms: Vec<_> = experiment
            .arms
            .iter()
            .map(|arm| arm.name.as_str())
            .collect();
        assert_eq!(
            arms[..2],
            [
                "small, examples_per_class=all",
                "small, examples_per_class=5"
            ]
        );
        assert_eq!(arms.len(), 4);
        let few = &experiment.arms[1].cells[0];
        assert_eq!(few.name, "small/examples_per_class=5/seed-3");
        assert_eq!(training(few).data.examples_per_class, Some(5));
    }

    #[test]
    fn stages_are_made_before_the_arms_that_refer_to_them() {
        let text = format!(
            "{FILE}
            [[train]]
            name = 'source'
            data.path = 'other'
            [[extract]]
            name = 'shared'
            adapters = ['train:source', 'some/where']
            [[merge]]
            name = 'both'
            adapters = ['train:source', 'some/where']
            space = 'core'
            method = 'tsv'
            [[arm]]
            name = 'recycled'
            adapter = {{ method = 'eigenmix', subspace = 'extract:shared', init = 'project:merge:both' }}
            [[arm]]
            name = 'merged'
            evaluate = 'merge:both'
            head = 'train:source'"
        );
        let experiment = read(&text).unwrap();
        let stages: Vec<_> = experiment.stages.iter().map(Stage::kind).collect();
        assert_eq!(
            stages,
            [StageKind::Train, StageKind::Extract, StageKind::Merge]
        );
        let Stage::Extract { request, .. } = &experiment.stages[1] else {
            panic!("an extraction")
        };
        assert_eq!(
            request.adapters,
            ["runs/x/train/source/adapter", "some/where"]
        );
        let recycled = training(&experiment.arms[2].cells[0]);
        assert_eq!(
            recycled.adapter.subspace.as_deref(),
            Some("runs/x/extract/shared")
        );
        let init = String::from(recycled.adapter.init());
        assert_eq!(init, "project:runs/x/merge/both");
        let merged = &experiment.arms[3].cells;
        assert_eq!(merged.len(), 1, "an evaluation draws nothing");
        let Work::Evaluate(evaluation) = &merged[0].work else {
            panic!("an evaluation")
        };
        assert_eq!(evaluation.evaluate, "runs/x/merge/both");
        assert_eq!(evaluation.data.path, "d");
    }

    #[test]
    fn mistakes_in_different_places_are_reported_at_once_with_their_lines() {
        let text = FILE
            .replace("seeds = [3, 4]", "sedes = [3, 4]")
            .replace("epochs = 2", "epochs = \"two\"")
            .replace("adapter.rank = 2", "adapter.rank = 0")
            .replace("mixer = \"orthogonal\"", "mixer = \"ortogonal\"")
            .replace("5e-4", "-5e-4");
        let found = mistakes(&text);
        let expected = [
            "3: `sedes` is unknown; did you mean `seeds`?",
            "12: `training.epochs` must be a whole number, found \"two\"",
            "17: `arm[0].adapter.rank` must be at least 1, found 0",
            "19: `arm[1].adapter.mixer` cannot be \"ortogonal\"; did you mean `orthogonal`?",
            "20: `arm[1].training.learning_rate` must be above 0, found -0.0005",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_an_arm_lacks_is_reported_at_the_arm() {
        let text = FILE.replace("method = \"lora\"\n        rank = 8", "alpha = 8");
        let found = mistakes(&text);
        assert_eq!(
            found,
            [
                "16: `adapter.method` is missing",
                "18: `adapter.rank` does not work with method `moslora`: a rank of at least 1 is required"
            ]
        );
    }

    #[test]
    fn the_data_of_a_searched_merge_are_assigned_by_the_names_of_stages() {
        let file = |data: &str| {
            let stage = |name: &str| format!("[[train]]\nname = '{name}'\n");
            let merge = "[[merge]]\nname = 'both'\nadapters = ['train:gym', 'train:library']\n\
                space = 'core'\nmethod = 'ties'\n[merge.search]\nbase = 'm'\n";
            let stages = [stage("gym"), stage("library"), merge.to_owned()].concat();
            format!("{FILE}\n{stages}data = {data}\n")
        };
        assert!(read(&file("['library=l', 'gym=g']")).is_ok());
        let found = mistakes(&file("['gym=g', 'bakery=b']"));
        let expected = "33: bakery=b in `search.data`: no adapter is called `bakery`; there are `gym`, `library`";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_reference_to_nothing_and_a_name_that_is_taken_are_reported() {
        let text = format!("{FILE}\n[[arm]]\nname = 'small'\nadapter.subspace = 'extract:x'");
        let found = mistakes(&text).join("\n");
        assert!(found.contains("23: two arms are called `small`"), "{found}");
        assert!(
            found.contains("24: `adapter.subspace`: no [[extract]] is called `x`"),
            "{found}"
        );
        let text = FILE.replace("\"small\"", "\"a/b\"");
        let found = mistakes(&text).join("\n");
        assert!(found.contains("16: `a/b` is not a valid name"), "{found}");
    }
}
