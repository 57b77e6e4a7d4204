//! Which adapters are worth recycling for a task, from their factors and the gradient of the task alone.
//!
//! Everything is compared with −G in its leading directions, itself an update `B · A` of low rank
//! (see [`LeadingPart`](crate::LeadingPart)), so that no matrix of the size of a weight is formed.

mod alignment;
mod order;
mod pool_share;

pub use alignment::{Alignment, PoolAlignment, PoolModule};
pub use order::{Ranked, greedy_order};
pub use pool_share::{Share, pool_share};
