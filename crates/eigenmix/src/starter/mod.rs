//! `eigenmix init`: what is at hand, and the training file that it suggests.

mod adapters;
mod data;
mod file;
mod found_base;
mod search;

pub(crate) use adapters::{FoundAdapter, adapters_in};
pub(crate) use data::FoundData;
pub(crate) use file::StarterFile;
pub(crate) use found_base::FoundBase;
pub(crate) use search::Surroundings;
