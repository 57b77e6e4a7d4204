//! Downloads from and uploads to a small Hub of our own.

mod downloads;
#[path = "../../../../tests/support/fake_hub/mod.rs"]
mod fake_hub;
mod uploads;
