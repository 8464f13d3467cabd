//! Whether a device's matrices compute what they should.

use std::sync::Arc;

use super::device::Context;
use super::{GpuRunner, Guard, Precision};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::activation::Function;
use crate::ops::conv2d::Conv2d;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::{Border, Param, Place, Traits};
use crate::tensor::{HostTensor, Shape};

/// Largest difference, relative to the largest value, that rounding weights and results to 16 bits explains.
const TOLERANCE: f32 = 4e-3;
/// Enough workgroups to fill a graphics card, and no side a multiple of a matrix.
const SHAPE: Shape = Shape::new(36, 67, 101);
/// Four matrices of channels a workgroup, of either size of matrices, the last one cut short.
const WIDE: usize = 116;
/// Three.
const NARROW: usize = 40;
/// Runs that all must agree: a missing barrier need not show in one.
const RUNS: usize = 3;

/// True if convolutions on a device with traits `with` agree with those `without`; false, too, if the driver refuses them.
///
/// # Errors
/// What stops those without, and the loss of the device.
pub(super) async fn agree(context: &Arc<Context>, with: Traits, without: Traits) -> Result<bool> {
    let graph = convolutions()?;
    let image = HostTensor::new(SHAPE, waves(SHAPE.elements()?))?;
    let expected = run(context, &graph, &image, without, 1).await?;
    let results = match run(context, &graph, &image, with, RUNS).await {
        Err(error @ Error::DeviceLost(_)) => return Err(error),
        Err(_) => return Ok(false),
        Ok(results) => results,
    };
    let expected = expected[0].data();
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
    Ok(results.iter().all(|actual| actual.data().iter().zip(expected).all(near)))
}

async fn run(
    context: &Arc<Context>,
    graph: &Arc<Graph>,
    image: &HostTensor,
    traits: Traits,
    runs: usize,
) -> Result<Vec<HostTensor>> {
    let plan = graph.plan(&[Place::whole(image.shape())])?;
    let runner =
        GpuRunner::with_traits(context.clone(), graph.clone(), Precision::F16, Guard::default(), traits).await?;
    let mut results = Vec::new();
    for _ in 0..runs {
        results.extend(runner.run(&plan, std::slice::from_ref(image)).await?);
    }
    Ok(results)
}

/// Convolutions: three taps square, one tap behind layer norm and before a gate, five square over a reflected border, and two square
/// with a step of two.
fn convolutions() -> Result<Arc<Graph>> {
    let mut graph = Graph::new();
    let input = graph.input(SHAPE.channels);
    let x = push(&mut graph, input, Conv2d::same(SHAPE.channels, WIDE, 3, Border::Zero))?;
    let norm = LayerNorm { channels: WIDE, eps: 1e-5, center: true, weight: false, bias: false };
    let x = graph.push(norm, &[x], vec![])?;
    let x = push(&mut graph, x, Conv2d::new(WIDE, 2 * NARROW, [1, 1]))?;
    let x = graph.gate(x, Function::Identity)?;
    let x = push(&mut graph, x, Conv2d::same(NARROW, NARROW, 5, Border::Reflect))?;
    let x = push(&mut graph, x, Conv2d { stride: [2, 2], ..Conv2d::new(NARROW, NARROW, [2, 2]) })?;
    graph.set_output(x);
    Ok(Arc::new(graph.fused()?))
}

fn push(graph: &mut Graph, input: Value, op: Conv2d) -> Result<Value> {
    let shape = [op.out_channels, op.in_channels, op.kernel[0], op.kernel[1]];
    // Sums stay about as large as what is summed.
    let size = (3.0 / (shape[1] * shape[2] * shape[3]) as f32).sqrt();
    let values = waves(shape.iter().product()).into_iter().map(|value| value * size).collect();
    let weight = Param::new("weight", shape.to_vec(), values)?;
    let bias = Param::new("bias", vec![op.out_channels], waves(op.out_channels))?;
    graph.push(Conv2d { bias: true, ..op }, &[input], vec![Arc::new(weight), Arc::new(bias)])
}

/// Numbers in [-1, 1] without a period that sums could hide in.
fn waves(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.754_877_7).fract() * 2.0 - 1.0).collect()
}
