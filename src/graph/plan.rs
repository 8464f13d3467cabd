//! Fixes a graph's sizes for one image or tile, and shares buffers between values that do not live at the same time.

use super::{Graph, Node, Value};
use crate::error::{Error, Result};
use crate::ops::{Axis, Io, Place};
use crate::tensor::Shape;

/// One operator of a [`Plan`].
#[derive(Clone, Debug)]
pub struct Step {
    /// Index in [`Graph::nodes`].
    pub node: usize,
    /// What it reads and writes.
    pub io: Io,
    /// Slots of its inputs.
    pub inputs: Vec<usize>,
    /// Slot of its output.
    pub output: usize,
}

/// A graph with all sizes fixed: what runs, in which order, in which buffer slots.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operators in the order of execution.
    pub steps: Vec<Step>,
    /// Elements of each slot, padding lanes included.
    pub slots: Vec<usize>,
    /// Slot and place of each input.
    pub inputs: Vec<(usize, Place)>,
    /// Slot and place of each result.
    pub outputs: Vec<(usize, Place)>,
    /// Floating-point operations.
    pub flops: u64,
    /// Elements read and written by the operators, padding lanes included, each tensor once for each use.
    pub traffic_elements: u64,
}

impl Plan {
    /// Slot and place of the first result.
    pub fn output(&self) -> (usize, Place) {
        self.outputs[0]
    }

    /// Elements of all slots together: the memory for activations.
    pub fn slot_elements(&self) -> u64 {
        self.slots.iter().map(|&elements| elements as u64).sum()
    }

    /// Elements of the largest slot: what one storage binding must hold.
    pub fn largest_slot(&self) -> usize {
        self.slots.iter().copied().max().unwrap_or(0)
    }
}

impl Graph {
    /// Plans a run on the whole of an image of `height` x `width` pixels.
    ///
    /// # Errors
    /// [`Error::Shape`] if the size does not suit the graph.
    pub fn plan_whole(&self, height: usize, width: usize) -> Result<Plan> {
        let places: Vec<Place> =
            self.inputs.iter().map(|&value| Place::whole(Shape::new(self.channels(value), height, width))).collect();
        self.plan(&places)
    }

    /// Plans a run on the given inputs, tiles of an image or whole images.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes do not suit the graph, or a tile's origin is not aligned to it.
    pub fn plan(&self, inputs: &[Place]) -> Result<Plan> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::shape(format!("the graph has {} inputs, not {}", self.inputs.len(), inputs.len())));
        }
        let places = self.places(inputs)?;
        let io = |node: &Node| Io {
            inputs: node.inputs.iter().map(|value| places[value.0]).collect(),
            output: places[node.output.0],
        };
        // A result is a tensor of its own.
        let is_copy = |node: &Node| !self.outputs.contains(&node.output) && node.op.is_copy(&io(node));
        let copies: Vec<bool> = self.nodes.iter().map(is_copy).collect();
        let last_use = self.last_uses(&copies);

        let (slot_of, slots) = self.slots(&places, &last_use, &copies)?;

        let mut steps = Vec::new();
        let mut flops = 0u64;
        let mut traffic = 0u64;
        for (index, node) in self.nodes.iter().enumerate() {
            if last_use[node.output.0].is_none() || copies[index] {
                continue;
            }
            let io = io(node);
            flops = flops.saturating_add(node.op.flops(&io));
            for place in node.op.moved(&io) {
                traffic = traffic.saturating_add(place.shape.stored_elements()? as u64);
            }
            let inputs = node.inputs.iter().map(|value| slot_of[value.0]).collect();
            steps.push(Step { node: index, io, inputs, output: slot_of[node.output.0] });
        }
        self.output()?;
        Ok(Plan {
            steps,
            slots,
            inputs: self.inputs.iter().map(|value| (slot_of[value.0], places[value.0])).collect(),
            outputs: self.outputs.iter().map(|value| (slot_of[value.0], places[value.0])).collect(),
            flops,
            traffic_elements: traffic,
        })
    }

    /// The slot of every value, and the elements of every slot, by whichever of two ways takes less memory. The result of a node that
    /// copies is where its input is.
    fn slots(&self, places: &[Place], last_use: &[Option<usize>], copies: &[bool]) -> Result<(Vec<usize>, Vec<usize>)> {
        let mut slots = Slots::default();
        let mut slot_of = vec![usize::MAX; self.values.len()];
        let mut lives = Vec::new();
        for &value in &self.inputs {
            let elements = places[value.0].shape.stored_elements()?;
            slot_of[value.0] = slots.take(elements);
            // An input that nobody reads still is uploaded.
            lives.push(Life {
                value,
                elements,
                first: 0,
                last: last_use[value.0].map_or(0, |last| last.saturating_add(1)),
            });
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(last) = last_use[node.output.0] else { continue };
            let elements = places[node.output.0].shape.stored_elements()?;
            if copies[index] {
                slot_of[node.output.0] = slot_of[node.inputs[0].0];
            } else {
                slot_of[node.output.0] = slots.take(elements);
                lives.push(Life { value: node.output, elements, first: index + 1, last: last.saturating_add(1) });
            }
            let done = node.inputs.iter().filter(|value| last_use[value.0] == Some(index));
            let mut done: Vec<usize> = done.map(|value| slot_of[value.0]).collect();
            done.sort_unstable();
            done.dedup();
            done.into_iter().for_each(|slot| slots.give_back(slot));
        }
        let (mut by_size, sizes) = slots_by_size(lives, self.values.len());
        for (node, _) in self.nodes.iter().zip(copies).filter(|(_, is_copy)| **is_copy) {
            by_size[node.output.0] = by_size[node.inputs[0].0];
        }
        let total = |sizes: &[usize]| sizes.iter().map(|&elements| elements as u64).sum::<u64>();
        let better = total(&sizes) < total(&slots.sizes);
        Ok(if better { (by_size, sizes) } else { (slot_of, slots.sizes) })
    }

    /// Where every value stands.
    fn places(&self, inputs: &[Place]) -> Result<Vec<Place>> {
        let mut places = vec![Place::whole(Shape::new(0, 0, 0)); self.values.len()];
        for (&value, place) in self.inputs.iter().zip(inputs) {
            if place.shape.channels != self.channels(value) {
                return Err(Error::shape(format!(
                    "the generator takes {} channels, not {}",
                    self.channels(value),
                    place.shape.channels
                )));
            }
            if place.shape.height == 0 || place.shape.width == 0 {
                return Err(Error::shape("an image without pixels cannot be enhanced"));
            }
            places[value.0] = *place;
        }
        for node in &self.nodes {
            let mut place = Place::whole(Shape::new(self.channels(node.output), 0, 0));
            for axis in Axis::BOTH {
                let at = axis as usize;
                let from: Vec<Place> = node.inputs.iter().map(|value| places[value.0]).collect();
                let sizes: Vec<usize> = from.iter().map(|place| size_on(place.shape, axis)).collect();
                let fulls: Vec<usize> = from.iter().map(|place| place.full[at]).collect();
                let size = node.op.size(axis, &sizes)?;
                match axis {
                    Axis::Vertical => place.shape.height = size,
                    Axis::Horizontal => place.shape.width = size,
                }
                place.full[at] = node.op.size(axis, &fulls)?;
                let origin = from[0].origin[at];
                let aligned = origin.is_multiple_of(node.op.alignment(axis).max(1));
                let moved = node.op.scale(axis).apply(origin).filter(|_| aligned);
                place.origin[at] = moved.ok_or_else(|| {
                    Error::shape(format!("a tile that starts at pixel {origin} does not suit the generator"))
                })?;
            }
            places[node.output.0] = place;
        }
        Ok(places)
    }

    /// The index of the last node that reads each value, or a copy of it; `usize::MAX` for the result, `None` if nothing needs it.
    fn last_uses(&self, copies: &[bool]) -> Vec<Option<usize>> {
        let mut last = vec![None; self.values.len()];
        for output in &self.outputs {
            last[output.0] = Some(usize::MAX);
        }
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if let Some(output) = last[node.output.0] {
                for value in &node.inputs {
                    last[value.0].get_or_insert(index);
                }
                if copies[index] {
                    let source = &mut last[node.inputs[0].0];
                    *source = (*source).max(Some(output));
                }
            }
        }
        // A copy is there as long as what it is of.
        for (node, _) in self.nodes.iter().zip(copies).filter(|(_, is_copy)| **is_copy) {
            if last[node.output.0].is_some() {
                last[node.output.0] = last[node.inputs[0].0];
            }
        }
        last
    }
}

/// The size of `shape` on one axis.
pub(crate) fn size_on(shape: Shape, axis: Axis) -> usize {
    match axis {
        Axis::Vertical => shape.height,
        Axis::Horizontal => shape.width,
    }
}

/// The steps, counted from one, from the one that computes a value to the last that reads it; inputs are there at zero.
struct Life {
    value: Value,
    elements: usize,
    first: usize,
    last: usize,
}

/// Slots for values that are all known beforehand: the largest first, each in the smallest slot that nobody else needs at
/// the same time. Answers the slot of every value and the size of every slot.
///
/// Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020 (greedy by size).
fn slots_by_size(mut lives: Vec<Life>, values: usize) -> (Vec<usize>, Vec<usize>) {
    lives.sort_by_key(|life| std::cmp::Reverse(life.elements));
    let mut slot_of = vec![usize::MAX; values];
    let mut sizes: Vec<usize> = Vec::new();
    let mut taken: Vec<Vec<(usize, usize)>> = Vec::new();
    for life in lives {
        // Later slots are smaller.
        let free =
            |busy: &Vec<(usize, usize)>| busy.iter().all(|&(first, last)| life.last < first || last < life.first);
        let slot = taken.iter().rposition(free).unwrap_or_else(|| {
            sizes.push(life.elements);
            taken.push(Vec::new());
            sizes.len() - 1
        });
        taken[slot].push((life.first, life.last));
        slot_of[life.value.0] = slot;
    }
    (slot_of, sizes)
}

/// Buffer slots, shared by values whose lifetimes do not overlap, given out in the order of execution.
#[derive(Default)]
struct Slots {
    /// Elements of each slot.
    sizes: Vec<usize>,
    free: Vec<usize>,
}

impl Slots {
    /// The smallest free slot that is large enough; else the largest free one, grown; else a new one.
    fn take(&mut self, elements: usize) -> usize {
        let fitting =
            self.free.iter().copied().filter(|&slot| self.sizes[slot] >= elements).min_by_key(|&slot| self.sizes[slot]);
        let chosen = fitting.or_else(|| self.free.iter().copied().max_by_key(|&slot| self.sizes[slot]));
        match chosen {
            Some(slot) => {
                self.free.retain(|&free| free != slot);
                self.sizes[slot] = self.sizes[slot].max(elements);
                slot
            }
            None => {
                self.sizes.push(elements);
                self.sizes.len() - 1
            }
        }
    }

    /// Lets a later value have the slot.
    fn give_back(&mut self, slot: usize) {
        self.free.push(slot);
    }
}
