//! `train:NAME`, `extract:NAME`, `merge:NAME`: the result of a stage of the same experiment.

use std::path::Path;

use eigenmix_data::closest_name;
use eigenmix_trainer::Run;
use toml::{Table, Value};

use crate::config_file::{KeyPath, Problem};

/// A kind of stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    Train,
    Extract,
    Merge,
}

impl StageKind {
    pub(super) const ALL: [Self; 3] = [Self::Train, Self::Extract, Self::Merge];

    /// The table in the file, and the directory below the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Extract => "extract",
            Self::Merge => "merge",
        }
    }
}

/// The stages that something may refer to.
pub(super) struct References<'a> {
    pub(super) output: &'a Path,
    pub(super) names: Vec<(StageKind, String)>,
}

impl References<'_> {
    /// Replaces references by directories, wherever a configuration can name an adapter or a
    /// subspace, and reports references to nothing.
    pub(super) fn resolve(&self, table: Table) -> (Table, Vec<Problem>) {
        use StageKind::{Extract, Merge, Train};
        let mut root = Value::Table(table);
        let mut problems = Vec::new();
        for (path, kinds) in [
            ("adapter.subspace", &[Extract][..]),
            ("adapter.adapters", &[Train, Merge]),
            ("adapter.init", &[Train, Merge]),
            ("adapters", &[Train, Merge]),
            ("evaluate", &[Train, Merge]),
            ("head", &[Train]),
        ] {
            let path = KeyPath::dotted(path);
            let resolved = match path.find(&root) {
                Some(Value::String(text)) => {
                    Value::String(self.text(&path, text, kinds, &mut problems))
                }
                Some(Value::Array(items)) => {
                    let items = items.iter().enumerate();
                    let each = items.map(|(index, item)| match item {
                        Value::String(text) => {
                            let path = path.index(index);
                            Value::String(self.text(&path, text, kinds, &mut problems))
                        }
                        other => other.clone(),
                    });
                    Value::Array(each.collect())
                }
                _ => continue,
            };
            path.insert(&mut root, resolved);
        }
        match root {
            Value::Table(table) => (table, problems),
            _ => (Table::new(), problems),
        }
    }

    fn text(
        &self,
        path: &KeyPath,
        text: &str,
        kinds: &[StageKind],
        problems: &mut Vec<Problem>,
    ) -> String {
        let (before, reference) = match text.strip_prefix("project:") {
            Some(reference) => ("project:", reference),
            None => ("", text),
        };
        let split = reference.split_once(':');
        let found = split.and_then(|(word, name)| {
            let kind = StageKind::ALL
                .into_iter()
                .find(|kind| kind.name() == word)?;
            Some((kind, name))
        });
        let Some((kind, name)) = found else {
            return text.to_owned();
        };
        if !kinds.contains(&kind) {
            let wanted: Vec<String> = kinds
                .iter()
                .map(|kind| format!("{}:NAME", kind.name()))
                .collect();
            let message = format!(
                "`{path}` cannot be {text:?}; expected {}",
                wanted.join(" or ")
            );
            problems.push(Problem::new(path.clone(), message));
            return text.to_owned();
        }
        if !self.names.contains(&(kind, name.to_owned())) {
            let names = self.names.iter().filter(|(other, _)| *other == kind);
            let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
            let advice = match (closest_name(name, &names), names.is_empty()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, true) => format!("the file has no [[{}]]", kind.name()),
                (None, false) => format!("there are {}", names.join(", ")),
            };
            let message = format!(
                "`{path}`: no [[{}]] is called `{name}`; {advice}",
                kind.name()
            );
            problems.push(Problem::new(path.clone(), message));
            return text.to_owned();
        }
        let mut directory = self.output.join(kind.name()).join(name);
        if kind == StageKind::Train {
            directory.push(Run::ADAPTER);
        }
        format!("{before}{}", directory.display())
    }
}
