//! Downloads from and uploads to a small Hub of our own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod downloads;
#[path = "../../../../tests/support/fake_hub/mod.rs"]
mod fake_hub;
mod uploads;
