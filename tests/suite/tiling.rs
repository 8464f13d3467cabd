//! Tiled equals whole, bit for bit, on either backend and for any tile size.

use sonolume::enhancer::Device;
use sonolume::models::Model;
use sonolume::ops::Axis;
use sonolume::{Enhancer, HostTensor, ModelSource, Shape, TileSize};

use crate::harness::context;
use crate::models::{noise, tiny_models};

fn run(model: &Model, device: Device, tile: TileSize, input: &HostTensor) -> HostTensor {
    Enhancer::builder()
        .model(ModelSource::Loaded(Box::new(model.clone())))
        .device(device)
        .tile(tile)
        .build()
        .and_then(|enhancer| enhancer.run(input))
        .unwrap_or_else(|error| panic!("{} at {tile:?}: {error}", model.name))
}

fn tiles_agree(device: &Device, pixels: usize) {
    for model in tiny_models().into_iter().filter(|model| !model.graph.is_global()) {
        let alignment = model.graph.alignment(Axis::Vertical);
        // Several tiles, and sizes that are multiples of nothing.
        let size = [pixels + 1, pixels + 38];
        let input = noise(Shape::new(model.in_channels(), size[0], size[1]), 7);
        let whole = run(&model, device.clone(), TileSize::Square(4096), &input);
        for tile in [1, alignment + 1, pixels / 2] {
            let tiled = run(&model, device.clone(), TileSize::Square(tile.max(pixels / 3)), &input);
            let different = whole.data().iter().zip(tiled.data()).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(different, 0, "{} in tiles of {tile}: {different} values differ", model.name);
        }
    }
}

#[test]
fn tiles_agree_with_the_whole_image_on_the_cpu() {
    tiles_agree(&Device::Cpu, 200);
}

#[test]
fn tiles_agree_with_the_whole_image_on_the_gpu() {
    tiles_agree(&Device::Shared(context()), 130);
}

/// Changing one pixel changes nothing farther away than the declared reach.
#[test]
fn the_measured_reach_is_within_the_declared() {
    for model in tiny_models().into_iter().filter(|model| !model.graph.is_global()) {
        let [vertical, horizontal] =
            Axis::BOTH.map(|axis| model.graph.reach(axis).unwrap().expect("a local generator has a reach"));
        let size = (2 * vertical.max(horizontal) + 40).min(480);
        let shape = Shape::new(model.in_channels(), size, size + 3);
        let enhancer = Enhancer::builder()
            .model(ModelSource::Loaded(Box::new(model.clone())))
            .device(Device::Cpu)
            .build()
            .unwrap();
        let before = noise(shape, 3);
        let mut after = before.clone();
        let (y, x) = (size / 2 + 1, size / 2 - 2);
        after.data_mut()[y * shape.width + x] += 0.5;
        let (before, after) = (enhancer.run(&before).unwrap(), enhancer.run(&after).unwrap());
        let scale = before.shape().height / size;
        let width = before.shape().width;
        let mut farthest = [0usize; 2];
        for (index, (a, b)) in before.data().iter().zip(after.data()).enumerate() {
            if a != b {
                let at = [index / width % before.shape().height / scale, index % width / scale];
                farthest = [farthest[0].max(at[0].abs_diff(y)), farthest[1].max(at[1].abs_diff(x))];
            }
        }
        assert!(
            farthest[0] <= vertical && farthest[1] <= horizontal,
            "{}: {farthest:?} exceeds {vertical}, {horizontal}",
            model.name
        );
        assert!(farthest[0] * 4 >= vertical, "{}: declares {vertical}, reaches only {farthest:?}", model.name);
    }
}
