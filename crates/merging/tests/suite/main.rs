//! Merges of golden and of trained adapters, and of random ones.

mod compression;
mod golden;
mod golden_merges;
mod golden_undetermined;
mod heads_and_config;
mod identities;
mod merged_with_itself;
mod methods;
mod other_adapters;
mod random_adapters;
mod refusals;
mod relative_difference;
mod trained_adapters;
mod vanishing_directions;
