//! What fusion makes of a graph answers the same.

use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::graph::{Graph, Value};
use sonolume::ops::activation::Function;
use sonolume::ops::concat::Concat;
use sonolume::ops::conv2d::{Conv2d, Residual};
use sonolume::ops::{Border, Param, Place};
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

/// What a convolution of two joined images answers, and how many nodes ran at most together. If the joined image is a result,
/// too, it must be written.
fn joined(channels: [usize; 2], conv: &Conv2d, is_result: bool) -> (HostTensor, usize) {
    let values = |count: usize| (0..count).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.4).collect::<Vec<_>>();
    let mut graph = Graph::new();
    let images = channels.map(|channels| graph.input(channels));
    let both = graph.push(Concat, &images, vec![]).unwrap();
    let weight = vec![conv.out_channels, conv.in_channels, conv.kernel[0], conv.kernel[1]];
    let weight = Param::new("weight", weight.clone(), values(weight.iter().product())).unwrap();
    let bias = Param::new("bias", vec![conv.out_channels], values(conv.out_channels)).unwrap();
    let inputs: &[Value] = if conv.residual.is_some() { &[both, images[1]] } else { &[both] };
    let output = graph.push(conv.clone(), inputs, vec![Arc::new(weight), Arc::new(bias)]).unwrap();
    graph.set_output(output);
    if is_result {
        graph.add_output(both);
    }
    let shapes = channels.map(|channels| Shape::new(channels, 11, 10));
    let images = shapes.map(|shape| HostTensor::new(shape, values(shape.channels * 110)).unwrap());
    let plan = graph.plan(&shapes.map(Place::whole)).unwrap();
    let mut most = 0;
    let runner = CpuRunner::new(Arc::new(graph)).unwrap();
    let mut results = runner.run_observed(&plan, &images, |nodes| most = most.max(nodes.len())).unwrap();
    (results.swap_remove(0), most)
}

#[test]
fn convolutions_read_two_images_as_they_read_the_joined_one() {
    let wide = Conv2d { padding: [[3, 1], [0, 2]], stride: [2, 1], bias: true, ..Conv2d::new(9, 20, [5, 3]) };
    for (channels, conv) in [
        ([16, 16], Conv2d { bias: true, activation: Function::Relu, ..Conv2d::same(32, 16, 3, Border::Zero) }),
        ([8, 1], Conv2d { bias: true, ..Conv2d::same(9, 16, 3, Border::Replicate) }),
        ([3, 5], Conv2d { bias: true, ..Conv2d::same(8, 1, 7, Border::Reflect) }),
        ([4, 5], wide),
        // Fewer channels than are read together: joined first.
        ([1, 2], Conv2d { bias: true, ..Conv2d::same(3, 8, 3, Border::Reflect) }),
        (
            [2, 6],
            Conv2d { bias: true, residual: Some(Residual::BeforeActivation), ..Conv2d::same(8, 6, 3, Border::Zero) },
        ),
    ] {
        let ((alone, together), (beside, apart)) = (joined(channels, &conv, false), joined(channels, &conv, true));
        assert_eq!((together, apart), (if conv.in_channels < 4 { 1 } else { 2 }, 1), "{conv:?}");
        assert_eq!(alone.data(), beside.data(), "{conv:?}");
    }
}
