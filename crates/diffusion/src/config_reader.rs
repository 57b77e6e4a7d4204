//! Reading a `config.json` of diffusers: options with defaults, and those that are refused.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::DiffusionError;

/// More than any model has, and little enough to set memory aside for.
const MOST_LAYERS: usize = 1 << 10;
const MOST_CHANNELS: usize = 1 << 16;

/// A configuration and where it is from.
pub(crate) struct ConfigReader<'a> {
    pub json: &'a Value,
    pub path: PathBuf,
}

impl<'a> ConfigReader<'a> {
    pub fn new(json: &'a Value, directory: &Path) -> Self {
        Self {
            json,
            path: directory.join("config.json"),
        }
    }

    /// An option's value, if it has one.
    pub fn optional<T: DeserializeOwned>(&self, option: &str) -> Result<Option<T>, DiffusionError> {
        match self.json.get(option) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| self.problem(format!("`{option}`: {error}"))),
        }
    }

    /// An option's value, or what diffusers takes where there is none.
    pub fn or<T: DeserializeOwned>(&self, option: &str, default: T) -> Result<T, DiffusionError> {
        Ok(self.optional(option)?.unwrap_or(default))
    }

    /// One value for each of `count` blocks, or one value for all.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn per_block<T: DeserializeOwned + Clone>(
        &self,
        option: &str,
        count: usize,
        default: T,
    ) -> Result<Vec<T>, DiffusionError> {
        match self.json.get(option) {
            Some(Value::Array(values)) if values.len() != count => {
                let found = values.len();
                Err(self.problem(format!("`{option}` has {found} values for {count} blocks")))
            }
            Some(Value::Array(_)) => self.or(option, Vec::new()),
            _ => Ok(vec![self.or(option, default)?; count]),
        }
    }

    /// Refuses an option that has another value than those that are built here, or none.
    ///
    /// - known: the values, as JSON
    pub fn require(
        &self,
        option: &'static str,
        known: &[Value],
        supported: &'static str,
    ) -> Result<(), DiffusionError> {
        match self.json.get(option) {
            None | Some(Value::Null) => Ok(()),
            Some(found) if known.contains(found) => Ok(()),
            Some(found) => Err(DiffusionError::Option {
                path: self.path.clone(),
                option,
                found: found.to_string(),
                supported,
            }),
        }
    }

    pub fn problem(&self, problem: String) -> DiffusionError {
        DiffusionError::Config {
            path: self.path.clone(),
            problem,
        }
    }

    /// Refuses numbers of channels that are none, and groups that they cannot be divided into.
    pub fn check_channels(&self, channels: &[usize], groups: usize) -> Result<(), DiffusionError> {
        if channels.is_empty() {
            return Err(self.problem("`block_out_channels` is empty".to_owned()));
        }
        if groups == 0 {
            return Err(self.problem("`norm_num_groups` is 0".to_owned()));
        }
        for &channels in channels {
            if !(1..=MOST_CHANNELS).contains(&channels) || !channels.is_multiple_of(groups) {
                return Err(self.problem(format!(
                    "{channels} channels cannot be divided into {groups} groups (`norm_num_groups`)"
                )));
            }
        }
        Ok(())
    }

    /// Refuses numbers of layers that no model has.
    pub fn check_layers(&self, option: &str, counts: &[usize]) -> Result<(), DiffusionError> {
        match counts.iter().find(|&&count| count > MOST_LAYERS) {
            Some(count) => Err(self.problem(format!("`{option}` is {count}"))),
            None => Ok(()),
        }
    }
}
