//! The labels for a zero-shot head, taken from the data if none are given.

use std::path::Path;

use eigenmix_data::DataLocation;
use eigenmix_data::{DataConfig, DataError, LabelMap, LabelPolicy, Split, read_image_split};
use eigenmix_trainer::TrainerError;

/// Those of the training split, or of `split` if there is no training split.
///
/// # Errors
/// If the data can't be read, or have fewer than two labels.
pub fn image_labels(config: &DataConfig, split: Split) -> Result<LabelMap, TrainerError> {
    let location = DataLocation::open(config)?;
    let labels = |split| -> Result<LabelMap, TrainerError> {
        let config = location.split(split)?;
        let directory = Path::new(&config.path);
        let found = read_image_split(directory, split, &config, LabelPolicy::Required)?;
        Ok(LabelMap::from_train(&found.rows)?)
    };
    match labels(Split::Train) {
        Err(TrainerError::Data(DataError::MissingSplit { .. })) => labels(split),
        found => found,
    }
}
