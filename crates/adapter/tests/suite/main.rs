//! What adapter directories, real ones and broken ones, and a small Hub of our own come to.

mod broken_adapters;
mod broken_dialects;
mod broken_tensor_files;
mod config;
mod dialects;
#[path = "../../../../tests/support/fake_hub/mod.rs"]
mod fake_hub;
mod fixture;
mod hub;
mod hub_downloads;
mod hub_uploads;
mod saving;
mod shared_adapters;
mod vera;
