//! The charts of reports and of `inspect --html`: adapters, subspaces and runs, as data and as
//! charts.

mod comparison;
mod curves;
mod module_map;
mod spectrum;

pub use comparison::Comparison;
pub use curves::Curves;
pub use module_map::module_maps;
pub use spectrum::SpectrumSummary;
