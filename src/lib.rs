//! sonolume
pub mod error;
pub mod image;
pub mod metrics;
pub mod phantom;
pub mod tensor;
pub use error::{Error, Result};
pub use tensor::{HostTensor, Shape};
