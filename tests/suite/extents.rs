//! What case tables cannot show: operators put together, in tiles, and on large images.

use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::gpu::{GpuRunner, Guard, Precision};
use sonolume::graph::Graph;
use sonolume::ops::activation::Function;
use sonolume::ops::channel_attention::ChannelAttention;
use sonolume::ops::conv_transpose2d::ConvTranspose2d;
use sonolume::ops::conv2d::Conv2d;
use sonolume::ops::gram::Gram;
use sonolume::ops::linear::Linear;
use sonolume::ops::moments::Moments;
use sonolume::ops::window_attention::WindowAttention;
use sonolume::ops::{Axis, Border, Op, Param, Place, Span};
use sonolume::{HostTensor, Shape};

use crate::harness::{Case, Golden, assert_close, context};

/// What `graph` makes of `input`, which stands at `place`, on the CPU and on the test device.
fn run(graph: &Arc<Graph>, place: Place, input: &HostTensor) -> [HostTensor; 2] {
    let plan = graph.plan(&[place]).unwrap();
    let inputs = std::slice::from_ref(input);
    let cpu = CpuRunner::new(graph.clone()).unwrap().run(&plan, inputs).unwrap().remove(0);
    let gpu = pollster::block_on(async {
        let guard = Guard { bytes: 4096 };
        let runner = GpuRunner::with_guard(context(), graph.clone(), Precision::F32, guard).await?;
        let result = runner.run(&plan, inputs).await?.remove(0);
        runner.check_guards(&plan).await?;
        Ok::<_, sonolume::Error>(result)
    });
    [cpu, gpu.unwrap()]
}

#[test]
fn gram_and_channel_attention_are_restormers_attention() {
    let golden = Golden::open("ops/channel_attention");
    for case in Case::parse("channel_attention", include_str!("../ops/channel_attention.txt")) {
        let (heads, head_channels) = (case.number("heads"), case.number("size"));
        let qkv = golden.image(&format!("{}/input0", case.key())).unwrap();
        let expected = golden.image(&format!("{}/output", case.key())).unwrap();
        // As in make_ops.py.
        let temperature = (1..=heads).map(|head| head as f32).collect();
        let temperature = Arc::new(Param::new("temperature", vec![heads, 1, 1], temperature).unwrap());
        let mut graph = Graph::new();
        let input = graph.input(qkv.shape().channels);
        let weights = graph.push(Gram { heads, head_channels }, &[input], vec![temperature]).unwrap();
        let output = graph.push(ChannelAttention { heads, head_channels }, &[input, weights], vec![]).unwrap();
        graph.set_output(output);
        for actual in run(&Arc::new(graph), Place::whole(qkv.shape()), &qkv) {
            assert_close(&case, &actual, &expected, 1e-5);
        }
    }
}

/// Reproducible values in -1..1.
pub fn noise(shape: Shape) -> HostTensor {
    let mut state = 1u32;
    let values = (0..shape.elements().unwrap()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    HostTensor::new(shape, values.collect()).unwrap()
}

/// The part of `tensor` in `rows` and `columns`.
fn crop(tensor: &HostTensor, rows: Span, columns: Span) -> HostTensor {
    let shape = tensor.shape();
    let (top, left) = (rows.start as usize, columns.start as usize);
    let part = shape.resized(rows.len() as usize, columns.len() as usize);
    let mut values = Vec::new();
    for channel in 0..shape.channels {
        for y in 0..part.height {
            let at = (channel * shape.height + top + y) * shape.width + left;
            values.extend_from_slice(&tensor.data()[at..at + part.width]);
        }
    }
    HostTensor::new(part, values).unwrap()
}

#[test]
fn windows_are_the_same_in_every_tile() {
    let (heads, head_channels, window) = (2, 5, [4, 6]);
    for (shift, cosine) in [([0, 0], false), ([2, 3], true), ([1, 5], false), ([3, 0], false)] {
        let op = WindowAttention { heads, head_channels, window, shift, cosine };
        let table = noise(Shape::new(1, 7 * 11, heads)).into_data();
        let mut params = vec![Arc::new(Param::new("table", vec![7 * 11, heads], table).unwrap())];
        if cosine {
            params.push(Arc::new(Param::new("logit_scale", vec![heads, 1, 1], vec![2.0, 3.0]).unwrap()));
        }
        let mut graph = Graph::new();
        let input = graph.input(3 * heads * head_channels);
        let output = graph.push(op, &[input], params).unwrap();
        graph.set_output(output);
        let graph = Arc::new(graph);

        let (height, width) = (20, 27);
        let image = noise(Shape::new(3 * heads * head_channels, height, width));
        let whole = run(&graph, Place::whole(image.shape()), &image);
        for (y, x) in [(0..1, 0..1), (7..9, 5..7), (4..13, 12..18), (19..20, 26..27), (3..20, 0..20)] {
            let [rows, columns] = [Span::new(y.start, y.end), Span::new(x.start, x.end)];
            let region = [
                graph.region(Axis::Vertical, rows, height).unwrap(),
                graph.region(Axis::Horizontal, columns, width).unwrap(),
            ];
            let input = crop(&image, region[0], region[1]);
            let origin = region.map(|span| span.start as usize);
            let tile = run(&graph, Place { shape: input.shape(), origin, full: [height, width] }, &input);
            for (tile, whole) in tile.iter().zip(&whole) {
                let [inner_rows, inner_columns] = [(rows, origin[0]), (columns, origin[1])]
                    .map(|(span, origin)| Span::new(span.start - origin as i64, span.end - origin as i64));
                let (actual, expected) = (crop(tile, inner_rows, inner_columns), crop(whole, rows, columns));
                assert!(actual == expected, "shift {shift:?}: rows {rows:?}, columns {columns:?} differ in a tile");
            }
        }
    }
}

/// The CPU sums in f64, the GPU in f32.
#[test]
fn statistics_of_a_large_image_keep_their_precision() {
    let mut image = noise(Shape::new(6, 1301, 1153));
    // One sign: sums grow with every pixel, and rounding errors with them.
    image.data_mut().iter_mut().for_each(|value| *value += 3.0);
    let temperature = Arc::new(Param::new("temperature", vec![1, 1, 1], vec![10.0]).unwrap());
    let operators: [(Op, Vec<Arc<Param>>); 3] = [
        (Moments { channels: 6, groups: 6, eps: 1e-5 }.into(), vec![]),
        (Moments { channels: 6, groups: 2, eps: 1e-5 }.into(), vec![]),
        (Gram { heads: 1, head_channels: 2 }.into(), vec![temperature]),
    ];
    for (op, params) in operators {
        let mut graph = Graph::new();
        let input = graph.input(6);
        let output = graph.push(op.clone(), &[input], params).unwrap();
        graph.set_output(output);
        let [cpu, gpu] = run(&Arc::new(graph), Place::whole(image.shape()), &image);
        assert_close(&format!("{op:?}"), &gpu, &cpu, 1e-5);
    }
}

/// Blocks of weights are launched one by one where a launch is large enough, all at once where not: the tables are small.
#[test]
fn large_images_get_the_same_from_every_block() {
    let zero = Border::Zero;
    let linear =
        Linear { in_channels: 8, out_channels: 40, bias: false, activation: Function::Identity, residual: None };
    let transposed = ConvTranspose2d { stride: [2, 2], padding: [1, 1], ..ConvTranspose2d::new(4, 36, [4, 4]) };
    let folded = Conv2d { padding: [[6, 6]; 2], ..Conv2d::same(3, 20, 5, Border::Reflect) };
    let wide = Conv2d { activation: Function::Relu, ..Conv2d::same(128, 130, 3, Border::Reflect) };
    let uneven = Conv2d { padding: [[2, 0], [1, 3]], ..Conv2d::new(129, 128, [3, 3]) };
    let spread = Conv2d { dilation: [2, 3], padding: [[2, 2], [3, 3]], ..Conv2d::new(1, 2, [3, 3]) };
    let operators: [(Op, Vec<usize>, Shape); 12] = [
        (Conv2d::same(6, 40, 3, zero).into(), vec![40, 6, 3, 3], Shape::new(6, 65, 66)),
        (Conv2d::same(3, 20, 7, Border::Reflect).into(), vec![20, 3, 7, 7], Shape::new(3, 70, 64)),
        (Conv2d { stride: [1, 2], ..Conv2d::same(5, 24, 3, zero) }.into(), vec![24, 5, 3, 3], Shape::new(5, 66, 130)),
        (linear.into(), vec![40, 8], Shape::new(8, 64, 70)),
        (transposed.into(), vec![4, 36, 4, 4], Shape::new(4, 65, 64)),
        // From one channel, in whole vectors along the row on the CPU and in what is left of it.
        (Conv2d::same(1, 1, 7, Border::Replicate).into(), vec![1, 1, 7, 7], Shape::new(1, 20, 203)),
        (Conv2d::same(1, 3, 5, Border::Reflect).into(), vec![3, 1, 5, 5], Shape::new(1, 9, 131)),
        (spread.into(), vec![2, 1, 3, 3], Shape::new(1, 7, 70)),
        (Conv2d::same(2, 20, 5, zero).into(), vec![20, 2, 5, 5], Shape::new(2, 11, 67)),
        // By Winograd's algorithm, the first in several bands.
        (wide.into(), vec![130, 128, 3, 3], Shape::new(128, 61, 40)),
        (uneven.into(), vec![128, 129, 3, 3], Shape::new(129, 6, 7)),
        // Reflected again and again, as PyTorch does not.
        (folded.into(), vec![20, 3, 5, 5], Shape::new(3, 4, 2)),
    ];
    for (op, weight, shape) in operators {
        let values = noise(Shape::new(1, 1, weight.iter().product())).into_data();
        let weight = Arc::new(Param::new("weight", weight, values).unwrap());
        let mut graph = Graph::new();
        let input = graph.input(shape.channels);
        let output = graph.push(op.clone(), &[input], vec![weight]).unwrap();
        graph.set_output(output);
        let [cpu, gpu] = run(&Arc::new(graph), Place::whole(shape), &noise(shape));
        assert_close(&format!("{op:?}"), &gpu, &cpu, 1e-5);
    }
}
