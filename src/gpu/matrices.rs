//! Whether a device's matrices compute what they should.

use std::sync::Arc;

use super::device::Context;
use super::{GpuRunner, Guard, Precision};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::conv2d::Conv2d;
use crate::ops::{Border, Param, Place, Traits};
use crate::tensor::{HostTensor, Shape};

/// Largest difference, relative to the largest value, that rounding weights and results to 16 bits explains.
const TOLERANCE: f32 = 4e-3;

/// Not a multiple of any matrix, on any side.
const SHAPE: Shape = Shape::new(36, 11, 21);
const OUT_CHANNELS: usize = 84;

/// True if a convolution on a device with traits `with` agrees with one `without`; false, too, if the driver refuses it.
///
/// # Errors
/// What stops the one without, and the loss of the device.
pub(super) async fn agree(context: &Arc<Context>, with: Traits, without: Traits) -> Result<bool> {
    let (graph, image) = convolution()?;
    let expected = run(context, &graph, &image, without).await?;
    let actual = match run(context, &graph, &image, with).await {
        Err(error @ Error::DeviceLost(_)) => return Err(error),
        Err(_) => return Ok(false),
        Ok(actual) => actual,
    };
    let largest = expected.data().iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
    Ok(actual.data().iter().zip(expected.data()).all(near))
}

async fn run(context: &Arc<Context>, graph: &Arc<Graph>, image: &HostTensor, traits: Traits) -> Result<HostTensor> {
    let plan = graph.plan(&[Place::whole(image.shape())])?;
    let runner =
        GpuRunner::with_traits(context.clone(), graph.clone(), Precision::F16, Guard::default(), traits).await?;
    let results = runner.run(&plan, std::slice::from_ref(image)).await?;
    results.into_iter().next().ok_or_else(|| Error::Device("a run without a result".into()))
}

/// One convolution and an image, the same numbers every time.
fn convolution() -> Result<(Arc<Graph>, HostTensor)> {
    let op = Conv2d { bias: true, ..Conv2d::same(SHAPE.channels, OUT_CHANNELS, 3, Border::Zero) };
    let weight =
        Param::new("weight", vec![OUT_CHANNELS, SHAPE.channels, 3, 3], waves(OUT_CHANNELS * SHAPE.channels * 9))?;
    let bias = Param::new("bias", vec![OUT_CHANNELS], waves(OUT_CHANNELS))?;
    let mut graph = Graph::new();
    let input = graph.input(SHAPE.channels);
    let output = graph.push(op, &[input], vec![Arc::new(weight), Arc::new(bias)])?;
    graph.set_output(output);
    let image = HostTensor::new(SHAPE, waves(SHAPE.channels * SHAPE.height * SHAPE.width))?;
    Ok((Arc::new(graph), image))
}

/// Numbers in [-1, 1] without a period that sums could hide in.
fn waves(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.754_877_7).fract() * 2.0 - 1.0).collect()
}
