//! Diffusion models: what their parts give, and images.

mod generation;
mod part_forward;
mod pipeline_request;
mod prompts;
mod similarity;

pub use generation::{GenerateRequest, ImageRecord, generate};
pub(crate) use generation::{IMAGES_FILE, is_list_of_images};
pub use part_forward::part_forward;
pub use pipeline_request::{PipelineRequest, WeightedAdapter, is_pipeline};
pub use prompts::{Prompt, PromptTokenizers};
pub use similarity::{Similarity, SimilarityRequest};
