//! Tiles of every operator: what `reads`, `alignment` and `scale` declare is enough for the same bits as in the whole.

use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::gpu::{Context, GpuRunner, Guard, Precision};
use sonolume::graph::{Graph, Plan};
use sonolume::ops::activation::Function;
use sonolume::ops::conv2d::{Conv2d, Residual};
use sonolume::ops::fused_conv::{Before, Behind, Dense, FusedConv};
use sonolume::ops::pixel_shuffle::PixelShuffle;
use sonolume::ops::{Axis, Border, Op, Param, Place, STEMS, Span};
use sonolume::{HostTensor, Shape};

use crate::extents::noise;
use crate::harness::{Case, assert_close, context, context_with_matrices};
use crate::operators::{Check, every_case};

fn size(tensor: &HostTensor, axis: Axis) -> usize {
    [tensor.shape().height, tensor.shape().width][axis as usize]
}

/// The part of every input that a tile for the output pixels in `wanted` takes.
fn regions(case: &Case, check: &Check, axis: Axis, wanted: Span) -> Vec<Span> {
    let op = &check.graph.nodes()[0].op;
    let sizes: Vec<usize> = check.inputs.iter().map(|input| size(input, axis)).collect();
    let mut spans = check.graph.reads(axis, &[wanted], &sizes).unwrap_or_else(|error| panic!("{case}: {error}"));
    if op.stem() == "crop" && spans.len() == 2 {
        // In a graph both inputs come from the same tile: the one to crop covers what the other stands for.
        let scale = case.pair("scale")[axis as usize] as i64;
        spans[0] = Span::new(spans[1].start * scale, spans[1].end * scale);
        return spans;
    }
    if op.stem() == "row_coordinate" {
        // Here, too: where what is wanted was added below, the tile reaches up to the image.
        let factor = case.number::<i64>("factor");
        let start = spans[1].start.min((sizes[0] as i64 - 1) / factor);
        spans[1].start = start;
        spans[0] = Span::new(start * factor, spans[1].end * factor).clip(sizes[0]);
        return spans;
    }
    spans[0] = spans[0].align(check.graph.alignment(axis)).clip(sizes[0]);
    let joined = op.stem() == "fused_conv" && case.number::<usize>("join") > 0;
    if joined {
        spans[1] = spans[0];
    }
    for index in 1 + usize::from(joined)..spans.len() {
        // An input of the output's size is tiled as the output.
        if sizes[index] == size(&check.expected, axis) {
            let start = op.scale(axis).apply(spans[0].start as usize).unwrap();
            // A residual's size is checked against the output's; others are as large as the first, or pooled.
            let first = spans[0].len() as usize;
            let all: Vec<usize> = sizes.iter().map(|&size| if size == 1 { 1 } else { first }).collect();
            let count = op.size(axis, &all).or_else(|_| op.size(axis, &[first])).unwrap();
            spans[index] = Span::new(start as i64, (start + count) as i64);
        }
    }
    spans
}

/// Windows of a line of `size` pixels: uneven parts, and one pixel alone.
fn windows(size: usize) -> Vec<Span> {
    let mut cuts = vec![0, size / 3, size / 2 + 1, size - 1, size];
    cuts.retain(|&cut| cut <= size);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| Span::new(pair[0] as i64, pair[1] as i64)).collect()
}

fn cut(tensor: &HostTensor, rows: Span, columns: Span) -> HostTensor {
    let shape = tensor.shape();
    let mut data = Vec::new();
    for plane in tensor.data().chunks_exact(shape.height * shape.width) {
        for row in plane.chunks_exact(shape.width).take(rows.end as usize).skip(rows.start as usize) {
            data.extend_from_slice(&row[columns.start as usize..columns.end as usize]);
        }
    }
    HostTensor::new(Shape::new(shape.channels, rows.len() as usize, columns.len() as usize), data).unwrap()
}

fn tiles_agree(case: &Case, check: &Check, run: impl Fn(&Plan, &[HostTensor]) -> HostTensor) {
    if check.graph.is_global() {
        return;
    }
    let whole = run(&check.graph.plan(&check.places).unwrap(), &check.inputs);
    for rows in windows(whole.shape().height) {
        for columns in windows(whole.shape().width) {
            let vertical = regions(case, check, Axis::Vertical, rows);
            let horizontal = regions(case, check, Axis::Horizontal, columns);
            let tiles: Vec<HostTensor> =
                (0..check.inputs.len()).map(|i| cut(&check.inputs[i], vertical[i], horizontal[i])).collect();
            let places: Vec<Place> = (0..tiles.len())
                .map(|i| Place {
                    shape: tiles[i].shape(),
                    origin: [vertical[i].start as usize, horizontal[i].start as usize],
                    full: check.places[i].full,
                })
                .collect();
            let what = format!("{case}: rows {rows:?} columns {columns:?} from {places:?}");
            let plan = check.graph.plan(&places).unwrap_or_else(|error| panic!("{what}: {error}"));
            let place = plan.output().1;
            let local = |span: Span, axis: usize| {
                let origin = place.origin[axis] as i64;
                let end = [place.shape.height, place.shape.width][axis] as i64;
                assert!(span.start >= origin && span.end <= origin + end, "{what}: the tile is {place:?}");
                Span::new(span.start - origin, span.end - origin)
            };
            let tile = cut(&run(&plan, &tiles), local(rows, 0), local(columns, 1));
            let expected = cut(&whole, rows, columns);
            let different = tile.data().iter().zip(expected.data()).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(different, 0, "{what}: {different} values differ");
        }
    }
}

#[test]
fn tiles_of_every_operator_agree_on_the_cpu() {
    every_case(|case, check| {
        let runner = CpuRunner::new(check.graph.clone()).unwrap();
        tiles_agree(case, &check, |plan, inputs| runner.run(plan, inputs).unwrap().remove(0));
    });
}

fn tiles_agree_on_the_gpu(context: &Arc<Context>, stems: &[&str], precision: Precision) {
    every_case(|case, check| {
        if !stems.contains(&case.stem()) {
            return;
        }
        let graph = Arc::clone(&check.graph);
        let guard = Guard { bytes: 4096 };
        let runner = pollster::block_on(GpuRunner::with_guard(context.clone(), graph, precision, guard)).unwrap();
        tiles_agree(case, &check, |plan, inputs| pollster::block_on(runner.run(plan, inputs)).unwrap().remove(0));
    });
}

#[test]
fn tiles_of_every_operator_agree_on_the_gpu() {
    tiles_agree_on_the_gpu(&context(), STEMS, Precision::F32);
}

/// A convolution of `shape` to as many channels with its own source as a residual if it takes one, and what the CPU answers.
fn convolution(shape: Shape, op: Conv2d) -> Check {
    let channels = shape.channels;
    let op = Conv2d { bias: true, ..op };
    let values = |count| noise(Shape::new(1, 1, count)).into_data();
    let mut params = vec![
        Param::new("weight", vec![channels, channels, 3, 3], values(channels * channels * 9)).unwrap(),
        Param::new("bias", vec![channels], values(channels)).unwrap(),
    ];
    if op.activation == Function::PRelu {
        params.push(Param::new("slopes", vec![channels], values(channels)).unwrap());
    }
    let readers = 1 + usize::from(op.residual.is_some());
    answered(op, readers, noise(shape), params.into_iter().map(Arc::new).collect())
}

/// An operator that reads `image` as so many inputs, and what the CPU answers.
fn answered(op: impl Into<Op>, readers: usize, image: HostTensor, params: Vec<Arc<Param>>) -> Check {
    let mut graph = Graph::new();
    let input = graph.input(image.shape().channels);
    let output = graph.push(op, &vec![input; readers], params).unwrap();
    graph.set_output(output);
    let graph = Arc::new(graph);
    let places = vec![Place::whole(image.shape())];
    let inputs = vec![image];
    let cpu = CpuRunner::new(graph.clone()).unwrap();
    let expected = cpu.run(&graph.plan(&places).unwrap(), &inputs).unwrap().remove(0);
    Check { graph, inputs, places, expected }
}

/// A whole image's results go through their epilogue in registers, those of a tile that cuts a patch do not.
#[test]
fn tiles_of_every_epilogue_agree_on_the_cpu() {
    let case = &Case::parse("conv2d", "src=16x12x14 out=16 kernel=3x3")[0];
    for activation in [Function::Identity, Function::Relu, Function::LeakyRelu { slope: 0.2 }, Function::PRelu] {
        for residual in [None, Some(Residual::BeforeActivation), Some(Residual::AfterActivation)] {
            let op = Conv2d { activation, residual, ..Conv2d::same(16, 16, 3, Border::Reflect) };
            let check = convolution(Shape::new(16, 12, 14), op);
            let cpu = CpuRunner::new(check.graph.clone()).unwrap();
            tiles_agree(case, &check, |plan, inputs| cpu.run(plan, inputs).unwrap().remove(0));
        }
    }
}

/// With channels enough for Winograd's algorithm: tiles then cut through its patches.
#[test]
fn tiles_of_wide_convolutions_agree_on_the_gpu() {
    let conv = Conv2d {
        activation: Function::PRelu,
        residual: Some(Residual::BeforeActivation),
        ..Conv2d::same(128, 128, 3, Border::Reflect)
    };
    let case = &Case::parse("conv2d", "src=128x11x9 out=128 kernel=3x3")[0];
    wide_tiles_agree(case, &convolution(Shape::new(128, 11, 9), conv));
}

/// The same where a tile's result begins at even pixels, whatever its patches do.
#[test]
fn tiles_of_wide_shuffled_convolutions_agree_on_the_gpu() {
    let shape = Shape::new(128, 11, 9);
    let conv = Conv2d { activation: Function::Relu, ..Conv2d::same(128, 128, 3, Border::Replicate) };
    let check = convolution(shape, conv.clone());
    let behind = Behind::Shuffle(PixelShuffle { factor: 2 });
    let op = FusedConv { before: Before::Nothing, dense: Dense::Conv2d(Conv2d { bias: true, ..conv }), behind };
    let params = check.graph.nodes()[0].params.clone();
    let fused = answered(op, 1, check.inputs[0].clone(), params);
    // The CPU's own answer, from one operator after the other.
    let apart = answered(PixelShuffle { factor: 2 }, 1, check.expected.clone(), Vec::new());
    assert_eq!(fused.expected, apart.expected);
    wide_tiles_agree(&Case::parse("fused_conv", "src=128x11x9 join=0 shuffle=2")[0], &fused);
    // Of one size, from even rows and from odd ones, which take more patches: as by a runner that knows no other.
    let runner = || pollster::block_on(GpuRunner::new(context(), fused.graph.clone(), Precision::F32)).unwrap();
    let one_for_all = runner();
    let image = &fused.inputs[0];
    for top in [2, 3, 4, 5] {
        let tile = cut(image, Span::new(top, top + 6), Span::new(0, shape.width as i64));
        let place = Place { shape: tile.shape(), origin: [top as usize, 0], full: [shape.height, shape.width] };
        let plan = fused.graph.plan(&[place]).unwrap();
        let run = |runner: &GpuRunner| pollster::block_on(runner.run(&plan, &[&tile])).unwrap();
        assert_eq!(run(&one_for_all), run(&runner()), "from row {top}");
    }
}

fn wide_tiles_agree(case: &Case, check: &Check) {
    let guard = Guard { bytes: 4096 };
    let runner = GpuRunner::with_guard(context(), check.graph.clone(), Precision::F32, guard);
    let runner = pollster::block_on(runner).unwrap();
    let run = |plan: &Plan, inputs: &[HostTensor]| pollster::block_on(runner.run(plan, inputs)).unwrap().remove(0);
    assert_close(case, &run(&check.graph.plan(&check.places).unwrap(), &check.inputs), &check.expected, 1e-5);
    tiles_agree(case, check, run);
}

#[test]
fn tiles_of_convolutions_agree_with_matrices() {
    if let Some(context) = context_with_matrices() {
        assert!(pollster::block_on(context.uses_matrices()).unwrap());
        tiles_agree_on_the_gpu(&context, &["conv2d", "fused_conv", "linear"], Precision::F16);
    }
}

/// A stride and the pixel shuffle behind it cancel: the scale alone does not tell that the tile begins between two outputs.
#[test]
fn a_tile_between_strides_is_refused() {
    let dense = Dense::Conv2d(Conv2d { stride: [2, 1], ..Conv2d::new(4, 16, [1, 1]) });
    let behind = Behind::Shuffle(PixelShuffle { factor: 2 });
    let mut graph = Graph::new();
    let input = graph.input(4);
    let output = graph.push(FusedConv { before: Before::Nothing, dense, behind }, &[input], Vec::new()).unwrap();
    graph.set_output(output);
    let plan = |top| graph.plan(&[Place { shape: Shape::new(4, 4, 6), origin: [top, 0], full: [12, 6] }]);
    assert!(plan(2).is_ok());
    assert!(matches!(plan(3), Err(sonolume::Error::Shape(_))));
}

#[test]
fn row_coordinates_of_another_scale_are_refused() {
    let mut graph = Graph::new();
    let image = graph.input(1);
    let half = graph.pixel_unshuffle(image, 2).unwrap();
    assert!(graph.row_coordinate(image, half, 2).is_ok());
    for (like, factor) in [(image, 2), (half, 1), (half, 4), (half, 0)] {
        assert!(matches!(graph.row_coordinate(image, like, factor), Err(sonolume::Error::Shape(_))), "{factor}");
    }
}
