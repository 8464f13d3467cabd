//! Runs a generator over an image of any size, tile by tile.
//!
//! A generator without global operators, or an image that fits the device, is one segment. Else the graph is cut at its
//! global operators: each segment runs in tiles, and the values between segments stand whole in host memory.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::engine::{Engine, Part, Started};
use super::event_loop;
use super::job::{Job, Progress};
use crate::cpu;
use crate::error::{Error, Result};
use crate::gpu::{Core, Transfer};
use crate::graph::segment::Segment;
use crate::graph::{Graph, Plan, Value};
use crate::ops::{Axis, Place, Scale, Span};
use crate::tensor::{HostTensor, Shape};
use crate::tile::{self, Tile};

/// How large tiles are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TileSize {
    /// The whole image where its activations fit the memory limit, else in the tiles that fit it and overlap least.
    #[default]
    Auto,
    /// Cores of this many pixels in height and width, rounded up to the generator's alignment.
    Square(usize),
}

/// What a run was, for the report.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) tiles: usize,
    pub(super) tile_size: [usize; 2],
    pub(super) activation_bytes: u64,
    pub(super) flops: u64,
}

/// An image and the graph that runs on it, with the size of every value.
struct Canvas<'a> {
    graph: &'a Graph,
    /// Height and width of the image.
    size: [usize; 2],
    /// For both axes, the size of every value of the graph.
    sizes: [Vec<usize>; 2],
    alignment: [usize; 2],
}

/// One tile of a segment with its plan.
struct Planned {
    plan: Plan,
    /// For each output of the segment, the pixels `[rows, columns]` that the tile alone is responsible for.
    cores: Vec<[Span; 2]>,
}

/// A tile that was started, and where its results go.
struct Waiting {
    started: Started,
    places: Vec<Place>,
    cores: Vec<[Span; 2]>,
}

impl Waiting {
    async fn paste(self, results: &mut [HostTensor]) -> Result<()> {
        let tiles = self.started.finish().await?;
        for (((result, tile), place), core) in results.iter_mut().zip(tiles).zip(&self.places).zip(&self.cores) {
            paste(result, tile, place, core);
        }
        Ok(())
    }
}

/// A segment's results, into which the last tile is still to be pasted.
struct Unfinished {
    results: Vec<HostTensor>,
    last: Option<Waiting>,
}

impl Unfinished {
    async fn finish(mut self) -> Result<Vec<HostTensor>> {
        if let Some(last) = self.last {
            last.paste(&mut self.results).await?;
        }
        Ok(self.results)
    }
}

/// What runs tile by tile, on what and how.
struct Run<'a, 'j> {
    engine: &'a Engine,
    canvas: Canvas<'a>,
    tile: TileSize,
    limit_bytes: u64,
    job: &'a mut Job<'j>,
    outcome: Outcome,
    done: usize,
    total: usize,
}

/// A run on a tensor in host memory, started: the device may still compute the last tile.
pub(super) struct Running {
    unfinished: Unfinished,
    /// The generator's output among the results.
    output: usize,
    outcome: Outcome,
}

impl Running {
    /// Waits for the last tile.
    pub(super) async fn finish(self) -> Result<(HostTensor, Outcome)> {
        let mut results = self.unfinished.finish().await?;
        Ok((results.swap_remove(self.output), self.outcome))
    }
}

/// Runs the generator on a tensor in host memory.
pub(super) async fn run_host(
    engine: &Engine,
    input: &HostTensor,
    tile: TileSize,
    limit_bytes: u64,
    job: &mut Job<'_>,
) -> Result<(HostTensor, Outcome)> {
    start_host(engine, Cow::Borrowed(input), tile, limit_bytes, job).await?.finish().await
}

/// Starts a run of the generator; what has more than one tile is done up to the last.
pub(super) async fn start_host(
    engine: &Engine,
    input: Cow<'_, HostTensor>,
    tile: TileSize,
    limit_bytes: u64,
    job: &mut Job<'_>,
) -> Result<Running> {
    let graph = engine.graph();
    let shape = input.shape();
    let mut run = Run::new(engine, shape, tile, limit_bytes, job)?;
    let result = graph.output()?;
    let missing = || Error::Shape("the generator computed no output".into());
    let mut values: HashMap<Value, Cow<'_, HostTensor>> = HashMap::from([(graph.inputs()[0], input)]);
    let part = engine.whole().await?;
    if run.fits_in_one_piece(&part, shape)? {
        run.total = run.image_pixels();
        match run.host_segment(&part, &values, true).await {
            // The device holds less than the limit says; a generator that looks at the whole image can still be cut.
            Err(Error::OutOfMemory { .. }) if graph.is_global() => {}
            unfinished => {
                let output = part.segment.outputs.iter().position(|value| *value == result).ok_or_else(missing)?;
                return Ok(Running { unfinished: unfinished?, output, outcome: run.outcome });
            }
        }
    }
    let parts = engine.parts().await?;
    run.total = parts.len() * run.image_pixels();
    for (index, part) in parts.iter().enumerate() {
        let results = run.host_segment(part, &values, false).await?.finish().await?;
        values.extend(part.segment.outputs.iter().copied().zip(results.into_iter().map(Cow::Owned)));
        run.global_nodes(&part.segment, &mut values)?;
        let later = &parts[index + 1..];
        let needed = |value: &Value| *value == result || later.iter().any(|part| part.needs(graph, *value));
        values.retain(|value, _| needed(value));
    }
    let results = vec![values.remove(&result).ok_or_else(missing)?.into_owned()];
    Ok(Running { unfinished: Unfinished { results, last: None }, output: 0, outcome: run.outcome })
}

/// Runs the generator on an image on the device.
pub(super) async fn run_device(
    engine: &Engine,
    transfer: &Transfer<'_>,
    tile: TileSize,
    limit_bytes: u64,
    job: &mut Job<'_>,
) -> Result<Outcome> {
    let [height, width] = transfer.input.size();
    let shape = Shape::new(transfer.channels, height, width);
    let mut run = Run::new(engine, shape, tile, limit_bytes, job)?;
    let part = engine.whole_as_it_is()?;
    let whole = engine.graph().is_global();
    run.total = run.image_pixels();
    run.every_tile(&part, whole, async |planned| {
        let (_, place) = planned.plan.output();
        let [rows, columns] = planned.cores[0];
        let core = Core {
            origin: [rows.start as usize, columns.start as usize],
            skip: [rows.start as usize - place.origin[0], columns.start as usize - place.origin[1]],
            size: [rows.len() as usize, columns.len() as usize],
        };
        engine.transfer(&part, &planned.plan, transfer, core).await
    })
    .await?;
    Ok(run.outcome)
}

impl<'a, 'j> Run<'a, 'j> {
    fn new(engine: &'a Engine, shape: Shape, tile: TileSize, limit_bytes: u64, job: &'a mut Job<'j>) -> Result<Self> {
        let graph = engine.graph();
        // Checks the input's channels and size once and for all.
        let whole = graph.plan_whole(shape.height, shape.width)?;
        if graph.channels(graph.inputs()[0]) != shape.channels {
            return Err(Error::Shape(format!(
                "the generator takes {} channels, not {}",
                graph.channels(graph.inputs()[0]),
                shape.channels
            )));
        }
        let scale = graph.scale()?;
        let enlarged = whole.output().1.shape;
        let expected = [(shape.height, enlarged.height), (shape.width, enlarged.width)];
        for (scale, (from, to)) in scale.iter().zip(expected) {
            if scale.down != 1 || from.checked_mul(scale.up) != Some(to) {
                return Err(Error::Options(format!(
                    "the generator turns {shape} into {enlarged}: not a whole enlargement"
                )));
            }
        }
        let size = [shape.height, shape.width];
        let [rows, columns] = Axis::BOTH.map(|axis| graph.sizes(axis, &[size[axis as usize]]));
        let canvas =
            Canvas { graph, size, sizes: [rows?, columns?], alignment: Axis::BOTH.map(|axis| graph.alignment(axis)) };
        Ok(Self { engine, canvas, tile, limit_bytes, job, outcome: Outcome::default(), done: 0, total: 0 })
    }

    fn image_pixels(&self) -> usize {
        self.canvas.size[0] * self.canvas.size[1]
    }

    /// True if the whole graph runs as one segment: it is local, or global and small enough to run untiled.
    fn fits_in_one_piece(&self, part: &Part, shape: Shape) -> Result<bool> {
        if !self.canvas.graph.is_global() {
            return Ok(true);
        }
        let whole = self.canvas.graph.plan_whole(shape.height, shape.width)?;
        Ok(match self.tile {
            TileSize::Auto => self.fits(part, &whole)?,
            TileSize::Square(pixels) => shape.height.max(shape.width) <= pixels,
        })
    }

    /// True if a plan stays within the memory and binding limits.
    fn fits(&self, part: &Part, plan: &Plan) -> Result<bool> {
        let largest = plan.largest_slot() as u64 * self.engine.precision().bytes();
        Ok(largest <= self.engine.binding_limit_bytes() && part.activation_bytes(plan)? <= self.limit_bytes)
    }

    /// Runs one segment over the image, up to its last tile, which is only started.
    async fn host_segment(
        &mut self,
        part: &Part,
        values: &HashMap<Value, Cow<'_, HostTensor>>,
        in_one_piece: bool,
    ) -> Result<Unfinished> {
        let segment = &part.segment;
        let mut results = Vec::new();
        for &value in &segment.outputs {
            let [height, width] = [0, 1].map(|axis: usize| self.canvas.sizes[axis][value.0]);
            results.push(HostTensor::zeros(Shape::new(self.canvas.graph.channels(value), height, width))?);
        }
        let engine = self.engine;
        let whole = in_one_piece && self.canvas.graph.is_global();
        // The tile before the current one: it is read while the device computes the current one.
        let mut before: Option<Waiting> = None;
        self.every_tile(part, whole, async |planned| {
            let mut inputs = Vec::with_capacity(segment.inputs.len());
            for (value, (_, place)) in segment.inputs.iter().zip(&planned.plan.inputs) {
                let whole = values.get(value).ok_or_else(|| Error::Shape("a segment's input is missing".into()))?;
                inputs.push(crop(whole, place)?);
            }
            let started = engine.start(part, &planned.plan, &inputs).await?;
            let places = planned.plan.outputs.iter().map(|(_, place)| *place).collect();
            let current = Waiting { started, places, cores: planned.cores.clone() };
            match before.replace(current) {
                Some(before) => before.paste(&mut results).await,
                None => Ok(()),
            }
        })
        .await?;
        Ok(Unfinished { results, last: before })
    }

    /// Runs `work` on every tile of a segment; a tile that does not fit the device is split and tried again.
    async fn every_tile(
        &mut self,
        part: &Part,
        untiled: bool,
        mut work: impl AsyncFnMut(&Planned) -> Result<()>,
    ) -> Result<()> {
        let segment = &part.segment;
        let core = match self.tile {
            _ if untiled => self.canvas.size,
            TileSize::Auto => self.automatic_core(part)?,
            TileSize::Square(pixels) => Axis::BOTH.map(|axis| {
                let (size, step) = (self.canvas.size[axis as usize], self.canvas.alignment[axis as usize]);
                pixels.clamp(1, size).next_multiple_of(step)
            }),
        };
        let mut waiting: VecDeque<Tile> = tile::cover(self.canvas.size, core);
        // A tile of this many pixels was too large; later ones are split before they are tried.
        let mut too_large = usize::MAX;
        while let Some(tile) = waiting.pop_front() {
            if self.done > 0 {
                event_loop::turn().await;
            }
            if self.job.cancel.as_ref().is_some_and(|token| token.is_cancelled()) {
                return Err(Error::Cancelled);
            }
            let planned = self.canvas.plan(segment, &tile)?;
            let bytes = part.activation_bytes(&planned.plan)?;
            let result =
                if tile.pixels() >= too_large { Err(Error::OutOfMemory { bytes }) } else { work(&planned).await };
            match result {
                Ok(()) => self.finished(&tile, &planned.plan, bytes),
                Err(Error::OutOfMemory { bytes }) if !untiled => {
                    too_large = too_large.min(tile.pixels());
                    let halves = tile.split(self.canvas.alignment).ok_or(Error::OutOfMemory { bytes })?;
                    for half in halves.into_iter().rev() {
                        waiting.push_front(half);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finished(&mut self, tile: &Tile, plan: &Plan, bytes: u64) {
        let outcome = &mut self.outcome;
        outcome.tiles += 1;
        outcome.flops += plan.flops;
        outcome.activation_bytes = outcome.activation_bytes.max(bytes);
        if tile.pixels() > outcome.tile_size[0] * outcome.tile_size[1] {
            outcome.tile_size = tile.size();
        }
        self.done += tile.pixels();
        if let Some(progress) = &mut self.job.progress {
            progress(Progress { done: self.done, total: self.total });
        }
    }

    /// The core whose activations fit the limits and which computes the fewest pixels in all: tiles overlap.
    fn automatic_core(&self, part: &Part) -> Result<[usize; 2]> {
        let size = self.canvas.size;
        let halved = self.halved_core(part)?;
        if halved == size {
            return Ok(size);
        }
        // Others that take as few cuts or fewer: how long, how often, and how long with what they read around them.
        let extents = |axis: Axis| -> Result<Vec<[usize; 3]>> {
            let (at, step) = (axis as usize, self.canvas.alignment[axis as usize]);
            let cuts = size[at].div_ceil(halved[at]);
            let mut cores: Vec<usize> =
                (1..=cuts).map(|count| size[at].div_ceil(count).next_multiple_of(step).min(size[at])).collect();
            cores.dedup();
            let extent = |core: usize| {
                let (_, region) = self.canvas.reads(&part.segment, self.canvas.middle(core, axis), axis)?;
                Ok([core, size[at].div_ceil(core), region.len() as usize])
            };
            cores.into_iter().map(extent).collect()
        };
        let (rows, columns) = (extents(Axis::Vertical)?, extents(Axis::Horizontal)?);
        let mut candidates = Vec::new();
        for [height, down, rows] in rows {
            for &[width, across, columns] in &columns {
                candidates.push((down * rows * across * columns, rows * columns, [height, width]));
            }
        }
        candidates.sort_unstable();
        // A tile of this many pixels is too large.
        let mut too_large = usize::MAX;
        for (_, pixels, core) in candidates {
            if pixels < too_large {
                if self.core_fits(part, core)? {
                    return Ok(core);
                }
                too_large = pixels;
            }
        }
        Ok(halved)
    }

    /// The largest core, found by halving, whose activations fit the limits.
    fn halved_core(&self, part: &Part) -> Result<[usize; 2]> {
        let mut tile = Tile { rows: 0..self.canvas.size[0], columns: 0..self.canvas.size[1] };
        while !self.core_fits(part, tile.size())? {
            match tile.split(self.canvas.alignment) {
                Some([first, _]) => tile = first,
                // The smallest tile is tried whatever the limit says; the device has the last word.
                None => break,
            }
        }
        Ok(tile.size())
    }

    /// True if tiles of this core fit the limits: one in the middle of the image, which has its halo on all sides.
    fn core_fits(&self, part: &Part, core: [usize; 2]) -> Result<bool> {
        self.fits(part, &self.canvas.plan(&part.segment, &self.canvas.centred(core))?.plan)
    }

    /// Computes the global operators behind a segment from whole tensors, on the CPU.
    fn global_nodes(&self, segment: &Segment, values: &mut HashMap<Value, Cow<'_, HostTensor>>) -> Result<()> {
        for &index in &segment.global_nodes {
            let node = &self.canvas.graph.nodes()[index];
            let inputs: Option<Vec<&HostTensor>> =
                node.inputs.iter().map(|value| values.get(value).map(Cow::as_ref)).collect();
            let inputs = inputs.ok_or_else(|| Error::Shape("a global operator's input is missing".into()))?;
            let result = cpu::run_node(node, &inputs)?;
            values.insert(node.output, Cow::Owned(result));
        }
        Ok(())
    }
}

impl Canvas<'_> {
    fn plan(&self, segment: &Segment, tile: &Tile) -> Result<Planned> {
        let mut regions = [Span::new(0, 0); 2];
        let mut cores = vec![[Span::new(0, 0); 2]; segment.outputs.len()];
        for (axis, core) in Axis::BOTH.into_iter().zip([&tile.rows, &tile.columns]) {
            let at = axis as usize;
            let core = Span::new(core.start as i64, core.end as i64);
            let wanted;
            (wanted, regions[at]) = self.reads(segment, core, axis)?;
            cores.iter_mut().zip(wanted).for_each(|(span, wanted)| span[at] = wanted);
        }
        let places: Vec<Place> = segment.inputs.iter().map(|&value| self.place(value, regions)).collect();
        Ok(Planned { plan: segment.graph.plan(&places)?, cores })
    }

    /// The pixels of each output that a tile with this core is responsible for, and the image's pixels that it reads for them.
    fn reads(&self, segment: &Segment, core: Span, axis: Axis) -> Result<(Vec<Span>, Span)> {
        let at = axis as usize;
        let wanted: Vec<Span> = segment.outputs.iter().map(|&value| self.to_value(core, value, axis)).collect();
        let sizes: Vec<usize> = segment.inputs.iter().map(|value| self.sizes[at][value.0]).collect();
        let reads = segment.graph.reads(axis, &wanted, &sizes)?;
        let mut region = core;
        for (&value, span) in segment.inputs.iter().zip(reads) {
            let scale = self.graph.scale_of(value, axis);
            if scale.up > 0 && !span.is_empty() {
                region = region.union(to_image(span, scale));
            }
        }
        Ok((wanted, region.align(self.alignment[at]).clip(self.size[at])))
    }

    /// The pixels of `value` that belong to the image's pixels `span`. What a value has beyond the image, a padding to a
    /// multiple, belongs to the image's last pixels.
    fn to_value(&self, span: Span, value: Value, axis: Axis) -> Span {
        let at = axis as usize;
        let full = self.sizes[at][value.0] as i64;
        let Scale { up, down } = self.graph.scale_of(value, axis);
        if up == 0 {
            return Span::new(0, full);
        }
        let scaled = |position: i64| position * up as i64 / down as i64;
        let end = if span.end >= self.size[at] as i64 { full } else { scaled(span.end).min(full) };
        Span::new(scaled(span.start).min(full), end)
    }

    fn place(&self, value: Value, regions: [Span; 2]) -> Place {
        let [rows, columns] = Axis::BOTH.map(|axis| self.to_value(regions[axis as usize], value, axis));
        Place {
            shape: Shape::new(self.graph.channels(value), rows.len() as usize, columns.len() as usize),
            origin: [rows.start as usize, columns.start as usize],
            full: [self.sizes[0][value.0], self.sizes[1][value.0]],
        }
    }

    /// The tile of this core near the middle of the image.
    fn centred(&self, core: [usize; 2]) -> Tile {
        let [rows, columns] = Axis::BOTH.map(|axis| {
            let span = self.middle(core[axis as usize], axis);
            span.start as usize..span.end as usize
        });
        Tile { rows, columns }
    }

    /// `length` pixels near the middle of the image.
    fn middle(&self, length: usize, axis: Axis) -> Span {
        let at = axis as usize;
        let start = (self.size[at] - length) / 2 / self.alignment[at] * self.alignment[at];
        Span::new(start as i64, (start + length) as i64)
    }
}

/// The image's pixels under the pixels `span` of a value, outwards.
fn to_image(span: Span, scale: Scale) -> Span {
    let (up, down) = (scale.up as i64, scale.down as i64);
    Span::new((span.start * down).div_euclid(up), (span.end * down + up - 1).div_euclid(up))
}

/// The part of `tensor` at `place`.
fn crop<'t>(tensor: &'t HostTensor, place: &Place) -> Result<Cow<'t, HostTensor>> {
    let (shape, part) = (tensor.shape(), place.shape);
    if part == shape {
        return Ok(Cow::Borrowed(tensor));
    }
    let [top, left] = place.origin;
    let mut data = Vec::with_capacity(part.elements()?);
    for channel in 0..shape.channels {
        for y in top..top + part.height {
            let row = (channel * shape.height + y) * shape.width + left;
            data.extend_from_slice(&tensor.data()[row..row + part.width]);
        }
    }
    HostTensor::new(part, data).map(Cow::Owned)
}

/// Copies the core of a tile's result, which stands at `place`, into the whole result.
fn paste(whole: &mut HostTensor, tile: HostTensor, place: &Place, core: &[Span; 2]) {
    let (to, from) = (whole.shape(), tile.shape());
    if *core == [to.height, to.width].map(|size| Span::new(0, size as i64)) && from == to {
        *whole = tile;
        return;
    }
    let [rows, columns] = core.map(|span| span.start as usize..span.end as usize);
    let width = columns.len();
    for channel in 0..to.channels {
        for y in rows.clone() {
            let source = (channel * from.height + y - place.origin[0]) * from.width + columns.start - place.origin[1];
            let target = (channel * to.height + y) * to.width + columns.start;
            whole.data_mut()[target..target + width].copy_from_slice(&tile.data()[source..source + width]);
        }
    }
}
