//! What tiles cost, and whether a pixel costs the same in pictures of 0.25 to 64 megapixels.
//!
//! `SONOLUME_BENCH_DEVICE` names devices, `SONOLUME_BENCH_MEGAPIXELS` the largest picture (default 16). A tiled picture is
//! compared with the untiled one, bit for bit, before it is timed.

use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sonolume::gpu::Context;
use sonolume::{Device, Enhancer, Frame, TileSize};

#[path = "support/devices.rs"]
mod devices;

fn open(context: &Option<Arc<Context>>, tile: TileSize) -> Enhancer {
    let device = context.clone().map_or(Device::Cpu, Device::Shared);
    Enhancer::builder().device(device).tile(tile).build().expect("an enhancer")
}

fn picture(width: usize, height: usize) -> Frame {
    let sample = |i: usize| ((i % width) * 5 + (i / width) * 3 + i * i % 17) as u8;
    Frame::from_luma8(width, height, (0..width * height).map(sample).collect()).expect("a picture")
}

/// One picture in tiles of several sizes.
fn tiles(criterion: &mut Criterion) {
    let frame = picture(1024, 768);
    for (device, context) in devices::devices() {
        let whole = open(&context, TileSize::Square(1024)).enhance(&frame).expect("an enhanced picture").frame;
        let mut group = criterion.benchmark_group(format!("1024x768 in tiles, {device}"));
        group.throughput(Throughput::Elements(1024 * 768));
        for side in [128, 256, 512, 1024] {
            let enhancer = open(&context, TileSize::Square(side));
            let enhanced = enhancer.enhance(&frame).expect("an enhanced picture");
            assert_eq!(enhanced.frame, whole, "tiles of {side} differ");
            group.bench_function(format!("{side}"), |bencher| bencher.iter(|| enhancer.enhance(&frame)));
        }
        group.finish();
    }
}

/// Pictures of several sizes, in the tiles that the memory limit makes. Not criterion's: the largest take too long to sample.
fn cost_per_pixel(_: &mut Criterion) {
    let most = std::env::var("SONOLUME_BENCH_MEGAPIXELS").ok().and_then(|text| text.parse().ok()).unwrap_or(16.0);
    for (device, context) in devices::devices() {
        let enhancer = open(&context, TileSize::Auto);
        for side in [512, 1024, 2048, 4096, 8192] {
            let megapixels = (side * side) as f64 / f64::from(1 << 20);
            if megapixels > most {
                continue;
            }
            let frame = picture(side, side);
            let mut times = Vec::new();
            let mut tiles = 0;
            // As many as make about 16 megapixels, after one that allocates.
            for _ in 0..=(16.0 / megapixels).clamp(1.0, 8.0) as usize {
                let started = Instant::now();
                tiles = enhancer.enhance(&frame).expect("an enhanced picture").report.tiles;
                times.push(started.elapsed().as_secs_f64() * 1e3 / megapixels);
            }
            let mut times = times.split_off(1);
            times.sort_by(f64::total_cmp);
            println!(
                "{device}: {megapixels} megapixels in {tiles} tiles: {:.1} ms per megapixel ({:.1} to {:.1})",
                times[times.len() / 2],
                times[0],
                times[times.len() - 1]
            );
        }
    }
}

criterion_group! { name = benches; config = devices::criterion(); targets = tiles, cost_per_pixel }
criterion_main!(benches);
