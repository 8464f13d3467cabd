//! Where the time goes: each step of a generator with its GFLOP/s and GB/s, on the CPU or between timestamps on the GPU.
//!
//! `cargo bench --bench steps -- [weights.safetensors] [height] [width] [runs] [device=NAME] [f16]`; without weights
//! the built-in generator, without a device the CPU. Times are the smallest of all runs; a convolution's operations are counted
//! as direct convolution.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sonolume::cpu::CpuRunner;
use sonolume::gpu::{Context, GpuRunner, Precision, Timing};
use sonolume::graph::{Graph, Plan};
use sonolume::weights::Weights;
use sonolume::{HostTensor, Model, Shape};

fn main() -> sonolume::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let device = arguments.iter().find_map(|argument| argument.strip_prefix("device=").map(str::to_owned));
    let precision = if arguments.iter().any(|argument| argument == "f16") { Precision::F16 } else { Precision::F32 };
    arguments.retain(|argument| !argument.starts_with("device=") && argument != "f16");
    let (paths, numbers): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|a| a.parse::<usize>().is_err());
    let number = |index: usize, default| numbers.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (height, width, runs) = (number(0, 256), number(1, 256), number(2, 20));
    let model = match paths.first() {
        Some(path) => Model::load(path.as_str(), Weights::open(path)?)?,
        None => Model::built_in()?,
    };
    let plan = model.graph.plan_whole(height, width)?;
    let shape = Shape::new(model.in_channels(), height, width);
    let values = (0..shape.elements()?).map(|index| (index * 40_503 % 1009) as f32 / 1009.0).collect();
    let inputs = [HostTensor::new(shape, values)?];
    if let Some(name) = device {
        return gpu(&name, precision, model.graph.clone(), &plan, &inputs, runs);
    }
    let runner = CpuRunner::new(model.graph.clone())?;

    let mut steps: Vec<(Option<usize>, Duration)> = Vec::new();
    let mut totals = Vec::new();
    for _ in 0..=runs {
        let (started, mut last, mut index) = (Instant::now(), Instant::now(), 0);
        runner.run_observed(&plan, &inputs, |node| {
            let elapsed = last.elapsed();
            match steps.get_mut(index) {
                Some((_, least)) => *least = elapsed.min(*least),
                None => steps.push((node, elapsed)),
            }
            index += 1;
            last = Instant::now();
        })?;
        totals.push(started.elapsed());
    }
    for (node, time) in &steps {
        let (mut flops, mut elements, mut name) = (0, 0, "layout of the input".to_owned());
        if let Some(step) = plan.steps.iter().find(|step| Some(step.node) == *node) {
            let op = &model.graph.nodes()[step.node].op;
            flops = op.flops(&step.io);
            for place in op.moved(&step.io) {
                // A single channel is stored without padding there.
                let shape = place.shape;
                elements += if shape.channels == 1 { shape.elements()? } else { shape.stored_elements()? };
            }
            name = format!("{} {} -> {}", op.stem(), step.io.inputs[0].shape, step.io.output.shape);
        }
        let seconds = time.as_secs_f64();
        let (rate, bytes) = (flops as f64 / seconds / 1e9, 4.0 * elements as f64 / seconds / 1e9);
        println!("{:9.3} ms {rate:7.1} GFLOP/s {bytes:6.1} GB/s  {name}", 1e3 * seconds);
    }
    totals.sort();
    let (least, median) = (totals[0].as_secs_f64(), totals[totals.len() / 2].as_secs_f64());
    let rate = plan.flops as f64 / least / 1e9;
    println!("{:9.3} ms {rate:7.1} GFLOP/s at best, {:.3} ms in the middle of {runs} runs", 1e3 * least, 1e3 * median);
    Ok(())
}

/// The same between timestamps on the device of that name.
fn gpu(
    name: &str,
    precision: Precision,
    graph: Arc<Graph>,
    plan: &Plan,
    inputs: &[HostTensor],
    runs: usize,
) -> sonolume::Result<()> {
    let context = pollster::block_on(Context::named(name))?;
    println!("{}", context.info().name);
    let runner = pollster::block_on(GpuRunner::new(context, graph, precision))?;
    let mut least: Vec<Timing> = Vec::new();
    for _ in 0..=runs {
        for (index, timing) in pollster::block_on(runner.profile(plan, inputs))?.into_iter().enumerate() {
            match least.get_mut(index) {
                Some(least) if least.nanoseconds <= timing.nanoseconds => {}
                Some(least) => *least = timing,
                None => least.push(timing),
            }
        }
    }
    for (timing, step) in least.iter().zip(&plan.steps) {
        let seconds = timing.nanoseconds as f64 / 1e9;
        let (rate, bytes) = (timing.flops as f64 / seconds / 1e9, timing.bytes as f64 / seconds / 1e9);
        let (from, to) = (step.io.inputs[0].shape, step.io.output.shape);
        println!("{:9.3} ms {rate:7.1} GFLOP/s {bytes:6.1} GB/s  {} {from} -> {to}", 1e3 * seconds, timing.kernel);
    }
    let seconds = least.iter().map(|timing| timing.nanoseconds).sum::<u64>() as f64 / 1e9;
    println!("{:9.3} ms {:7.1} GFLOP/s, all steps", 1e3 * seconds, plan.flops as f64 / seconds / 1e9);
    Ok(())
}
