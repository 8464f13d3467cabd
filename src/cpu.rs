//! Runs a plan on the CPU: the reference of every operator, and the device of machines without a GPU.
//!
//! Each `cpu/<stem>.rs` has one function, `run(op, io, weights, inputs, output)`, over slices in the storage layout of
//! [`crate::ops`], except that an image of a single channel has no padding lanes here. Rows are shared between threads; every
//! output element is computed by the same sequence of operations whatever the tile or the number of threads, so results are
//! the same bits.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::buffer::Buffer;
use crate::error::{Error, Result};
use crate::graph::plan::size_on;
use crate::graph::{Graph, Node, Plan};
use crate::ops::{Axis, Io, Op, Place, for_each_operator};
use crate::tensor::{HostTensor, LANES, Shape};

mod bands;
mod buffer;
mod elementary;
mod epilogue;
mod matrix;
mod rows;
mod scratch;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod wide;

macro_rules! define_reference {
    ($($variant:ident => $stem:ident),* $(,)?) => {
        $(mod $stem;)*

        fn run_operator(op: &Op, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
            match op {
                $(Op::$variant(op) => $stem::run(op, io, weights, inputs, output),)*
            }
        }
    };
}
for_each_operator!(define_reference);

/// Runs `body`, compiled for the instructions of `arch`.
///
/// `Arch::dispatch` alone takes closures too, but calls them as `FnOnce`: by way of a shim that is not inlined if it is large,
/// and what is not inlined is compiled for the oldest processors.
#[inline(always)]
fn vectorized(arch: Arch, body: impl FnMut()) {
    struct Body<F>(F);

    impl<F: FnMut()> WithSimd for Body<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) {
            (self.0)();
        }
    }

    arch.dispatch(Body(body));
}

/// A node's weights, laid out for the CPU.
fn prepare(node: &Node) -> Result<Vec<Buffer>> {
    let weights = node.pack()?;
    let weights = match &node.op {
        Op::Conv2d(op) => conv2d::prepare(op, weights),
        Op::ConvTranspose2d(op) => conv_transpose2d::prepare(op, weights),
        Op::FusedConv(op) => fused_conv::prepare(op, weights),
        Op::Linear(op) => linear::prepare(op, weights),
        _ => weights,
    };
    Ok(weights.into_iter().map(Buffer::from).collect())
}

/// A graph ready to run on the CPU.
#[derive(Debug)]
pub struct CpuRunner {
    graph: Arc<Graph>,
    /// For each node, its packed weights.
    weights: Vec<Vec<Buffer>>,
    /// Slots of earlier runs, kept so that a stream of frames does not allocate.
    arena: Mutex<Vec<Buffer>>,
}

impl CpuRunner {
    /// Lays out the weights of `graph`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor does not fit its operator.
    pub fn new(graph: Arc<Graph>) -> Result<Self> {
        // A module with vector instructions loads only where they work.
        #[cfg(target_arch = "wasm32")]
        pulp::wasm::enable_simd128();
        #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
        pulp::wasm::enable_relaxed_simd();
        let weights = graph.nodes().iter().map(prepare).collect::<Result<_>>()?;
        Ok(Self { graph, weights, arena: Mutex::default() })
    }

    /// Runs `plan`, a plan of this runner's graph, on `inputs`; answers its results.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input has not the planned size.
    pub fn run(&self, plan: &Plan, inputs: &[impl Borrow<HostTensor> + Sync]) -> Result<Vec<HostTensor>> {
        self.run_observed(plan, inputs, |_| ())
    }

    /// As [`CpuRunner::run`]; calls `observe` when the inputs are laid out, and then after each step with its node of the graph.
    ///
    /// # Errors
    /// As [`CpuRunner::run`].
    pub fn run_observed(
        &self,
        plan: &Plan,
        inputs: &[impl Borrow<HostTensor> + Sync],
        observe: impl FnMut(Option<usize>) + Send,
    ) -> Result<Vec<HostTensor>> {
        // On one of the pool's threads: from outside, every step would wait for the pool to wake up.
        rayon::scope(|_| self.run_steps(plan, inputs, observe))
    }

    fn run_steps(
        &self,
        plan: &Plan,
        inputs: &[impl Borrow<HostTensor>],
        mut observe: impl FnMut(Option<usize>),
    ) -> Result<Vec<HostTensor>> {
        let mut slots = self.arena.lock().map(|mut arena| std::mem::take(&mut *arena)).unwrap_or_default();
        slots.resize_with(slots.len().max(plan.slots.len()), Buffer::default);
        for (slot, &elements) in slots.iter_mut().zip(&plan.slots) {
            slot.grow(elements);
        }
        for ((slot, place), input) in plan.inputs.iter().zip(inputs) {
            let input = input.borrow();
            if input.shape() != place.shape {
                return Err(Error::shape(format!("an input is {}, planned for {}", input.shape(), place.shape)));
            }
            // The padding lanes keep what an earlier run left: finite, and read by nobody.
            pack(input, &mut slots[*slot]);
        }
        observe(None);
        for step in &plan.steps {
            let mut output = std::mem::take(&mut slots[step.output]);
            let places = step.inputs.iter().zip(&step.io.inputs);
            let inputs: Vec<&[f32]> = places.map(|(&slot, place)| &slots[slot][..stored(place.shape)]).collect();
            let op = &self.graph.nodes()[step.node].op;
            let result = &mut output[..stored(step.io.output.shape)];
            run_operator(op, &step.io, &self.weights[step.node], &inputs, result);
            slots[step.output] = output;
            observe(Some(step.node));
        }
        let results = plan.outputs.iter().map(|(slot, place)| unpack(&slots[*slot], place.shape)).collect();
        if let Ok(mut arena) = self.arena.lock() {
            *arena = slots;
        }
        results
    }
}

/// Runs one operator on whole tensors: how global operators are computed between segments.
///
/// # Errors
/// [`Error::Shape`] and [`Error::Weights`] if inputs or weights do not fit the operator.
pub fn run_node(node: &Node, inputs: &[&HostTensor]) -> Result<HostTensor> {
    let sizes = |axis| inputs.iter().map(|tensor| size_on(tensor.shape(), axis)).collect::<Vec<_>>();
    let channels: Vec<usize> = inputs.iter().map(|tensor| tensor.shape().channels).collect();
    let shape = Shape::new(
        node.op.channels(&channels)?,
        node.op.size(Axis::Vertical, &sizes(Axis::Vertical))?,
        node.op.size(Axis::Horizontal, &sizes(Axis::Horizontal))?,
    );
    let io =
        Io { inputs: inputs.iter().map(|tensor| Place::whole(tensor.shape())).collect(), output: Place::whole(shape) };
    let mut packed = Vec::with_capacity(inputs.len());
    for tensor in inputs {
        let mut values = Buffer::zeroed(stored(tensor.shape()));
        pack(tensor, &mut values);
        packed.push(values);
    }
    let inputs: Vec<&[f32]> = packed.iter().map(|values| &**values).collect();
    shape.stored_elements()?;
    let mut output = Buffer::zeroed(stored(shape));
    run_operator(&node.op, &io, &prepare(node)?, &inputs, &mut output);
    unpack(&output, shape)
}

/// Elements of a stored pixel: whole groups, but a single channel is stored alone, as its padding would be most of what an
/// operator reads and writes.
const fn lanes(channels: usize) -> usize {
    if channels == 1 { 1 } else { channels.next_multiple_of(LANES) }
}

/// Of values for each lane, or of none, those of a stored pixel.
fn of_pixel(values: &[f32], channels: usize) -> &[f32] {
    &values[..values.len().min(lanes(channels))]
}

/// Scale and shift of every lane and PReLU's slopes of a pixel, which are packed one after the other.
fn affine(packed: &[f32], channels: usize) -> (&[f32], &[f32], &[f32]) {
    let padded = channels.next_multiple_of(LANES);
    let (scale, rest) = packed.split_at(padded);
    let (shift, slopes) = rest.split_at(padded);
    (scale, shift, of_pixel(slopes, channels))
}

/// Stored elements of a shape that is known to fit memory.
fn stored(shape: Shape) -> usize {
    shape.height * shape.width * lanes(shape.channels)
}

/// Zeroes the padding lanes of whole pixels of `channels` channels.
fn clear_padding(values: &mut [f32], channels: usize) {
    let lanes = lanes(channels);
    if lanes > channels {
        for pixel in values.chunks_exact_mut(lanes) {
            pixel[channels..].fill(0.0);
        }
    }
}

/// Pixels that a thread changes the layout of at a time.
const PIXELS: usize = 1 << 14;

/// Planar to storage layout; the padding lanes stay as they are.
fn pack(tensor: &HostTensor, packed: &mut [f32]) {
    let shape = tensor.shape();
    let (pixels, lanes) = (shape.height * shape.width, lanes(shape.channels));
    let planes: Vec<&[f32]> = tensor.data().chunks_exact(pixels.max(1)).collect();
    packed[..pixels * lanes].par_chunks_mut(PIXELS * lanes).enumerate().for_each(|(index, packed)| {
        if lanes == 1 {
            packed.copy_from_slice(&planes[0][index * PIXELS..][..packed.len()]);
            return;
        }
        for (channel, plane) in planes.iter().enumerate() {
            for (value, pixel) in plane[index * PIXELS..].iter().zip(packed.chunks_exact_mut(lanes)) {
                pixel[channel] = *value;
            }
        }
    });
}

/// Storage layout to planar.
fn unpack(packed: &[f32], shape: Shape) -> Result<HostTensor> {
    let mut tensor = HostTensor::zeros(shape)?;
    let (pixels, lanes) = (shape.height * shape.width, lanes(shape.channels));
    for (channel, plane) in tensor.data_mut().chunks_exact_mut(pixels.max(1)).enumerate() {
        plane.par_chunks_mut(PIXELS).zip(packed.par_chunks(PIXELS * lanes)).for_each(|(plane, packed)| {
            if lanes == 1 {
                plane.copy_from_slice(&packed[..plane.len()]);
                return;
            }
            for (value, pixel) in plane.iter_mut().zip(packed.chunks_exact(lanes)) {
                *value = pixel[channel];
            }
        });
    }
    Ok(tensor)
}

/// Elements of one row of `shape` as stored: the usual unit of work of a thread.
fn row_elements(shape: Shape) -> usize {
    (shape.width * lanes(shape.channels)).max(1)
}
