#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "wasm32",
    expect(
        clippy::arc_with_non_send_sync,
        reason = "wgpu's objects belong to one thread in a browser; everywhere else these are shared between threads"
    )
)]

#[doc = include_str!("../docs/bring-your-generator.md")]
pub mod bring_your_generator {}

pub mod cpu;
pub mod enhancer;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod image;
pub mod metrics;
pub mod models;
pub mod ops;
pub mod phantom;
pub mod tensor;
pub mod tile;
pub mod weights;

pub use enhancer::{
    CancelToken, Device, Enhanced, Enhancer, EnhancerBuilder, Generated, Job, ModelSource, Progress, Report, TileSize,
};
pub use error::{Error, Result};
pub use gpu::{DeviceInfo, Precision};
pub use image::Frame;
pub use models::Model;
pub use tensor::{HostTensor, Shape};
pub use wgpu;
