//! Browsers promise WebGPU's default limits and no features: every generator runs within them, and smaller ones make smaller tiles.

use std::sync::Arc;

use sonolume::gpu::Context;
use sonolume::wgpu;
use sonolume::{Device, Enhancer, HostTensor, ModelSource, Shape};

use crate::harness::{self, compare};
use crate::models::{noise, tiny_models};

/// The tests' adapter, opened as a browser would.
fn open(limits: wgpu::Limits) -> Arc<Context> {
    let (_, device, queue) = harness::open(|_| limits);
    Context::from_wgpu(device, queue)
}

fn run(source: ModelSource, device: Device, input: &HostTensor) -> HostTensor {
    Enhancer::builder().model(source).device(device).build().and_then(|enhancer| enhancer.run(input)).unwrap()
}

#[test]
fn every_generator_runs_within_the_default_limits() {
    let context = open(wgpu::Limits::default());
    for model in tiny_models() {
        let input = noise(Shape::new(model.in_channels(), 40, 56), 11);
        let source = || ModelSource::Loaded(Box::new(model.clone()));
        let expected = run(source(), Device::Cpu, &input);
        let found = run(source(), Device::Shared(context.clone()), &input);
        compare(&found, &expected, 1e-4).unwrap_or_else(|error| panic!("{}: {error}", model.name));
    }
}

#[test]
fn tiles_fit_the_largest_binding() {
    let context = open(wgpu::Limits { max_storage_buffer_binding_size: 4 << 20, ..Default::default() });
    let model = tiny_models().into_iter().find(|model| model.name == "sonolume").expect("the small sonolume");
    let source = || ModelSource::Loaded(Box::new(model.clone()));
    let input = noise(Shape::new(1, 700, 500), 12);
    let whole = run(source(), Device::Shared(open(wgpu::Limits::default())), &input);
    let tiled = run(source(), Device::Shared(context), &input);
    assert_eq!(whole, tiled);
}
