//! What adapter directories, real ones and broken ones, and a small Hub of our own come to.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod adapter_sets;
mod broken_adapters;
mod broken_dialects;
mod config;
mod dialects;
mod fixture;
mod gguf;
mod saved_tables;
mod saving;
mod shards;
mod vera;
mod wrapped_names;
mod written_adapters;
