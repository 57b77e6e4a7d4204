//! Diffusion models: what their parts give, and images.

mod arms;
mod generation;
mod part_forward;
mod pipeline_request;
mod similarity;

pub use arms::generate_arms;
pub use generation::{GenerateRequest, Generated, generate};
pub(crate) use generation::{IMAGES_FILE, is_list_of_images};
pub use part_forward::part_forward;
pub use pipeline_request::{PipelineRequest, WeightedAdapter, is_pipeline};
pub use similarity::{MeasuredImage, Similarity, SimilarityRequest};
