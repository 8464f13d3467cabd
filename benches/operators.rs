//! Operators one by one: GFLOP/s and GB/s over the parity tests' case tables, and at the sizes that generators use.
//!
//! `SONOLUME_BENCH_DEVICE` names devices, `SONOLUME_BENCH_PRECISION=f16` lets GPUs store 16 bits (and multiply on tensor cores
//! where they can); a filter as the first argument picks cases by name, `SONOLUME_CASE` picks them
//! before they are verified too. Every answer is compared before it is timed: the tables' with PyTorch's, the others' with
//! the CPU's. Bytes are the fewest that the operator can move: each tensor once.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sonolume::cpu::CpuRunner;
use sonolume::gpu::{Context, GpuRunner, Precision};
use sonolume::graph::{Graph, Plan};
use sonolume::ops::conv2d::Conv2d;
use sonolume::ops::{Border, Op, Param, Place};
use sonolume::{HostTensor, Model};

#[path = "support/devices.rs"]
mod devices;
#[allow(dead_code)]
#[path = "../tests/suite/harness.rs"]
mod harness;
#[allow(dead_code, unused_imports)]
#[path = "../tests/suite/operators.rs"]
mod operators;
#[path = "../tests/ops/ops.rs"]
mod ops;

/// How GPUs store activations.
fn precision() -> Precision {
    match std::env::var("SONOLUME_BENCH_PRECISION").as_deref() {
        Err(_) | Ok("f32") => Precision::F32,
        Ok("f16") => Precision::F16,
        Ok(other) => panic!("SONOLUME_BENCH_PRECISION is f32 or f16, not {other}"),
    }
}

/// One operator, on its own, with what it reads.
struct Work {
    name: String,
    graph: Arc<Graph>,
    plan: Plan,
    inputs: Vec<HostTensor>,
    expected: HostTensor,
}

enum Runner {
    Cpu(CpuRunner),
    Gpu(GpuRunner),
}

impl Runner {
    fn new(context: &Option<Arc<Context>>, graph: Arc<Graph>) -> sonolume::Result<Self> {
        Ok(match context {
            Some(context) => Self::Gpu(pollster::block_on(GpuRunner::new(context.clone(), graph, precision()))?),
            None => Self::Cpu(CpuRunner::new(graph)?),
        })
    }

    fn precision(&self) -> Precision {
        match self {
            Self::Cpu(_) => Precision::F32,
            Self::Gpu(gpu) => gpu.precision(),
        }
    }

    /// As the parity tests.
    fn tolerance(&self) -> f32 {
        match self.precision() {
            Precision::F32 => operators::TOLERANCE,
            Precision::F16 => operators::TOLERANCE_F16,
        }
    }

    fn run(&self, work: &Work) -> sonolume::Result<HostTensor> {
        let mut results = match self {
            Self::Cpu(runner) => runner.run(&work.plan, &work.inputs)?,
            Self::Gpu(runner) => pollster::block_on(runner.run(&work.plan, &work.inputs))?,
        };
        Ok(results.remove(0))
    }
}

impl Work {
    /// `op` on inputs of the given places, with values that repeat nowhere near.
    fn new(name: String, op: Op, places: Vec<Place>, params: Vec<Arc<Param>>) -> sonolume::Result<Self> {
        let mut graph = Graph::new();
        let mut state = 1u32;
        let mut inputs = Vec::new();
        let mut values = Vec::new();
        for place in &places {
            values.push(graph.input(place.shape.channels));
            let data = (0..place.shape.elements()?).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            inputs.push(HostTensor::new(place.shape, data.collect())?);
        }
        let output = graph.push(op, &values, params)?;
        graph.set_output(output);
        let plan = graph.plan(&places)?;
        let graph = Arc::new(graph);
        let expected = CpuRunner::new(graph.clone())?.run(&plan, &inputs)?.remove(0);
        Ok(Self { name, graph, plan, inputs, expected })
    }

    fn bench(&self, criterion: &mut Criterion, group: &str, device: &str, context: &Option<Arc<Context>>) {
        let runner = Runner::new(context, self.graph.clone()).expect("a runner");
        // Twice: the second run finds the first one's leftovers.
        for _ in 0..2 {
            let answer = runner.run(self).expect("an answer");
            harness::assert_close(&self.name, &answer, &self.expected, runner.tolerance());
        }
        let weights: usize = self.graph.parameters();
        let bytes = (self.plan.traffic_elements + weights as u64) * runner.precision().bytes();
        let stored = if runner.precision() == Precision::F16 { ", f16" } else { "" };
        let mut group = criterion.benchmark_group(format!("{group}, {device}{stored}"));
        group.throughput(Throughput::ElementsAndBytes { elements: self.plan.flops, bytes });
        group.bench_function(&self.name, |bencher| bencher.iter(|| runner.run(self)));
        if let Runner::Gpu(gpu) = &runner
            && gpu.context().has_timestamps()
        {
            group.bench_function(format!("{}, GPU time", self.name), |bencher| {
                bencher.iter_custom(|runs| (0..runs).map(|_| self.device_time(gpu)).sum());
            });
        }
        group.finish();
    }

    /// By the device's own clock, without the transfers.
    fn device_time(&self, gpu: &GpuRunner) -> Duration {
        let timings = pollster::block_on(gpu.profile(&self.plan, &self.inputs)).expect("timings");
        // criterion divides by it.
        Duration::from_nanos(timings.iter().map(|timing| timing.nanoseconds).sum::<u64>().max(1))
    }
}

/// The case tables of the parity tests.
fn tables(criterion: &mut Criterion) {
    let devices = devices::devices();
    operators::every_case(|case, check| {
        let plan = check.graph.plan(&check.places).expect("a plan");
        let work =
            Work { name: case.to_string(), graph: check.graph, plan, inputs: check.inputs, expected: check.expected };
        for (device, context) in &devices {
            work.bench(criterion, "tables", device, context);
        }
    });
}

/// Every operator of the built-in generator on a 640x480 picture, once for each size it occurs in.
fn built_in(criterion: &mut Criterion) {
    let graph = Model::built_in().expect("the built-in generator").graph;
    let plan = graph.plan_whole(480, 640).expect("a plan");
    let mut seen = Vec::new();
    for step in &plan.steps {
        let node = &graph.nodes()[step.node];
        let shapes: Vec<_> = step.io.inputs.iter().map(|place| place.shape).collect();
        if seen.contains(&(node.op.clone(), shapes.clone())) {
            continue;
        }
        let sizes: Vec<String> = shapes.iter().map(ToString::to_string).collect();
        let name = format!("{} {} to {}", node.op.stem(), sizes.join(", "), step.io.output.shape);
        let work = Work::new(name, node.op.clone(), step.io.inputs.clone(), node.params.clone()).expect("work");
        for (device, context) in devices::devices() {
            work.bench(criterion, "sonolume-s at 640x480", &device, &context);
        }
        seen.push((node.op.clone(), shapes));
    }
}

/// 3x3 convolutions from as many channels to as many, the bulk of most generators.
fn convolutions(criterion: &mut Criterion) {
    for (channels, size) in [(64, [240, 320]), (128, [120, 160]), (256, [60, 80])] {
        let op = Conv2d {
            in_channels: channels,
            out_channels: channels,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [[1, 1], [1, 1]],
            border: Border::Zero,
            dilation: [1, 1],
            groups: 1,
            bias: true,
            activation: Default::default(),
            residual: None,
        };
        let values = |count: usize| (0..count).map(|i| ((i * 7919 % 1013) as f32 / 1013.0 - 0.5) * 0.1).collect();
        let param = |name: &str, shape: Vec<usize>| {
            let count = shape.iter().product();
            Arc::new(Param::new(name, shape, values(count)).expect("a parameter"))
        };
        let params = vec![param("weight", vec![channels, channels, 3, 3]), param("bias", vec![channels])];
        let place = Place::whole(sonolume::Shape::new(channels, size[0], size[1]));
        let name = format!("conv2d 3x3 {channels} channels, {}x{}", size[1], size[0]);
        let work = Work::new(name, op.into(), vec![place], params).expect("work");
        for (device, context) in devices::devices() {
            work.bench(criterion, "convolutions", &device, &context);
        }
    }
}

criterion_group! { name = benches; config = devices::criterion(); targets = convolutions, built_in, tables }
criterion_main!(benches);
