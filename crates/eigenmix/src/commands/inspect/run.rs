//! A run: what it trained, its progress and its metrics.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use toml::Table as Configuration;

use eigenmix_experiment::Table;
use eigenmix_trainer::{RunHistory, metrics_in};

/// The keys of the configuration to show.
const TOLD: [(&str, &str); 7] = [
    ("base", "model"),
    ("data", "path"),
    ("task", "kind"),
    ("adapter", "method"),
    ("adapter", "subspace"),
    ("adapter", "rank"),
    ("training", "epochs"),
];

pub(super) struct RunSummary(pub(super) RunHistory);

impl Serialize for RunSummary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Kind<'a> {
            kind: &'static str,
            location: String,
            #[serde(flatten)]
            run: &'a RunHistory,
        }
        Kind {
            kind: "run",
            location: self.0.path.display().to_string(),
            run: &self.0,
        }
        .serialize(serializer)
    }
}

impl fmt::Display for RunSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = &self.0;
        writeln!(formatter, "run `{}`", run.path.display())?;
        for (table, key) in TOLD {
            if let Some(value) = configured(&run.config, table, key) {
                writeln!(formatter, "  {:<17}  {value}", format!("{table}.{key}"))?;
            }
        }
        if let Some(step) = &run.last_step {
            writeln!(formatter, "  {:<17}  {}", "last step", in_words(step))?;
        }
        let result = run.result.map_or_else(
            || "not written yet".to_owned(),
            |result| run.path.join(result).display().to_string(),
        );
        writeln!(formatter, "  {:<17}  {result}", "result")?;
        writeln!(
            formatter,
            "  {:<17}  {}",
            "checkpoints",
            run.checkpoints.len()
        )?;
        if run.evaluations.is_empty() {
            return write!(formatter, "no evaluation yet");
        }
        let mut table = Table::with_header(["evaluation", "last", "best", "at step"]);
        for (split, evaluations) in &run.evaluations {
            for (name, value) in metrics_in(&evaluations.last) {
                let best = evaluations.best.get(&name);
                let step = best.and_then(|best| best.step);
                table.push([
                    format!("{split} {name}"),
                    format!("{value:.4}"),
                    best.map_or_else(String::new, |best| format!("{:.4}", best.value)),
                    step.map_or_else(String::new, |step| step.to_string()),
                ]);
            }
        }
        write!(formatter, "\n{table}")
    }
}

fn configured(configuration: &Configuration, table: &str, key: &str) -> Option<String> {
    let value = configuration.get(table)?.get(key)?;
    Some(match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    })
}

fn in_words(line: &Map<String, Value>) -> String {
    let pairs = line.iter().map(|(name, value)| format!("{name} {value}"));
    pairs.collect::<Vec<_>>().join(", ")
}
