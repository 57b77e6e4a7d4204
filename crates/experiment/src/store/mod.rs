//! Stores: many adapters on one basis, and plain adapters out of them.

mod pack;
mod summary;
mod unpack;

pub use self::pack::{PackRequest, pack_adapters};
pub use self::summary::{PackSummary, StoreSummary, UnpackSummary, UnpackedAdapter};
pub use self::unpack::{UnpackRequest, unpack_adapters};
