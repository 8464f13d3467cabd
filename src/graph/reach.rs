//! What part of the input an output depends on: the halo of a tile, derived from the operators.

use super::Graph;
use crate::error::Result;
use crate::ops::span::lcm;
use crate::ops::{Axis, Scale, Span};

/// Half the size of an image far larger than any generator's reach.
const MANY_PIXELS: usize = 1 << 16;

impl Graph {
    /// Tiles must start at multiples of this many input pixels, so that strides and windows fall as in the whole image.
    pub fn alignment(&self, axis: Axis) -> usize {
        let mut alignment = 1;
        for node in &self.nodes {
            let Scale { up, down } = self.scale_of(node.inputs[0], axis);
            if up > 0 {
                // The smallest step of the input that is a whole multiple of the operator's own alignment here.
                alignment = lcm(alignment, Scale::new(node.op.alignment(axis) * down, up).up);
            }
        }
        alignment
    }

    /// The input pixels that the output pixels in `wanted` depend on, aligned outwards and clipped to the image.
    ///
    /// `size` is the image's size on this axis. For a graph with one input at the image's own scale.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the size does not suit the graph.
    pub fn region(&self, axis: Axis, wanted: Span, size: usize) -> Result<Span> {
        let reads = self.reads(axis, &[wanted], &[size])?[0];
        Ok(reads.align(self.alignment(axis)).clip(size))
    }

    /// The pixels of every input that the `wanted` pixels of every output depend on, clipped to the inputs' `sizes`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the sizes do not suit the graph.
    pub fn reads(&self, axis: Axis, wanted: &[Span], sizes: &[usize]) -> Result<Vec<Span>> {
        let sizes = self.sizes(axis, sizes)?;
        let mut needed = vec![Span::new(0, 0); self.values.len()];
        for (output, wanted) in self.outputs().iter().zip(wanted) {
            needed[output.0] = needed[output.0].union(wanted.clip(sizes[output.0]));
        }
        for node in self.nodes.iter().rev() {
            let wanted = needed[node.output.0];
            if wanted.is_empty() {
                continue;
            }
            for (index, value) in node.inputs.iter().enumerate() {
                let size = sizes[value.0];
                let reads = node.op.reads(axis, index, wanted, size).clip(size);
                needed[value.0] = needed[value.0].union(reads);
            }
        }
        Ok(self.inputs.iter().map(|input| needed[input.0]).collect())
    }

    /// The size of every value on one axis, from those of the inputs.
    pub(crate) fn sizes(&self, axis: Axis, inputs: &[usize]) -> Result<Vec<usize>> {
        let mut sizes = vec![0; self.values.len()];
        for (input, &size) in self.inputs.iter().zip(inputs) {
            sizes[input.0] = size;
        }
        for node in &self.nodes {
            let inputs: Vec<usize> = node.inputs.iter().map(|value| sizes[value.0]).collect();
            sizes[node.output.0] = node.op.size(axis, &inputs)?;
        }
        Ok(sizes)
    }

    /// The receptive-field radius in input pixels: how far from its own position an output pixel reads, at most.
    ///
    /// `None` if it reads the whole image.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the graph has no output.
    pub fn reach(&self, axis: Axis) -> Result<Option<usize>> {
        if self.is_global() {
            return Ok(None);
        }
        let alignment = self.alignment(axis);
        let scale = self.scale()?[axis as usize];
        // Observed in the middle of a large image, over one period of the grid.
        let half = alignment * MANY_PIXELS.div_ceil(alignment);
        let mut reach = 0;
        for offset in 0..alignment {
            let position = half + offset;
            let first = (position * scale.up / scale.down) as i64;
            let last = ((position + 1) * scale.up).div_ceil(scale.down) as i64;
            let region = self.reads(axis, &[Span::new(first, last.max(first + 1))], &[2 * half])?[0];
            let position = position as i64;
            reach = reach.max(position - region.start).max(region.end - 1 - position);
        }
        Ok(Some(reach as usize))
    }
}
