//! `eigenmix init`: examines model, data and adapters and suggests a training file.

mod adapters;
mod data;
mod file;
mod found_base;
mod search;

pub use adapters::{FoundAdapter, adapters_in};
pub use data::FoundData;
pub use file::StarterFile;
pub(crate) use file::quoted;
pub use found_base::FoundBase;
pub use search::Surroundings;
