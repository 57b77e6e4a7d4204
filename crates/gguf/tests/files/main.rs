//! GGUF files as gguf-py writes them, as this crate writes them, in parts, and malformed.

mod bytes;
mod golden;
mod malformed;
mod parts;
mod written;
