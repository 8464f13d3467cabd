//! Frames a second of the built-in generator on the CPU and, where there is one, on the GPU.
//!
//! Every device's answer is compared with the CPU's before it is timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sonolume::phantom::{Phantom, PhantomOptions};
use sonolume::{Device, Enhancer};

fn generators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sonolume-s");
    group.sample_size(10);
    for (width, height) in [(640, 480), (1024, 768)] {
        let phantom = Phantom::new(PhantomOptions { width, height, ..PhantomOptions::default() }).expect("a phantom");
        let frame = phantom.pair().low;
        let truth =
            Enhancer::builder().device(Device::Cpu).build().and_then(|e| e.enhance(&frame)).expect("the CPU").frame;
        for device in [Device::Cpu, Device::Gpu] {
            let Ok(enhancer) = Enhancer::builder().device(device).build() else { continue };
            let answer = enhancer.enhance(&frame).expect("an enhanced frame").frame;
            let (a, b) = (answer.as_u8().expect("8 bit"), truth.as_u8().expect("8 bit"));
            assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1), "{} is wrong", enhancer.device().name);
            group.throughput(Throughput::Elements((width * height) as u64));
            group.bench_function(format!("{} {width}x{height}", enhancer.device().name), |bencher| {
                bencher.iter(|| enhancer.enhance(&frame));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, generators);
criterion_main!(benches);
