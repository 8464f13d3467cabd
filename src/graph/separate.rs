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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuRunner;
    use crate::ops::Border;
    use crate::ops::conv2d::Residual;
    use crate::tensor::{HostTensor, Shape};

    /// A graph of one convolution with a residual.
    fn graph(kernel: Vec<f32>, size: [usize; 2], border: Border) -> Graph {
        let mut graph = Graph::new();
        let image = graph.input(1);
        let padding = size.map(|size| [size / 2, size - 1 - size / 2]);
        let conv = Conv2d {
            padding,
            border,
            bias: true,
            activation: Function::Relu,
            residual: Some(Residual::AfterActivation),
            ..Conv2d::new(1, 1, size)
        };
        let weight = Param::new("weight", vec![1, 1, size[0], size[1]], kernel).unwrap();
        let bias = Param::new("bias", vec![1], vec![-0.3]).unwrap();
        let output = graph.push(conv, &[image, image], vec![Arc::new(weight), Arc::new(bias)]).unwrap();
        graph.set_output(output);
        graph
    }

    fn run(graph: Graph) -> Vec<f32> {
        let shape = Shape::new(1, 11, 9);
        let values = (0..99).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let plan = graph.plan_whole(11, 9).unwrap();
        let runner = CpuRunner::new(Arc::new(graph)).unwrap();
        runner.run(&plan, &[HostTensor::new(shape, values).unwrap()]).unwrap().remove(0).data().to_vec()
    }

    #[test]
    fn kernels_of_rank_one_are_separated_and_answer_the_same() {
        let (column, row) = ([0.5, -1.0, 2.0, 0.25, 1.5], [1.0, 3.0, -0.5, 0.0, 2.0, 1.0, 0.125]);
        let kernel: Vec<f32> = column.iter().flat_map(|a| row.map(|b| a * b)).collect();
        for border in [Border::Zero, Border::Reflect, Border::Replicate] {
            let whole = graph(kernel.clone(), [5, 7], border);
            let separated = whole.clone().separated().unwrap();
            assert_eq!((whole.nodes().len(), separated.nodes().len()), (1, 2));
            for (a, b) in run(whole).into_iter().zip(run(separated)) {
                assert!((a - b).abs() < 1e-5, "{a}, {b}");
            }
        }
    }

    #[test]
    fn other_kernels_stay() {
        let mut kernel = vec![0.1f32; 49];
        kernel[24] = 0.101;
        let small = vec![0.1; 9];
        for (kernel, size) in [(kernel, [7, 7]), (small, [3, 3]), (vec![0.0; 49], [7, 7]), (vec![0.1; 49], [1, 49])] {
            let graph = graph(kernel, size, Border::Replicate);
            assert_eq!(graph.separated().unwrap().nodes().len(), 1);
        }
    }
}
