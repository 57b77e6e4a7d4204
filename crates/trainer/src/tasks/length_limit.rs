//! The limit on the length of texts.

use eigenmix_data::DataConfig;
use eigenmix_models::Architecture;

use crate::TrainerError;

/// Checks that a model accepts texts of `data.max_length` tokens. Always passes for models without
/// texts.
///
/// # Errors
/// If it does not.
pub(super) fn check_length(
    architecture: &Architecture,
    config: &DataConfig,
) -> Result<(), TrainerError> {
    match architecture.max_length() {
        Some(limit) if config.max_length > limit => Err(TrainerError::TooLong {
            found: config.max_length,
            limit,
        }),
        _ => Ok(()),
    }
}
