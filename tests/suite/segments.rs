//! Generators that look at the whole image: cut at their global operators they give the same image, in memory that
//! depends on the tile alone.

use sonolume::enhancer::Device;
use sonolume::gpu::Context;
use sonolume::models::Model;
use sonolume::{Enhancer, Frame, ModelSource, Shape, TileSize, wgpu};

use crate::harness::{self, assert_close, context};
use crate::models::{noise, tiny_models};

/// Moments and means are summed in another order than by the untiled kernels.
const TOLERANCE: f32 = 1e-5;

fn global_models() -> Vec<Model> {
    let models: Vec<Model> = tiny_models().into_iter().filter(|model| model.graph.is_global()).collect();
    for architecture in ["ResNet generator", "U-Net generator", "USenhance", "NAFNet", "Restormer", "Swin V2"] {
        let is_there = models.iter().any(|model| model.architecture.contains(architecture));
        assert!(is_there, "no global {architecture} among the small generators");
    }
    models
}

fn enhancer(model: &Model, device: &Device, tile: TileSize) -> Enhancer {
    let builder = Enhancer::builder().model(ModelSource::Loaded(Box::new(model.clone())));
    builder.device(device.clone()).tile(tile).build().unwrap_or_else(|error| panic!("{}: {error}", model.name))
}

fn segments_agree(device: &Device) {
    for model in global_models() {
        assert!(model.graph.segments().unwrap().len() > 1, "{} is one segment", model.name);
        let input = noise(Shape::new(model.in_channels(), 75, 118), 11);
        let whole = enhancer(&model, device, TileSize::Square(4096)).run(&input).unwrap();
        for tile in [48, 17] {
            let tiled = enhancer(&model, device, TileSize::Square(tile)).run(&input).unwrap();
            let what = format!("{} in tiles of {tile}", model.name);
            assert_close(&what, &tiled, &whole, TOLERANCE);
        }
    }
}

#[test]
fn segments_agree_with_the_whole_image_on_the_cpu() {
    segments_agree(&Device::Cpu);
}

#[test]
fn segments_agree_with_the_whole_image_on_the_gpu() {
    segments_agree(&Device::Shared(context()));
}

/// Bytes of activations at once, and the number of tiles.
fn cost(model: &Model, device: &Device, tile: usize, size: [usize; 2]) -> (u64, usize) {
    let colours = |i: usize| (i * 37 % 251) as u8;
    let pixels = size[0] * size[1];
    let frame = match model.in_channels() {
        1 => Frame::from_luma8(size[1], size[0], (0..pixels).map(colours).collect()),
        _ => Frame::from_rgb8(size[1], size[0], (0..3 * pixels).map(colours).collect()),
    };
    let report = enhancer(model, device, TileSize::Square(tile)).enhance(&frame.unwrap()).unwrap().report;
    (report.activation_bytes, report.tiles)
}

fn memory_is_bounded(names: &[&str], device: &Device) {
    for name in names {
        let model = global_models().into_iter().find(|model| model.name == *name).unwrap();
        let (small, _) = cost(&model, device, 16, [160, 200]);
        let (large, tiles) = cost(&model, device, 64, [160, 200]);
        let (whole, one) = cost(&model, device, 4096, [160, 200]);
        assert!(small < large && large < whole, "{name}: {small}, {large}, {whole} bytes");
        assert!(one == 1 && tiles > 1, "{name}: {one}, {tiles} tiles");
        // A larger image takes more tiles and no more memory.
        let (larger, more) = cost(&model, device, 64, [320, 400]);
        assert_eq!(larger, large, "{name}");
        assert!(more > 2 * tiles, "{name}: {more}, {tiles} tiles");
    }
}

#[test]
fn memory_depends_on_the_tile_and_not_on_the_image() {
    let names =
        ["resnet-instance", "usenhance-side", "nafnet", "restormer", "usenhance-shuffle", "attention-unet-monai"];
    memory_is_bounded(&names, &Device::Cpu);
    memory_is_bounded(&names[..1], &Device::Shared(context()));
}

/// A device whose largest buffer is small: tiles are halved until they fit, and generators that look at the whole image are
/// cut although the memory limit would not ask for it.
#[test]
fn tiles_are_halved_until_the_device_has_room() {
    const LARGEST_BUFFER: u64 = 128 << 10;
    let context = context();
    let limits = |limits| wgpu::Limits { max_storage_buffer_binding_size: LARGEST_BUFFER, ..limits };
    let (_, device, queue) = harness::open(limits);
    let small = Context::from_wgpu(device, queue);
    for name in ["compact-x2", "resnet-instance", "nafnet"] {
        let model = tiny_models().into_iter().find(|model| model.name == name).unwrap();
        let input = noise(Shape::new(model.in_channels(), 150, 203), 13);
        let expected = enhancer(&model, &Device::Shared(context.clone()), TileSize::Auto).run(&input).unwrap();
        let whole = model.graph.plan_whole(150, 203).unwrap().largest_slot() as u64 * 4;
        assert!(whole > 2 * LARGEST_BUFFER, "{name}: {whole} bytes fit");
        for tile in [TileSize::Square(4096), TileSize::Square(128), TileSize::Auto] {
            let tiled = enhancer(&model, &Device::Shared(small.clone()), tile).run(&input).unwrap();
            let tolerance = if model.graph.is_global() { TOLERANCE } else { 0.0 };
            assert_close(&format!("{name} with {tile:?}"), &tiled, &expected, tolerance);
        }
    }
}

/// More workgroups than a dispatch may have: cut into tiles as where memory is short.
#[test]
fn a_side_of_more_workgroups_than_a_device_has_is_cut() {
    let context = context();
    let most = context.device().limits().max_compute_workgroups_per_dimension as usize;
    let model = tiny_models().into_iter().find(|model| model.name == "resnet-instance").unwrap();
    let input = noise(Shape::new(model.in_channels(), 1, 8 * most + 9), 13);
    let expected = enhancer(&model, &Device::Cpu, TileSize::Square(1 << 16)).run(&input).unwrap();
    let actual = enhancer(&model, &Device::Shared(context), TileSize::Auto).run(&input).unwrap();
    assert_close(&model.name, &actual, &expected, 1e-4);
}
