//! Commands of the binary, each in a file of its own; linked once. `cargo test --test cli heads` runs
//! those of one file.

mod bad_input;
mod command_line;
mod configs;
mod dialects;
mod export;
mod flattened;
mod gguf_adapters;
mod heads;
mod init;
mod inspect;
mod reports;
mod stores;
mod subspaces;
#[path = "../support/mod.rs"]
mod support;
