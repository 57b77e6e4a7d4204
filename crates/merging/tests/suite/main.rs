//! Merges of adapters from `shared/golden`, and of random ones.

mod golden;
mod golden_undetermined;
mod heads_and_config;
mod identities;
mod methods;
mod other_adapters;
mod random_adapters;
mod refusals;
mod shared_adapters;
