//! Finds all problems of a training's configuration.
//!
//! Values that violate the schema are reported and removed; the rest is then checked for valid
//! values and combinations.

use std::collections::BTreeSet;

use eigenmix_trainer::{BatchSizeError, TrainConfig, TrainerError};
use serde::Deserialize;
use toml::{Table, Value};

use super::{KeyPath, Problem, Schema};

/// The training that `table` describes.
///
/// # Errors
/// All of its problems.
pub(super) fn train_config(table: &Table) -> Result<TrainConfig, Vec<Problem>> {
    let schema = Schema::of::<TrainConfig>();
    let mut judged = Value::Table(table.clone());
    let mut problems = schema.check(&judged);
    let mut guessed = BTreeSet::new();
    for problem in &problems {
        problem.path.remove(&mut judged);
    }
    fill(&schema, &mut judged, &mut guessed);
    // Every round removes one value, so there are no more rounds than values.
    let config = loop {
        let mut track = serde_path_to_error::Track::new();
        let reader = serde_path_to_error::Deserializer::new(judged.clone(), &mut track);
        let error = match TrainConfig::deserialize(reader) {
            Ok(config) => break config,
            Err(error) => error,
        };
        let path = KeyPath::dotted(&track.path().to_string());
        problems.push(Problem::new(
            path.clone(),
            format!("`{path}`: {}", error.message()),
        ));
        if !path.remove(&mut judged) {
            return Err(problems);
        }
        fill(&schema, &mut judged, &mut guessed);
    };
    let removed: BTreeSet<KeyPath> = problems.iter().map(|one| one.path.clone()).collect();
    for error in config.problems() {
        let path = KeyPath::dotted(error.key().unwrap_or_default());
        // A value that was removed is not missing, nor is the one that it stands for.
        let is_no_size = matches!(error, TrainerError::BatchSize(BatchSizeError::Missing));
        let is_removed = |path| removed.contains(path);
        if is_removed(&path)
            || (is_no_size && is_removed(&KeyPath::dotted("training.tokens_per_batch")))
        {
            continue;
        }
        // A value that only stands in for a missing one cannot be wrong, nor make another one
        // wrong.
        if !path.first().is_some_and(|table| guessed.contains(table)) {
            problems.push(Problem::new(path, error.to_string()));
        }
    }
    match problems.is_empty() {
        true => Ok(config),
        false => Err(problems),
    }
}

/// Fills in everything that is missing, and remembers in which tables.
fn fill(schema: &Schema, judged: &mut Value, guessed: &mut BTreeSet<String>) {
    // A table that is missing is filled in the second round.
    for _ in 0..2 {
        for Problem { path, .. } in schema.check(judged) {
            let example = schema.example(&path);
            let value = example.unwrap_or_else(|| Value::Table(Table::new()));
            path.insert(judged, value);
            guessed.extend(path.first().map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let problems = train_config(&text.parse().unwrap()).unwrap_err();
        problems
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    }

    #[test]
    fn all_kinds_of_mistakes_are_reported_together() {
        let found = messages(
            "outptu = 'o'\nbase.model = 'm'\ndata = { path = 'd', max_length = 1 }\n\
             adapter = { method = 'eigenmix', rank = 4, init = 'merged' }\n\
             training = { epochs = 'ten', batch_size = 2, learning_rate = -1 }\n",
        );
        let expected = [
            "`outptu` is unknown; did you mean `output`?",
            "`training.epochs` must be a whole number, found \"ten\"",
            "init `merged` is unknown",
            "`data.max_length` must be at least 3, found 1",
            "`training.learning_rate` must be above 0, found -1",
            "`adapter.subspace` does not work with method `eigenmix`",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for expected in expected {
            assert!(
                found.iter().any(|found| found.contains(expected)),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn a_size_of_batches_that_is_wrong_is_not_missing_too() {
        for (batches, expected) in [
            ("batch_size = 0", "must be at least 1, found 0"),
            ("tokens_per_batch = 0", "must be at least 1, found 0"),
            ("batch_size = 2, tokens_per_batch = 9", "leave one out"),
            ("keep = 'best'", "`training.batch_size` is missing"),
        ] {
            let found = messages(&format!(
                "output = 'o'\nbase.model = 'm'\ndata.path = 'd'\n\
                 adapter = {{ method = 'lora', rank = 4 }}\n\
                 training = {{ epochs = 1, learning_rate = 1, {batches} }}\n"
            ));
            assert_eq!(found.len(), 1, "{batches}: {found:?}");
            assert!(found[0].contains(expected), "{batches}: {found:?}");
        }
    }

    #[test]
    fn nothing_is_concluded_from_what_is_missing() {
        let found = messages("output = 'o'\nbase.model = 'm'\nadapter = { subspace = 's' }\n");
        let expected = [
            "`data` is missing",
            "`training` is missing",
            "`adapter.method` is missing",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(
            expected
                .iter()
                .all(|line| found.iter().any(|found| found == line)),
            "{found:?}"
        );
    }
}
