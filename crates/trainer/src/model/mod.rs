//! A base model with an adapter and a head on top, ready to run.

mod classifier;
mod clip_similarity;
mod label_union;
mod loaded_model;
mod task_head;
mod task_heads;
mod zero_shot;

pub use classifier::Classifier;
pub use clip_similarity::{ClipFeatures, ClipSimilarity, TextFeatures};
pub use label_union::LabelUnion;
pub use loaded_model::LoadedModel;
pub(crate) use loaded_model::own_head;
pub use task_head::TaskHead;
pub(crate) use task_head::output_layer;
pub use task_heads::{TaskClassifiers, TaskHeads};
pub use zero_shot::ZeroShot;
