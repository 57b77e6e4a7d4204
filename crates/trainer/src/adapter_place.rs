//! Where the adapter is that an argument stands for.

use std::path::PathBuf;

use eigenmix_adapter::PeftConfig;
use eigenmix_hub::{Hub, HubError, Location, fetch_adapter};

use crate::run::Run;

/// The path of the adapter that `argument` stands for: a path, of a run the adapter that it trained, or
/// where the files of a Hub id were downloaded to.
///
/// # Errors
/// If it is neither a path nor a Hub id, or the Hub does not give the files.
pub fn locate_adapter(argument: &str) -> Result<PathBuf, HubError> {
    let path = match Location::parse_owned(argument)? {
        Location::Path(path) => path,
        Location::Hub(id) => fetch_adapter(&Hub::from_env()?, &id)?,
    };
    let trained = Run::at(&path).adapter();
    let is_run =
        !path.join(PeftConfig::FILE_NAME).exists() && trained.join(PeftConfig::FILE_NAME).exists();
    Ok(if is_run { trained } else { path })
}
