//! Runs a generator over an image of any size, tile by tile.

use std::collections::VecDeque;

use super::engine::Engine;
use super::job::{Job, Progress};
use crate::error::{Error, Result};
use crate::gpu::{Core, Precision, Transfer};
use crate::graph::Plan;
use crate::ops::{Axis, Place, Span};
use crate::tensor::{HostTensor, Shape};
use crate::tile::{self, Tile};

/// How large tiles are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TileSize {
    /// The whole image where its activations fit the memory limit, else the largest tile that does.
    #[default]
    Auto,
    /// Cores of this many pixels in height and width, rounded up to the generator's alignment.
    Square(usize),
}

/// Where the picture is and where the result goes.
pub(super) enum Images<'a> {
    /// In host memory; the result replaces `output`.
    Host { input: &'a HostTensor, output: HostTensor },
    /// On the device.
    Device(Transfer<'a>),
}

impl Images<'_> {
    fn shape(&self) -> Shape {
        match self {
            Self::Host { input, .. } => input.shape(),
            Self::Device(transfer) => {
                let [height, width] = transfer.input.size();
                Shape::new(transfer.channels, height, width)
            }
        }
    }
}

/// What a run was, for the report.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) tiles: usize,
    pub(super) tile_size: [usize; 2],
    pub(super) activation_bytes: u64,
    pub(super) flops: u64,
}

/// A tile with its plan.
struct Planned {
    plan: Plan,
    /// What the tile reads, `[rows, columns]`, in input pixels.
    region: [Span; 2],
}

/// Runs the generator on a tensor in host memory.
pub(super) async fn run_host(
    engine: &Engine,
    input: &HostTensor,
    size: TileSize,
    limit_bytes: u64,
    job: &mut Job<'_>,
) -> Result<(HostTensor, Outcome)> {
    let mut images = Images::Host { input, output: HostTensor::zeros(Shape::new(0, 0, 0))? };
    let outcome = run(engine, &mut images, size, limit_bytes, job).await?;
    match images {
        Images::Host { output, .. } => Ok((output, outcome)),
        Images::Device(_) => Err(Error::Options("the result is on the device".into())),
    }
}

/// Runs the generator on all tiles of an image.
pub(super) async fn run(
    engine: &Engine,
    images: &mut Images<'_>,
    size: TileSize,
    limit_bytes: u64,
    job: &mut Job<'_>,
) -> Result<Outcome> {
    let graph = engine.graph();
    let shape = images.shape();
    // The whole image's plan checks the input's channels and size once and for all.
    let whole = graph.plan_whole(shape.height, shape.width)?;
    let scale = graph.scale()?;
    if scale.iter().any(|scale| scale.down != 1 || scale.up == 0) {
        return Err(Error::Options("a generator that shrinks its image cannot be used on pictures".into()));
    }
    let scale = scale.map(|scale| scale.up);
    let alignment = Axis::BOTH.map(|axis| graph.alignment(axis));
    let enlarged = whole.output().1.shape;
    if enlarged.height != shape.height * scale[0] || enlarged.width != shape.width * scale[1] {
        return Err(Error::Options(format!("the generator turns {shape} into {enlarged}: not a whole scale")));
    }
    if let Images::Host { output, .. } = images {
        *output = HostTensor::zeros(enlarged)?;
    }

    let mut waiting: VecDeque<Tile> = match size {
        // Global operators see the whole image.
        _ if graph.is_global() => tile::cover([shape.height, shape.width], [shape.height, shape.width]),
        TileSize::Auto => tile::cover([shape.height, shape.width], automatic_core(engine, shape, alignment, limit_bytes)?),
        TileSize::Square(pixels) => {
            let core = alignment.map(|step| pixels.max(1).next_multiple_of(step));
            tile::cover([shape.height, shape.width], core)
        }
    };
    // A tile of this many pixels was too large; later ones are split before they are tried.
    let mut too_large = usize::MAX;
    let mut outcome = Outcome::default();
    let mut done = 0;
    while let Some(tile) = waiting.pop_front() {
        if job.cancel.as_ref().is_some_and(|token| token.is_cancelled()) {
            return Err(Error::Cancelled);
        }
        let planned = plan_tile(engine, shape, &tile, scale)?;
        let bytes = activation_bytes(engine, &planned.plan);
        let result = if tile.pixels() >= too_large {
            Err(Error::OutOfMemory { bytes })
        } else {
            run_tile(engine, images, &planned, &tile, scale).await
        };
        match result {
            Ok(()) => {
                done += tile.pixels();
                outcome.tiles += 1;
                outcome.flops += planned.plan.flops;
                outcome.activation_bytes = outcome.activation_bytes.max(bytes);
                let larger = tile.pixels() > outcome.tile_size[0] * outcome.tile_size[1];
                outcome.tile_size = if larger { tile.size() } else { outcome.tile_size };
                if let Some(progress) = &mut job.progress {
                    progress(Progress { done, total: shape.height * shape.width });
                }
            }
            Err(Error::OutOfMemory { bytes }) if !graph.is_global() => {
                too_large = too_large.min(tile.pixels());
                let halves = tile.split(alignment).ok_or(Error::OutOfMemory { bytes })?;
                for half in halves.into_iter().rev() {
                    waiting.push_front(half);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(outcome)
}

async fn run_tile(
    engine: &Engine,
    images: &mut Images<'_>,
    planned: &Planned,
    tile: &Tile,
    scale: [usize; 2],
) -> Result<()> {
    let core = Core {
        origin: [tile.rows.start * scale[0], tile.columns.start * scale[1]],
        skip: [
            (tile.rows.start - planned.region[0].start as usize) * scale[0],
            (tile.columns.start - planned.region[1].start as usize) * scale[1],
        ],
        size: [tile.rows.len() * scale[0], tile.columns.len() * scale[1]],
    };
    match images {
        Images::Host { input, output } => {
            let result = engine.run(&planned.plan, crop(input, planned.region)).await?;
            paste(output, &result, &core);
            Ok(())
        }
        Images::Device(transfer) => engine.gpu()?.transfer(&planned.plan, transfer, core).await,
    }
}

fn activation_bytes(engine: &Engine, plan: &Plan) -> u64 {
    plan.slot_elements() * engine.precision().bytes()
}

/// The largest core, found by halving, whose activations fit the limits.
fn automatic_core(engine: &Engine, shape: Shape, alignment: [usize; 2], limit_bytes: u64) -> Result<[usize; 2]> {
    let graph = engine.graph();
    let binding_limit = engine.binding_limit_bytes();
    let precision: Precision = engine.precision();
    let scale = graph.scale()?.map(|scale| scale.up);
    let mut tile = Tile { rows: 0..shape.height, columns: 0..shape.width };
    loop {
        // In the middle of the image the halo is on all sides.
        let middle = centred(&tile, shape, alignment);
        let plan = plan_tile(engine, shape, &middle, scale)?.plan;
        let fits = activation_bytes(engine, &plan) <= limit_bytes
            && plan.largest_slot() as u64 * precision.bytes() <= binding_limit;
        if fits {
            return Ok(tile.size());
        }
        match tile.split(alignment) {
            Some([first, _]) => tile = first,
            // The smallest tile is tried whatever the limit says; the device has the last word.
            None => return Ok(tile.size()),
        }
    }
}

/// A tile of the same size near the middle of the image.
fn centred(tile: &Tile, shape: Shape, alignment: [usize; 2]) -> Tile {
    let place = |length: usize, size: usize, step: usize| {
        let start = (size - length) / 2 / step * step;
        start..start + length
    };
    Tile {
        rows: place(tile.rows.len(), shape.height, alignment[0]),
        columns: place(tile.columns.len(), shape.width, alignment[1]),
    }
}

fn plan_tile(engine: &Engine, shape: Shape, tile: &Tile, scale: [usize; 2]) -> Result<Planned> {
    let graph = engine.graph();
    let sizes = [shape.height, shape.width];
    let mut region = [Span::new(0, 0); 2];
    for (axis, core) in Axis::BOTH.into_iter().zip([&tile.rows, &tile.columns]) {
        let at = axis as usize;
        let wanted = Span::new((core.start * scale[at]) as i64, (core.end * scale[at]) as i64);
        region[at] = graph.region(axis, wanted, sizes[at])?;
    }
    let place = Place {
        shape: shape.resized(region[0].len() as usize, region[1].len() as usize),
        origin: region.map(|span| span.start as usize),
        full: sizes,
    };
    Ok(Planned { plan: graph.plan(&[place])?, region })
}

/// The part of `tensor` inside `region`.
fn crop(tensor: &HostTensor, region: [Span; 2]) -> HostTensor {
    let shape = tensor.shape();
    if region == [Span::all(shape.height), Span::all(shape.width)] {
        return tensor.clone();
    }
    let [rows, columns] = region.map(|span| span.start as usize..span.end as usize);
    let mut data = Vec::with_capacity(shape.channels * rows.len() * columns.len());
    for channel in 0..shape.channels {
        for y in rows.clone() {
            let row = (channel * shape.height + y) * shape.width;
            data.extend_from_slice(&tensor.data()[row + columns.start..row + columns.end]);
        }
    }
    let cropped = shape.resized(rows.len(), columns.len());
    HostTensor::new(cropped, data).expect("rows times columns of every channel were copied")
}

/// Copies a tile's core from the result of its region.
fn paste(output: &mut HostTensor, result: &HostTensor, core: &Core) {
    let (to, from) = (output.shape(), result.shape());
    let [height, width] = core.size;
    for channel in 0..to.channels {
        for y in 0..height {
            let source = (channel * from.height + core.skip[0] + y) * from.width + core.skip[1];
            let target = (channel * to.height + core.origin[0] + y) * to.width + core.origin[1];
            output.data_mut()[target..target + width].copy_from_slice(&result.data()[source..source + width]);
        }
    }
}
