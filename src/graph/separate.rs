//! Separation: a large kernel of rank one over a single channel (a mean, a Gaussian) becomes one of its columns and one of
//! its rows, which differ from it by rounding only.

use std::sync::Arc;

use super::{Graph, Info, Node};
use crate::error::Result;
use crate::ops::activation::Function;
use crate::ops::conv2d::Conv2d;
use crate::ops::{Op, Param};

/// Kernels of fewer elements take less time as they are.
const LEAST_ELEMENTS: usize = 25;
/// How far an element may be from the product of its column and its row, relative to the largest element.
const TOLERANCE: f32 = 1e-6;

impl Graph {
    /// The same computation with such kernels separated.
    ///
    /// # Errors
    /// None: the kernels' sizes are known to fit.
    pub(super) fn separated(mut self) -> Result<Self> {
        for node in std::mem::take(&mut self.nodes) {
            match separate(&node)? {
                Some([(columns, column), (rows, row)]) => {
                    let scale = self.values[node.inputs[0].0].scale;
                    let middle = self.add_value(Info { channels: 1, scale });
                    self.nodes.push(Node {
                        op: columns.into(),
                        inputs: vec![node.inputs[0]],
                        params: vec![Arc::new(column)],
                        output: middle,
                    });
                    let mut last = Node { op: rows.into(), ..node };
                    last.inputs[0] = middle;
                    last.params[0] = Arc::new(row);
                    self.nodes.push(last);
                }
                None => self.nodes.push(node),
            }
        }
        Ok(self)
    }
}

/// The convolution of a node by columns and by rows, each with its weight.
fn separate(node: &Node) -> Result<Option<[(Conv2d, Param); 2]>> {
    let Op::Conv2d(conv) = &node.op else { return Ok(None) };
    let [height, width] = conv.kernel;
    if [conv.in_channels, conv.out_channels] != [1, 1]
        || conv.stride != [1, 1]
        || height.min(width) == 1
        || height * width < LEAST_ELEMENTS
    {
        return Ok(None);
    }
    let weight = &node.params[0];
    let Some((column, row)) = factors(&weight.data, width) else { return Ok(None) };
    let line = |axis: usize, values: Vec<f32>| {
        let mut shape = vec![1; 4];
        shape[2 + axis] = values.len();
        Param::new(weight.name.clone(), shape, values)
    };
    let mut columns = Conv2d { bias: false, activation: Function::Identity, residual: None, ..conv.clone() };
    let mut rows = conv.clone();
    (columns.kernel[1], columns.padding[1], columns.dilation[1]) = (1, [0, 0], 1);
    (rows.kernel[0], rows.padding[0], rows.dilation[0]) = (1, [0, 0], 1);
    Ok(Some([(columns, line(0, column)?), (rows, line(1, row)?)]))
}

/// Column and row whose product is `kernel`, if there are such.
fn factors(kernel: &[f32], width: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let (pivot, &largest) = kernel.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    if largest == 0.0 {
        return None;
    }
    let column: Vec<f32> = kernel.iter().skip(pivot % width).step_by(width).map(|value| value / largest).collect();
    let row = &kernel[pivot / width * width..][..width];
    let fits = |(index, &value): (usize, &f32)| {
        (value - column[index / width] * row[index % width]).abs() <= TOLERANCE * largest.abs()
    };
    kernel.iter().enumerate().all(fits).then(|| (column, row.to_vec()))
}
