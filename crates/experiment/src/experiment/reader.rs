//! From the tables of an experiment file to its stages and cells, or to a list of all problems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::input_check::{InputCheck, missing_inputs};
use super::naming::{as_directory_name, default_name, free_name, is_name};
use super::reference::{References, StageKind};
use super::schema::{TABLES, schema};
use super::seeds::{has_seeds, seeds_of};
use super::unread_keys::{remove_unread_lists, unread_keys};
use super::variation::{Combination, combinations};
use super::{Arm, Cell, EvaluationConfig, Experiment, Stage, Work};
use crate::config_file::{ConfigFile, KeyPath, Problem, Schema, train_config};
use crate::extract::ExtractRequest;
use crate::merge::MergeRequest;

/// Directories below the output that are not arms.
const TAKEN: [&str; 4] = ["train", "extract", "merge", "failures"];

pub(super) fn read(
    file: &ConfigFile,
    output: Option<&Path>,
    inputs: InputCheck,
) -> Result<Experiment, Vec<Problem>> {
    let given = output.or_else(|| Some(Path::new(file.table().get("output")?.as_str()?)));
    let mut problems = schema().check(file.root());
    if given.is_none() {
        let message = "`output` must name the directory to write to";
        problems.push(Problem::new(KeyPath::dotted("output"), message));
    }
    let mut reader = Reader {
        file,
        inputs,
        output: given.unwrap_or(Path::new("output")).to_owned(),
        schema_problems: problems
            .iter()
            .map(|problem| problem.path.clone())
            .collect(),
        problems,
    };
    let (stages, arms) = (reader.stages(), reader.arms());
    let processes = file.table().get("processes");
    // Whatever else is there, the schema has refused.
    let processes = processes.and_then(|value| value.clone().try_into().ok());
    match reader.problems.is_empty() {
        true => Ok(Experiment {
            output: reader.output,
            processes: processes.unwrap_or_default(),
            stages,
            arms,
        }),
        false => Err(reader.problems),
    }
}

struct Reader<'a> {
    file: &'a ConfigFile,
    inputs: InputCheck,
    output: PathBuf,
    /// Schema violations already found, not to be reported again for the parts.
    schema_problems: BTreeSet<KeyPath>,
    problems: Vec<Problem>,
}

/// A table of the list `[[KIND]]`, and its place in the file.
struct Entry<'a> {
    place: KeyPath,
    table: &'a Table,
}

impl<'a> Reader<'a> {
    fn add_problem(&mut self, problem: Problem) {
        let is_known =
            self.schema_problems.contains(&problem.path) || self.problems.contains(&problem);
        if !is_known {
            self.problems.push(problem);
        }
    }

    fn entries(&self, list: &str) -> Vec<Entry<'a>> {
        let found = self.file.table().get(list).and_then(Value::as_array);
        let place = KeyPath::dotted(list);
        let tables = found.into_iter().flatten().enumerate();
        let entry = |(index, value): (usize, &'a Value)| {
            let place = place.index(index);
            Some(Entry {
                place,
                table: value.as_table()?,
            })
        };
        tables.filter_map(entry).collect()
    }

    /// The tables of a training as the file gives them for every arm.
    fn defaults(&self) -> Table {
        let table = self.file.table().iter();
        let own = table.filter(|(key, _)| TABLES.contains(&key.as_str()));
        own.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn stages(&mut self) -> Vec<Stage> {
        let mut stages = Vec::new();
        for kind in StageKind::ALL {
            let mut names = BTreeSet::new();
            for entry in self.entries(kind.name()) {
                let name = entry.table.get("name").and_then(Value::as_str);
                let name = name.unwrap_or("unnamed").to_owned();
                self.check_name(&name, &entry.place);
                if !names.insert(name.clone()) {
                    let message = format!("two [[{}]] are called `{name}`", kind.name());
                    self.add_problem(Problem::new(entry.place.key("name"), message));
                }
                stages.extend(self.stage(kind, name, &entry));
            }
        }
        stages
    }

    fn stage(&mut self, kind: StageKind, name: String, entry: &Entry) -> Option<Stage> {
        let directory = self.output.join(kind.name()).join(&name);
        if kind == StageKind::Train {
            let seed = self.seeds(entry.table, &entry.place)?.first().copied()?;
            let mut table = self.defaults();
            overlay(&mut table, tables_of(entry.table));
            let cell = Cell {
                name: format!("train/{name}"),
                seed,
                work: self.training(table, seed, &directory, entry, &Combination::default())?,
            };
            return Some(Stage::Train { name, cell });
        }
        let mut table = entry.table.clone();
        table.remove("name");
        let (table, mut problems) = self.references().resolve(table);
        problems.extend(self.missing(&Value::Table(table.clone())));
        for problem in problems {
            self.add_problem(Problem::new(
                problem.path.below(&entry.place),
                problem.message,
            ));
        }
        if kind == StageKind::Extract {
            let mut request: ExtractRequest = self.request(table, &entry.place)?;
            request.out = directory;
            if let Err(error) = request.options() {
                self.add_problem(Problem::new(entry.place.clone(), error.to_string()));
            }
            return Some(Stage::Extract { name, request });
        }
        let mut request: Box<MergeRequest> = self.request(table, &entry.place)?;
        request.out = directory;
        if let Err((key, error)) = request.check() {
            let place = match key {
                Some(key) => KeyPath::dotted(key).below(&entry.place),
                None => entry.place.clone(),
            };
            self.add_problem(Problem::new(place, error.to_string()));
        }
        Some(Stage::Merge { name, request })
    }

    fn request<T: DeserializeOwned>(&mut self, table: Table, place: &KeyPath) -> Option<T> {
        match table.try_into() {
            Ok(request) => Some(request),
            Err(error) => {
                // If the schema check already reported a problem here, this error is the same one.
                if !self
                    .schema_problems
                    .iter()
                    .any(|path| path.starts_with(place))
                {
                    let message = error.message().to_owned();
                    self.add_problem(Problem::new(place.clone(), message));
                }
                None
            }
        }
    }

    fn references(&self) -> References<'_> {
        let of = |kind: StageKind| {
            let entries = self.entries(kind.name()).into_iter();
            entries.filter_map(move |entry| {
                let name = entry.table.get("name")?.as_str()?;
                Some((kind, name.to_owned()))
            })
        };
        References {
            output: &self.output,
            names: StageKind::ALL.into_iter().flat_map(of).collect(),
        }
    }

    fn arms(&mut self) -> Vec<Arm> {
        let entries = self.entries("arm");
        let empty = Table::new();
        let entries = match entries.is_empty() {
            // The defaults alone are the training.
            true => vec![Entry {
                place: KeyPath::default(),
                table: &empty,
            }],
            false => entries,
        };
        let mut names = BTreeSet::new();
        let mut arms = Vec::new();
        for entry in &entries {
            let mut table = self.defaults();
            overlay(&mut table, tables_of(entry.table));
            let name = entry.table.get("name").and_then(Value::as_str);
            let name = name.map_or_else(|| default_name(entry.table, &table), str::to_owned);
            self.check_name(&name, &entry.place);
            if TAKEN.contains(&name.as_str()) {
                let message = format!(
                    "an arm cannot be called `{name}`: {} are directories of the experiment",
                    TAKEN.join(", ")
                );
                self.add_problem(Problem::new(entry.place.key("name"), message));
            }
            if !names.insert(name.clone()) {
                let message = format!("two arms are called `{name}`");
                self.add_problem(Problem::new(entry.place.key("name"), message));
            }
            arms.extend(self.variants(&name, &table, entry));
        }
        self.with_controls(arms)
    }

    /// Beside the arms that recycle their controls, if the file asks for them.
    fn with_controls(&mut self, arms: Vec<Arm>) -> Vec<Arm> {
        let asked: Option<Vec<&str>> = match self.file.table().get("controls") {
            Some(Value::Boolean(true)) => None,
            Some(Value::Array(names)) => Some(names.iter().filter_map(Value::as_str).collect()),
            _ => return arms,
        };
        let names: BTreeSet<String> = arms.iter().map(|arm| arm.name.clone()).collect();
        let mut controlled = BTreeSet::new();
        let mut with_controls = Vec::new();
        for arm in arms {
            // The variants of an arm are called `ARM, VARIANT`.
            let name = arm.name.split(',').next().unwrap_or_default().to_owned();
            let is_asked = asked
                .as_ref()
                .is_none_or(|asked| asked.contains(&name.as_str()));
            let control = arm.control(&self.output).filter(|_| is_asked);
            with_controls.push(arm);
            let Some(control) = control else {
                continue;
            };
            controlled.insert(name);
            if names.contains(&control.name) {
                let message = format!(
                    "`controls` adds an arm `{}`, and there is one of that name; rename it",
                    control.name
                );
                self.add_problem(Problem::new(KeyPath::dotted("controls"), message));
            }
            with_controls.push(control);
        }
        if !self.problems.is_empty() {
            return with_controls;
        }
        let mut refuse =
            |message| self.add_problem(Problem::new(KeyPath::dotted("controls"), message));
        for name in asked.iter().flatten() {
            if !controlled.contains(*name) {
                refuse(format!(
                    "`controls` names `{name}`, but no arm of that name trains on recycled adapters"
                ));
            }
        }
        if asked.is_none() && controlled.is_empty() {
            refuse("`controls` is set, but no arm trains on recycled adapters".to_owned());
        }
        with_controls
    }

    /// An arm for every combination of the values that vary.
    fn variants(&mut self, name: &str, table: &Table, entry: &Entry) -> Vec<Arm> {
        let vary = |table: &Table| match table.get("vary") {
            Some(Value::Table(vary)) => vary.clone(),
            _ => Table::new(),
        };
        let is_evaluation = entry.table.contains_key("evaluate");
        for problem in unread_keys(self.file, &entry.place, is_evaluation) {
            self.add_problem(problem);
        }
        let mut lists = vary(self.file.table());
        if is_evaluation {
            remove_unread_lists(&mut lists);
        }
        overlay(&mut lists, vary(entry.table));
        let combinations = match combinations(&lists) {
            Ok(combinations) => combinations,
            Err(problems) => {
                for problem in problems {
                    let path = self.place_of(&problem.path, entry);
                    self.add_problem(Problem::new(path, problem.message));
                }
                return Vec::new();
            }
        };
        let Some(seeds) = self.seeds(entry.table, &entry.place) else {
            return Vec::new();
        };
        let mut directories = BTreeSet::new();
        let mut arms = Vec::new();
        for combination in &combinations {
            let variant = combination.name();
            let directory = match &variant {
                Some(variant) => free_name(
                    &mut directories,
                    &format!("{name}/{}", as_directory_name(variant)),
                ),
                None => name.to_owned(),
            };
            let table = combination.apply(table.clone());
            // An evaluation draws nothing.
            let seeds = if is_evaluation {
                &seeds[..1]
            } else {
                &seeds[..]
            };
            let cell = |seed: &u64| {
                let name = format!("{directory}/seed-{seed}");
                let output = self.output.join(&name);
                let work = match is_evaluation {
                    true => self.evaluation(table.clone(), &output, entry, combination),
                    false => self.training(table.clone(), *seed, &output, entry, combination),
                };
                Some(Cell {
                    name,
                    seed: *seed,
                    work: work?,
                })
            };
            arms.push(Arm {
                name: variant.map_or_else(
                    || name.to_owned(),
                    |variant| format!("{name}, {}", variant.replace(',', ", ")),
                ),
                cells: seeds.iter().filter_map(cell).collect(),
                control_of: None,
            });
        }
        arms
    }

    fn training(
        &mut self,
        table: Table,
        seed: u64,
        output: &Path,
        entry: &Entry,
        combination: &Combination,
    ) -> Option<Work> {
        let (mut table, problems) = self.references().resolve(table);
        self.add_problems_of(problems, entry, combination);
        // A seed can be larger than TOML's integers; the schema refuses larger values.
        table.insert("seed".into(), Value::Integer(seed.cast_signed()));
        table.insert("output".into(), Value::String(output.display().to_string()));
        match train_config(&table) {
            Ok(config) => {
                let problems = self.missing(&Value::Table(table));
                self.add_problems_of(problems, entry, combination);
                Some(Work::Train(Box::new(config)))
            }
            Err(problems) => {
                self.add_problems_of(problems, entry, combination);
                None
            }
        }
    }

    fn missing(&self, root: &Value) -> Vec<Problem> {
        match self.inputs {
            InputCheck::Skipped => Vec::new(),
            InputCheck::Required => missing_inputs(root, &self.output),
        }
    }

    fn evaluation(
        &mut self,
        mut table: Table,
        output: &Path,
        entry: &Entry,
        combination: &Combination,
    ) -> Option<Work> {
        table.retain(|key, _| !["adapter", "training"].contains(&key));
        for key in ["evaluate", "head"] {
            let value = entry.table.get(key).cloned();
            value.and_then(|value| table.insert(key.to_owned(), value));
        }
        table.insert("output".into(), Value::String(output.display().to_string()));
        let (table, mut problems) = self.references().resolve(table);
        let root = Value::Table(table.clone());
        problems.extend(Schema::of::<EvaluationConfig>().check(&root));
        problems.extend(self.missing(&root));
        if problems.is_empty() {
            return self.request(table, &entry.place).map(Work::Evaluate);
        }
        self.add_problems_of(problems, entry, combination);
        None
    }

    /// Reports problems of a resolved cell at their place in the file.
    fn add_problems_of(
        &mut self,
        problems: Vec<Problem>,
        entry: &Entry,
        combination: &Combination,
    ) {
        for problem in problems {
            let path = match combination.place_of(&problem.path) {
                Some(path) => path,
                None => problem.path,
            };
            let path = self.place_of(&path, entry);
            self.add_problem(Problem::new(path, problem.message));
        }
    }

    /// Where in the file a value of an arm comes from: the arm itself, or the defaults; of one that
    /// is missing, where the most of the way to it is.
    fn place_of(&self, path: &KeyPath, entry: &Entry) -> KeyPath {
        let own = path.below(&entry.place);
        let mut ancestor = Some(path.clone());
        while let Some(way) = ancestor.filter(|way| way.first().is_some()) {
            if self.file.has(&way.below(&entry.place)) {
                return own;
            }
            if self.file.has(&way) {
                return path.clone();
            }
            ancestor = way.parent();
        }
        own
    }

    /// The seeds of an entry, or those of the file.
    fn seeds(&mut self, table: &Table, place: &KeyPath) -> Option<Vec<u64>> {
        let seeds = match has_seeds(table) {
            true => seeds_of(table, place),
            false => seeds_of(self.file.table(), &KeyPath::default()),
        };
        match seeds {
            Ok(seeds) => seeds,
            Err(problem) => {
                self.add_problem(problem);
                None
            }
        }
    }

    /// A name becomes a directory.
    fn check_name(&mut self, name: &str, place: &KeyPath) {
        if !is_name(name) {
            let message = format!("`{name}` is not a valid name: use letters, digits, - and _");
            self.add_problem(Problem::new(place.key("name"), message));
        }
    }
}

fn tables_of(entry: &Table) -> Table {
    let own = entry
        .iter()
        .filter(|(key, _)| TABLES.contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Applies `changes` to `table`, table by table.
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
