//! The pictures of reports and of `inspect --html`: what is shown of adapters, subspaces and runs,
//! as data and as figures.

mod comparison;
mod curves;
mod module_map;
mod spectrum;

pub(crate) use comparison::Comparison;
pub(crate) use curves::Curves;
pub(crate) use module_map::module_maps;
pub(crate) use spectrum::SpectrumSummary;
