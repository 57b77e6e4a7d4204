//! Downloads from and uploads to a small Hub of our own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod adapters;
mod downloads;
#[path = "../../../../tests/support/fake_hub/mod.rs"]
mod fake_hub;
// Not everything that the adapters' own tests make is needed here.
#[allow(dead_code)]
#[path = "../../../adapter/tests/suite/fixture.rs"]
mod fixture;
mod uploads;
