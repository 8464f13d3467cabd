//! All integration tests, in one binary so that they link once. Each module is one claim of the crate.

#[cfg(feature = "cli")]
mod cli;
mod contract;
mod extents;
mod harness;
mod house;
mod models;
mod operator_tiling;
mod operators;
#[path = "../ops/ops.rs"]
mod ops;
mod portable;
mod surfaces;
mod tiling;
