//! The flags that name columns.

use clap::Args;
use eigenmix_data::DataConfig;
use eigenmix_experiment::{BadInput, ExperimentError, Override};
use serde::Deserialize;
use toml::Table;

/// Columns of texts whose names are not those of the training.
#[derive(Debug, Args)]
pub(crate) struct ColumnArguments {
    /// The column of the (first) text [default: that of the training, or text].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text: Option<String>,

    /// The column of the second text, for tasks on pairs [default: that of the training].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text_pair: Option<String>,
}

impl ColumnArguments {
    pub(crate) fn apply(&self, config: &mut DataConfig) {
        if let Some(column) = &self.text {
            config.text.clone_from(column);
        }
        if let Some(column) = &self.text_pair {
            config.text_pair = Some(column.clone());
        }
    }
}

/// The `[data]` table with what `--set` changes in it.
///
/// # Errors
/// If a key is unknown or a value is not one for it.
pub(crate) fn changed(
    config: DataConfig,
    overrides: &[Override],
) -> Result<DataConfig, ExperimentError> {
    let mut table = Table::try_from(config)?;
    for change in overrides {
        change.apply(&mut table)?;
    }
    DataConfig::deserialize(table).map_err(|error| {
        let problem = error.message();
        BadInput(format!("--set of the [data] table: {problem}")).into()
    })
}
