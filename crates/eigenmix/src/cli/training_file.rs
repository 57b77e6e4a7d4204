//! A training file and what is overridden of it, as every command takes them that reads one.

use std::path::PathBuf;

use clap::Args;
use eigenmix_experiment::{ConfigError, ConfigFile, Override};

#[derive(Debug, Args)]
pub(crate) struct TrainingFileArguments {
    /// The training file of the task, a TOML file.
    #[arg(value_name = "TRAINING.toml")]
    pub(crate) config: PathBuf,

    /// Override a key of the file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,
}

impl TrainingFileArguments {
    /// # Errors
    /// As [`ConfigFile::read`].
    pub(crate) fn read(&self) -> Result<ConfigFile, ConfigError> {
        ConfigFile::read(&self.config, &self.overrides)
    }
}
