//! Event files for TensorBoard, in addition to `metrics.jsonl`.

mod event;
mod event_file;
mod record;

pub(crate) use event_file::EventFile;
