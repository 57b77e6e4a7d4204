//! `eigenmix schema`: the JSON schemas of configuration files, for editors.

use eigenmix_experiment::Schema;
use eigenmix_trainer::TrainConfig;

use crate::cli::{FileKind, SchemaArguments};
use crate::console::Console;

pub(crate) fn run(arguments: &SchemaArguments, console: &Console) -> anyhow::Result<()> {
    let schema = match arguments.kind {
        FileKind::Training => Schema::of::<TrainConfig>(),
        FileKind::Experiment => eigenmix_experiment::schema(),
    };
    console.line(&serde_json::to_string_pretty(schema.root())?)
}
