//! What fusion makes of a graph answers the same.

use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::gpu::{GpuRunner, Precision};
use sonolume::graph::{Graph, Value};
use sonolume::ops::activation::{Activation, Function};
use sonolume::ops::binary::{Binary, BinaryKind, Broadcast};
use sonolume::ops::concat::Concat;
use sonolume::ops::conv2d::{Conv2d, Residual};
use sonolume::ops::crop::{Crop, CropAmount};
use sonolume::ops::layer_norm::LayerNorm;
use sonolume::ops::linear::Linear;
use sonolume::ops::pad::{Pad, PadAmount};
use sonolume::ops::upsample::Interpolation;
use sonolume::ops::{Border, Param, Place, Scale};
use sonolume::{HostTensor, Shape};

use crate::harness::{assert_close, context};
use crate::operators::{TOLERANCE, TOLERANCE_F16};

/// Numbers in [-0.4, 0.6).
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.4).collect()
}

fn param(name: &str, shape: Vec<usize>) -> Arc<Param> {
    let count = shape.iter().product();
    Arc::new(Param::new(name, shape, values(count)).unwrap())
}

/// Two joined images through a convolution, perhaps behind layer norm and before a gate; perhaps the joined image is a result, too.
fn surrounded(channels: [usize; 2], conv: &Conv2d, norm: bool, gate: bool, is_result: bool) -> Graph {
    let mut graph = Graph::new();
    let images = channels.map(|channels| graph.input(channels));
    let both = graph.push(Concat, &images, vec![]).unwrap();
    let all = conv.in_channels;
    let mut source = both;
    if norm {
        let norm = LayerNorm { channels: all, eps: 1e-5, center: true, weight: true, bias: true };
        source = graph.push(norm, &[both], vec![param("scale", vec![all]), param("shift", vec![all])]).unwrap();
    }
    let weight = param("weight", vec![conv.out_channels, all / conv.groups, conv.kernel[0], conv.kernel[1]]);
    let inputs: &[Value] = if conv.residual.is_some() { &[source, images[1]] } else { &[source] };
    let mut output = graph.push(conv.clone(), inputs, vec![weight, param("bias", vec![conv.out_channels])]).unwrap();
    if gate {
        output = graph.gate(output, Function::Gelu).unwrap();
    }
    graph.set_output(output);
    if is_result {
        graph.add_output(both);
    }
    graph
}

/// What a graph of two inputs answers on the CPU, or on the GPU in `precision`.
fn answer(graph: Graph, channels: [usize; 2], precision: Option<Precision>) -> HostTensor {
    let shapes = channels.map(|channels| Shape::new(channels, 11, 10));
    let images = shapes.map(|shape| HostTensor::new(shape, values(shape.channels * 110)).unwrap());
    let plan = graph.plan(&shapes.map(Place::whole)).unwrap();
    let graph = Arc::new(graph);
    let mut results = match precision {
        None => CpuRunner::new(graph).unwrap().run(&plan, &images).unwrap(),
        Some(precision) => pollster::block_on(async {
            let runner = GpuRunner::new(context(), graph, precision).await.unwrap();
            runner.run(&plan, &images).await.unwrap()
        }),
    };
    results.swap_remove(0)
}

#[test]
fn what_surrounds_a_convolution_is_computed_in_it() {
    let same = |from, to, size, border| Conv2d { bias: true, ..Conv2d::same(from, to, size, border) };
    let wide = Conv2d { padding: [[3, 1], [0, 2]], stride: [2, 1], bias: true, ..Conv2d::new(9, 20, [5, 3]) };
    let relu = Conv2d { activation: Function::Relu, ..same(32, 16, 3, Border::Zero) };
    let added = Conv2d { residual: Some(Residual::BeforeActivation), ..same(8, 6, 3, Border::Zero) };
    let depthwise = Conv2d { groups: 14, ..same(14, 14, 3, Border::Reflect) };
    let grouped = Conv2d { groups: 2, ..same(8, 8, 3, Border::Zero) };
    // Joined channels, convolution, norm, gate, and the operators that are left.
    for (channels, conv, norm, gate, left) in [
        ([16, 16], relu, false, false, 1),
        ([8, 1], same(9, 16, 3, Border::Replicate), false, true, 1),
        ([3, 5], same(8, 1, 7, Border::Reflect), false, false, 1),
        ([4, 5], wide.clone(), false, false, 1),
        ([2, 6], added.clone(), false, false, 1),
        ([126, 6], same(132, 130, 3, Border::Reflect), false, true, 1),
        // Fewer channels than are read together: joined first.
        ([1, 2], same(3, 8, 3, Border::Reflect), false, false, 2),
        // One thing before, the other is written.
        ([4, 5], wide, true, true, 2),
        ([2, 6], added.clone(), true, false, 2),
        ([7, 7], depthwise.clone(), false, true, 2),
        ([7, 7], depthwise, true, false, 3),
        ([4, 4], grouped.clone(), true, false, 2),
        ([4, 4], grouped, false, true, 3),
        // No gate behind a residual.
        ([2, 6], added, false, true, 2),
    ] {
        let graph = |is_result| surrounded(channels, &conv, norm, gate, is_result);
        let fused = || graph(false).fused().unwrap();
        let case = format!("{conv:?} norm {norm} gate {gate}");
        assert_eq!(fused().nodes().len(), left, "{case}");
        let expected = answer(graph(false), channels, None);
        assert_close(&case, &answer(fused(), channels, None), &expected, 1e-6);
        let written = graph(true).fused().unwrap();
        assert!(written.nodes().iter().any(|node| node.op.stem() == "concat"), "{case}: a result must be written");
        assert_close(&case, &answer(written, channels, None), &expected, 1e-6);
        assert_close(&case, &answer(fused(), channels, Some(Precision::F32)), &expected, TOLERANCE);
        assert_close(&case, &answer(fused(), channels, Some(Precision::F16)), &expected, TOLERANCE_F16);
    }
}

#[test]
fn enlarged_images_are_combined_as_they_are_made() {
    let sum = BinaryKind::Add { alpha: 2.0, beta: -0.5 };
    for (kind, enlarged_first) in [(sum, false), (sum, true), (BinaryKind::Multiply, true)] {
        for mode in [Interpolation::Nearest, Interpolation::Bilinear { align_corners: false }] {
            let mut graph = Graph::new();
            let (small, large) = (graph.input(5), graph.scaled_input(5, [Scale::new(2, 1); 2]));
            let enlarged = graph.upsample(small, 2, mode).unwrap();
            let inputs = if enlarged_first { [enlarged, large] } else { [large, enlarged] };
            let binary = Binary::new(5, kind, Broadcast::None);
            let output = graph.push(binary, &inputs, vec![]).unwrap();
            graph.set_output(output);
            let shapes = [Shape::new(5, 4, 3), Shape::new(5, 8, 6)];
            same_when_fused(&format!("{kind:?} {mode:?}"), graph, 1, &shapes);
        }
    }
}

/// What a graph and its fused form, of so many operators, answer: the same bits on the CPU, and on the GPU what rounding allows.
fn same_when_fused(what: &str, graph: Graph, left: usize, shapes: &[Shape]) {
    let fused = graph.fused().unwrap();
    assert_eq!(fused.nodes().len(), left, "{what}");
    // Inputs of one size differ, too.
    let image = |(index, shape): (usize, &Shape)| {
        let data = values(shape.elements().unwrap() + 7 * index).split_off(7 * index);
        HostTensor::new(*shape, data).unwrap()
    };
    let images: Vec<HostTensor> = shapes.iter().enumerate().map(image).collect();
    let places: Vec<Place> = shapes.iter().copied().map(Place::whole).collect();
    let [expected, actual] = [&graph, &fused].map(|graph| {
        let plan = graph.plan(&places).unwrap();
        CpuRunner::new(Arc::new(graph.clone())).unwrap().run(&plan, &images).unwrap().remove(0)
    });
    assert_eq!(actual.data(), expected.data(), "{what}");
    let plan = fused.plan(&places).unwrap();
    let fused = Arc::new(fused);
    for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::F16, TOLERANCE_F16)] {
        let runner = pollster::block_on(GpuRunner::new(context(), fused.clone(), precision)).unwrap();
        let result = pollster::block_on(runner.run(&plan, &images)).unwrap().remove(0);
        assert_close(&format!("{what} {precision:?}"), &result, &expected, tolerance);
    }
}

/// A convolution, a pixel shuffle, and perhaps a sum with an image of the enlarged size, which may come first.
#[test]
fn a_pixel_shuffle_is_done_by_the_convolution_before_it() {
    let act = |activation| Conv2d { activation, ..Conv2d::same(8, 16, 3, Border::Reflect) };
    let plain = act(Function::Identity);
    let added = Conv2d { residual: Some(Residual::AfterActivation), ..plain.clone() };
    let grouped = Conv2d { groups: 2, ..plain.clone() };
    let narrow = Conv2d { out_channels: 12, ..plain.clone() };
    // Kernels of other families: strides, more than three taps in a row.
    let strided = Conv2d { stride: [1, 2], padding: [[1, 1], [1, 2]], ..Conv2d::new(8, 16, [3, 3]) };
    let wide = Conv2d::same(8, 16, 5, Border::Zero);
    // With a sum or without, and the operators that are left.
    for (conv, sum, left) in [
        (plain.clone(), None, 1),
        (act(Function::Gelu), Some(1.0), 1),
        (plain.clone(), Some(1.0), 1),
        (plain.clone(), Some(0.5), 2),
        // A residual of the convolution's own size.
        (added, Some(1.0), 3),
        (grouped, None, 2),
        (narrow, Some(1.0), 3),
        (strided, None, 1),
        (wide, Some(1.0), 1),
        // Its slopes are those of the channels before the shuffle.
        (act(Function::PRelu), None, 2),
    ] {
        for image_first in [false, true] {
            let mut graph = Graph::new();
            let source = graph.input(conv.in_channels);
            let residual = graph.input(conv.out_channels);
            let image = graph.scaled_input(conv.out_channels / 4, [Scale::new(2, 1); 2]);
            let [height, width] = conv.kernel;
            let weight = vec![conv.out_channels, conv.in_channels / conv.groups, height, width];
            let inputs: &[Value] = if conv.residual.is_some() { &[source, residual] } else { &[source] };
            let mut params = vec![param("weight", weight)];
            if conv.activation == Function::PRelu {
                params.push(param("slopes", vec![conv.out_channels]));
            }
            let wide = graph.push(conv.clone(), inputs, params).unwrap();
            let mut output = graph.pixel_shuffle(wide, 2).unwrap();
            if let Some(factor) = sum {
                let (a, b) = if image_first { (image, output) } else { (output, image) };
                output = graph.scaled_add(a, factor, b, factor).unwrap();
            }
            graph.set_output(output);
            let channels = [conv.in_channels, conv.out_channels, conv.out_channels / 4];
            let shapes = [0, 1, 2].map(|i| Shape::new(channels[i], 5 << (i / 2), 7 << (i / 2)));
            same_when_fused(&format!("{conv:?} {sum:?} {image_first}"), graph, left, &shapes);
        }
    }
}

#[test]
fn gain_and_offset_are_enlarged_and_combined_as_one() {
    let shapes = [Shape::new(5, 4, 3), Shape::new(5, 4, 3), Shape::new(5, 8, 6)];
    let mode = Interpolation::Bilinear { align_corners: false };
    // With gain and offset enlarged alike there is one operator, else there are two; so if another one reads the product.
    for (other_mode, is_result, left) in [(mode, false, 1), (Interpolation::Nearest, false, 2), (mode, true, 2)] {
        for offset_first in [false, true] {
            let mut graph = Graph::new();
            let (gain, offset) = (graph.input(5), graph.input(5));
            let image = graph.scaled_input(5, [Scale::new(2, 1); 2]);
            let gain = graph.upsample(gain, 2, mode).unwrap();
            let offset = graph.upsample(offset, 2, other_mode).unwrap();
            let product = graph.multiply(image, gain).unwrap();
            let (a, b) = if offset_first { (offset, product) } else { (product, offset) };
            let sum = graph.scaled_add(a, 0.5, b, -3.0).unwrap();
            graph.set_output(sum);
            if is_result {
                graph.add_output(product);
            }
            same_when_fused(&format!("{other_mode:?} {is_result} {offset_first}"), graph, left, &shapes);
        }
    }
}

#[test]
fn maps_to_gain_and_offset_are_one_map() {
    // Channels, whether a result is one of the maps', and the operators that are left.
    for (channels, is_result, other_bias, left) in
        [(8, false, true, 2), (6, false, true, 3), (8, true, true, 3), (8, false, false, 3)]
    {
        let mut graph = Graph::new();
        let coarse = graph.input(5);
        let image = graph.scaled_input(channels, [Scale::new(2, 1); 2]);
        let map = |graph: &mut Graph, factor: f32, bias: bool| {
            let linear =
                Linear { in_channels: 5, out_channels: channels, bias, activation: Function::Identity, residual: None };
            let shapes = [vec![channels, 5], vec![channels]].into_iter().take(1 + usize::from(bias));
            let scaled = |shape: Vec<usize>| {
                let data = values(shape.iter().product()).into_iter().map(|value| factor * value).collect();
                Arc::new(Param::new("map", shape, data).unwrap())
            };
            let params = shapes.map(scaled).collect();
            graph.push(linear, &[coarse], params).unwrap()
        };
        let (gain, offset) = (map(&mut graph, 1.0, true), map(&mut graph, -0.5, other_bias));
        let mode = Interpolation::Bilinear { align_corners: false };
        let enlarged = [gain, offset].map(|map| graph.upsample(map, 2, mode).unwrap());
        let product = graph.multiply(image, enlarged[0]).unwrap();
        let sum = graph.add(product, enlarged[1]).unwrap();
        graph.set_output(sum);
        if is_result {
            graph.add_output(offset);
        }
        let shapes = [Shape::new(5, 4, 3), Shape::new(channels, 8, 6)];
        same_when_fused(&format!("{channels} {is_result} {other_bias}"), graph, left, &shapes);
    }
}

#[test]
fn a_chain_of_functions_of_elements_is_one_operator() {
    let shape = Shape::new(3, 5, 7);
    for order in 0..4 {
        let mut graph = Graph::new();
        let [x, signal, image] = [(); 3].map(|()| graph.input(3));
        let gate = graph.activation(signal, Function::Tanh).unwrap();
        let product = if order % 2 == 0 { graph.multiply(x, gate) } else { graph.multiply(gate, x) }.unwrap();
        let (a, b) = if order / 2 == 0 { (image, product) } else { (product, image) };
        let sum = graph.scaled_add(a, 2.0, b, -0.5).unwrap();
        let output = graph.activation(sum, Function::LeakyRelu { slope: 0.1 }).unwrap();
        graph.set_output(output);
        same_when_fused(&format!("order {order}"), graph, 1, &[shape; 3]);
    }
    // A pooled value may be in the first function, but not in the second.
    for (pooled_first, left) in [(true, 1), (false, 2)] {
        let mut graph = Graph::new();
        let (x, image) = (graph.input(3), graph.input(3));
        let pooled = graph.scaled_input(3, [Scale::new(0, 1); 2]);
        let (a, b) = if pooled_first { (pooled, image) } else { (image, pooled) };
        let product = graph.multiply(x, a).unwrap();
        let sum = graph.add(product, b).unwrap();
        graph.set_output(sum);
        same_when_fused(&format!("pooled first: {pooled_first}"), graph, left, &[shape, shape, Shape::new(3, 1, 1)]);
    }
    // PReLU has weights and comes by itself.
    let mut graph = Graph::new();
    let (x, y) = (graph.input(3), graph.input(3));
    let prelu = || Activation { channels: 3, function: Function::PRelu };
    let gate = graph.push(prelu(), &[y], vec![param("slopes", vec![3])]).unwrap();
    let product = graph.multiply(x, gate).unwrap();
    let sum = graph.add(product, y).unwrap();
    let output = graph.push(prelu(), &[sum], vec![param("slopes", vec![3])]).unwrap();
    graph.set_output(output);
    same_when_fused("PReLU", graph, 3, &[shape; 2]);
    // A result is written; so is what is read twice, and a fourth image comes by itself.
    let mut graph = Graph::new();
    let [x, signal, image] = [(); 3].map(|()| graph.input(3));
    let gate = graph.activation(signal, Function::Tanh).unwrap();
    let square = graph.multiply(gate, gate).unwrap();
    let product = graph.multiply(x, square).unwrap();
    let sum = graph.add(product, image).unwrap();
    let output = graph.add(sum, signal).unwrap();
    graph.set_output(output);
    graph.add_output(sum);
    same_when_fused("twice", graph, 4, &[shape; 3]);
}

/// A sum of a convolution and of a product is the convolution's residual: its result is then not written.
#[test]
fn a_convolution_takes_a_sum_before_others_do() {
    let mut graph = Graph::new();
    let [x, y] = [(); 2].map(|()| graph.input(4));
    let product = graph.multiply(x, y).unwrap();
    let conv = Conv2d::same(4, 4, 3, Border::Zero);
    let filtered = graph.push(conv, &[x], vec![param("weight", vec![4, 4, 3, 3])]).unwrap();
    let sum = graph.add(product, filtered).unwrap();
    graph.set_output(sum);
    let fused = graph.fused().unwrap();
    let stems: Vec<&str> = fused.nodes().iter().map(|node| node.op.stem()).collect();
    assert_eq!(stems, ["binary", "conv2d"]);
}

/// A padding by nothing and a cut of nothing are not run, and what they would have copied is not given away meanwhile.
#[test]
fn what_adds_or_cuts_nothing_is_not_run() {
    let mut graph = Graph::new();
    let image = graph.input(3);
    let pad = Pad { amount: PadAmount::ToMultiple([8, 4]), border: Border::Replicate };
    let padded = graph.push(pad.clone(), &[image], vec![]).unwrap();
    let again = graph.push(pad, &[padded], vec![]).unwrap();
    let binary = |kind| Binary::new(3, kind, Broadcast::None);
    let bright = graph.push(Activation { channels: 3, function: Function::Sigmoid }, &[again], vec![]).unwrap();
    let sum = graph.push(binary(BinaryKind::Add { alpha: 1.0, beta: 1.0 }), &[bright, padded], vec![]).unwrap();
    let cut = graph.push(Crop { amount: CropAmount::Like { scale: [1, 1] } }, &[sum, image], vec![]).unwrap();
    let all = graph.push(binary(BinaryKind::Multiply), &[cut, image], vec![]).unwrap();
    graph.set_output(all);
    let graph = Arc::new(graph);
    for ((height, width), steps, slots) in [((16, 12), 3, 3), ((13, 12), 5, 4)] {
        let shape = Shape::new(3, height, width);
        let input = HostTensor::new(shape, values(3 * height * width)).unwrap();
        let plan = graph.plan_whole(height, width).unwrap();
        assert_eq!(plan.steps.len(), steps, "{height} rows");
        assert!(plan.slots.len() <= slots, "{height} rows: {:?}", plan.slots);
        let expected = input.data().iter().map(|x| (1.0 / (1.0 + (-x).exp()) + x) * x).collect();
        let expected = HostTensor::new(shape, expected).unwrap();
        let cpu = CpuRunner::new(graph.clone()).unwrap();
        let gpu = pollster::block_on(GpuRunner::new(context(), graph.clone(), Precision::F32)).unwrap();
        let inputs = std::slice::from_ref(&input);
        for actual in [cpu.run(&plan, inputs).unwrap(), pollster::block_on(gpu.run(&plan, inputs)).unwrap()] {
            assert_close(&format!("{height} rows"), &actual[0], &expected, 1e-5);
        }
    }
}
