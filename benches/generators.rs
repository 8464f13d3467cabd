//! Generators on whole pictures: frames a second, milliseconds per megapixel, peak bytes, and the time to a first frame.
//!
//! The built-in one, and the files that `SONOLUME_BENCH_MODELS` names, separated by commas; `SONOLUME_BENCH_DEVICE` names
//! devices. Every device's answer is compared with the CPU's before it is timed. What criterion has no column for is printed
//! beside it: a first frame is cold when the generator was just opened, warm when its kernels were made by a smaller one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sonolume::gpu::{Context, GpuRunner};
use sonolume::phantom::{Phantom, PhantomOptions};
use sonolume::{Device, Enhancer, Frame, HostTensor, ModelSource, Precision, Shape};

#[path = "support/devices.rs"]
mod devices;

/// Sizes whose first frame takes longer are told from that frame, and not sampled.
const LONGEST_S: f64 = 5.0;

fn phantom(width: usize, height: usize) -> Frame {
    Phantom::new(PhantomOptions { width, height, ..PhantomOptions::default() }).expect("a phantom").pair().low
}

fn open(model: &ModelSource, context: &Option<Arc<Context>>) -> Enhancer {
    let device = context.clone().map_or(Device::Cpu, Device::Shared);
    Enhancer::builder().model(model.clone()).device(device).build().expect("an enhancer")
}

/// The device's picture differs from the CPU's by one grey level at most.
fn check(model: &ModelSource, enhancer: &Enhancer) {
    let frame = phantom(163, 117);
    let truth = open(model, &None).enhance(&frame).expect("the CPU's picture").frame;
    let answer = enhancer.enhance(&frame).expect("an enhanced picture").frame;
    let (a, b) = (answer.as_u8().expect("8 bit"), truth.as_u8().expect("8 bit"));
    assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1), "{} is wrong", enhancer.device().name);
}

/// The sum of the operators' times by timestamp queries.
fn device_time(enhancer: &Enhancer, context: &Arc<Context>, width: usize, height: usize) -> Duration {
    let graph = &enhancer.model().graph;
    let plan = graph.plan_whole(height, width).expect("a plan");
    let input = HostTensor::zeros(Shape::new(enhancer.model().in_channels(), height, width)).expect("an input");
    let profile = async {
        let runner = GpuRunner::new(context.clone(), graph.clone(), Precision::F32).await?;
        // The first run makes the kernels.
        runner.profile(&plan, std::slice::from_ref(&input)).await?;
        runner.profile(&plan, std::slice::from_ref(&input)).await
    };
    let timings = pollster::block_on(profile).expect("timings");
    Duration::from_nanos(timings.iter().map(|timing| timing.nanoseconds).sum())
}

fn generators(criterion: &mut Criterion) {
    let named = std::env::var("SONOLUME_BENCH_MODELS").unwrap_or_default();
    let files = named.split(',').filter(|path| !path.is_empty()).map(|path| ModelSource::File(path.into()));
    for model in std::iter::once(ModelSource::Default).chain(files) {
        for (device, context) in devices::devices() {
            let started = Instant::now();
            let enhancer = open(&model, &context);
            enhancer.enhance(&phantom(640, 480)).expect("an enhanced picture");
            let cold = started.elapsed();
            check(&model, &enhancer);
            println!("{}, {device}: first frame, 640x480, cold: {cold:.1?}", enhancer.model().name);
            let mut group = criterion.benchmark_group(format!("{}, {device}", enhancer.model().name));
            for (width, height) in [(640, 480), (1024, 768), (2048, 2048)] {
                let frame = phantom(width, height);
                let fresh = open(&model, &context);
                fresh.enhance(&phantom(64, 64)).expect("an enhanced picture");
                let started = Instant::now();
                let report = fresh.enhance(&frame).expect("an enhanced picture").report;
                let warm = started.elapsed().as_secs_f64();
                let started = Instant::now();
                fresh.enhance(&frame).expect("an enhanced picture");
                let next = started.elapsed().as_secs_f64();
                let megapixels = (width * height) as f64 / 1e6;
                let weights = fresh.model().graph.parameters() as u64 * 4;
                println!(
                    "{width}x{height}: first frame, warm: {:.1} ms; then {:.2} frames/s, {:.1} ms per megapixel, {:.1} \
                     GFLOP/s; {} MiB in {} tiles",
                    warm * 1e3,
                    1.0 / next,
                    next * 1e3 / megapixels,
                    report.flops as f64 / 1e9 / next,
                    (report.activation_bytes + weights) >> 20,
                    report.tiles,
                );
                if let Some(context) = context.as_ref().filter(|context| report.tiles == 1 && context.has_timestamps())
                {
                    println!("{width}x{height}: {:.1?} on the device", device_time(&fresh, context, width, height));
                }
                if next < LONGEST_S {
                    group.throughput(Throughput::Elements((width * height) as u64));
                    group.bench_function(format!("{width}x{height}"), |bencher| {
                        bencher.iter(|| fresh.enhance(&frame));
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group! { name = benches; config = devices::criterion(); targets = generators }
criterion_main!(benches);
