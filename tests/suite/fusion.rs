//! What fusion makes of a graph answers the same.

use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::graph::Graph;
use sonolume::ops::activation::Function;
use sonolume::ops::conv2d::{Conv2d, Residual};
use sonolume::ops::{Border, Param};
use sonolume::{HostTensor, Shape};

/// A graph of one convolution with everything that one may have.
fn graph(kernel: Vec<f32>, size: [usize; 2], border: Border) -> Graph {
    let mut graph = Graph::new();
    let image = graph.input(1);
    let conv = Conv2d {
        padding: size.map(|size| [size / 2, size - 1 - size / 2]),
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

fn run(graph: Graph) -> HostTensor {
    let shape = Shape::new(1, 11, 9);
    let values = (0..99).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let plan = graph.plan_whole(11, 9).unwrap();
    let runner = CpuRunner::new(Arc::new(graph)).unwrap();
    runner.run(&plan, &[HostTensor::new(shape, values).unwrap()]).unwrap().remove(0)
}

#[test]
fn kernels_of_rank_one_are_separated_and_answer_the_same() {
    let (column, row) = ([0.5, -1.0, 2.0, 0.25, 1.5], [1.0, 3.0, -0.5, 0.0, 2.0, 1.0, 0.125]);
    let kernel: Vec<f32> = column.iter().flat_map(|a| row.map(|b| a * b)).collect();
    for border in [Border::Zero, Border::Reflect, Border::Replicate] {
        let whole = graph(kernel.clone(), [5, 7], border);
        let separated = whole.fused().unwrap();
        assert_eq!((whole.nodes().len(), separated.nodes().len()), (1, 2));
        crate::harness::assert_close(&format!("{border:?}"), &run(separated), &run(whole), 1e-6);
    }
}

#[test]
fn other_kernels_are_not_separated() {
    let mut kernel = vec![0.1f32; 49];
    kernel[24] = 0.101;
    let small = vec![0.1; 9];
    for (kernel, size) in [(kernel, [7, 7]), (small, [3, 3]), (vec![0.0; 49], [7, 7]), (vec![0.1; 49], [1, 49])] {
        assert_eq!(graph(kernel, size, Border::Replicate).fused().unwrap().nodes().len(), 1);
    }
}
