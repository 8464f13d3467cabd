//! All integration tests, in one binary so that they link once. Each module is one claim of the crate.

mod chains;
#[cfg(feature = "cli")]
mod cli;
mod contract;
mod device_state;
mod extents;
mod fusion;
mod harness;
mod house;
mod misfits;
mod models;
mod operator_tiling;
mod operators;
#[path = "../ops/ops.rs"]
mod ops;
mod portable;
mod segments;
mod surfaces;
mod tiling;
