//! Where the CPU's time goes: each step of a generator with its GFLOP/s and GB/s.
//!
//! `cargo bench --bench steps -- [weights.safetensors] [height] [width] [runs]`; without weights the built-in generator.
//! Times are the smallest of all runs; a convolution's operations are counted as direct convolution.

use std::time::{Duration, Instant};

use sonolume::cpu::CpuRunner;
use sonolume::weights::Weights;
use sonolume::{HostTensor, Model, Shape};

fn main() -> sonolume::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
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
    let runner = CpuRunner::new(model.graph.clone())?;

    let mut steps: Vec<(Vec<usize>, Duration)> = Vec::new();
    let mut totals = Vec::new();
    for _ in 0..=runs {
        let (started, mut last, mut index) = (Instant::now(), Instant::now(), 0);
        runner.run_observed(&plan, &inputs, |nodes| {
            let elapsed = last.elapsed();
            match steps.get_mut(index) {
                Some((_, least)) => *least = elapsed.min(*least),
                None => steps.push((nodes.to_vec(), elapsed)),
            }
            index += 1;
            last = Instant::now();
        })?;
        totals.push(started.elapsed());
    }
    for (nodes, time) in &steps {
        let (mut flops, mut elements, mut names) = (0, 0, Vec::new());
        for step in plan.steps.iter().filter(|step| nodes.contains(&step.node)) {
            let op = &model.graph.nodes()[step.node].op;
            flops += op.flops(&step.io);
            for place in step.io.inputs.iter().chain([&step.io.output]) {
                elements += place.shape.stored_elements()?;
            }
            names.push(format!("{} {} -> {}", op.stem(), step.io.inputs[0].shape, step.io.output.shape));
        }
        let seconds = time.as_secs_f64();
        let name = if names.is_empty() { "layout of the input".into() } else { names.join(", ") };
        let (rate, bytes) = (flops as f64 / seconds / 1e9, 4.0 * elements as f64 / seconds / 1e9);
        println!("{:9.3} ms {rate:7.1} GFLOP/s {bytes:6.1} GB/s  {name}", 1e3 * seconds);
    }
    totals.sort();
    let (least, median) = (totals[0].as_secs_f64(), totals[totals.len() / 2].as_secs_f64());
    let rate = plan.flops as f64 / least / 1e9;
    println!("{:9.3} ms {rate:7.1} GFLOP/s at best, {:.3} ms in the middle of {runs} runs", 1e3 * least, 1e3 * median);
    Ok(())
}
