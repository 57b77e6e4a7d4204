//! What adapter directories, real ones and broken ones, and a small Hub of our own come to.

mod adapter_sets;
mod adapters_on_the_hub;
mod broken_adapters;
mod broken_dialects;
mod config;
mod dialects;
#[path = "../../../../tests/support/fake_hub/mod.rs"]
mod fake_hub;
mod fixture;
mod saving;
mod shared_adapters;
mod vera;
