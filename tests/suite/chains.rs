//! Generators in a row, and generators that enlarge: as one graph they give what they give one by one.

use sonolume::enhancer::Device;
use sonolume::models::{Model, ValueRange};
use sonolume::{Enhancer, EnhancerBuilder, Frame, HostTensor, ModelSource, Shape, TileSize};

use crate::harness::{assert_close, context};
use crate::models::{noise, tiny_models};

/// As for one generator against PyTorch.
const TOLERANCE: f32 = 2e-5;

fn model(name: &str) -> Model {
    tiny_models().into_iter().find(|model| model.name == name).unwrap_or_else(|| panic!("no small {name}"))
}

fn chain(names: &[&str], device: &Device) -> EnhancerBuilder {
    let builder = Enhancer::builder().device(device.clone());
    names.iter().fold(builder, |builder, name| builder.model(ModelSource::Loaded(Box::new(model(name)))))
}

fn mapped(tensor: &HostTensor, scale: f32, shift: f32) -> HostTensor {
    HostTensor::new(tensor.shape(), tensor.data().iter().map(|value| scale * value + shift).collect()).unwrap()
}

/// The second's result on the first's, value ranges converted between them, in the first's range.
fn one_by_one(names: &[&str; 2], input: &HostTensor) -> HostTensor {
    let [first, second] = names.map(model);
    let run = |model: &Model, input: &HostTensor| {
        let source = ModelSource::Loaded(Box::new(model.clone()));
        Enhancer::builder().model(source).device(Device::Cpu).build().unwrap().run(input).unwrap()
    };
    let between = run(&first, input);
    match [first.range, second.range] {
        [ValueRange::Unit, ValueRange::Signed] => mapped(&run(&second, &mapped(&between, 2.0, -1.0)), 0.5, 0.5),
        [ValueRange::Signed, ValueRange::Unit] => mapped(&run(&second, &mapped(&between, 0.5, 0.5)), 2.0, -1.0),
        _ => run(&second, &between),
    }
}

/// Local, enlarging, padding and global generators, of both value ranges.
const PAIRS: &[([&str; 2], usize)] = &[
    (["compact-x2", "rrdbnet-x1"], 2),
    (["rrdbnet-trunk-x4", "compact-x2"], 8),
    (["unet-instance", "sonolume"], 1),
    (["sonolume", "resnet-affine"], 1),
    (["nafnet", "swinir-classical-x2"], 2),
    (["compact-x3", "resnet-instance"], 3),
];

fn chains_agree(device: &Device) {
    for (names, scale) in PAIRS {
        let input = noise(Shape::new(model(names[0]).in_channels(), 37, 51), 17);
        let expected = one_by_one(names, &input);
        assert_eq!(expected.shape().width, scale * 51, "{names:?}");
        let [whole, tiled] = [TileSize::Auto, TileSize::Square(24)].map(|tile| {
            let result = chain(names, device).tile(tile).build().unwrap().run(&input).unwrap();
            assert_close(&format!("{names:?} with {tile:?}"), &result, &expected, TOLERANCE);
            result
        });
        // What a tile misses at its borders can be less than the tolerance.
        if names.iter().all(|name| !model(name).graph.is_global()) {
            assert!(whole.data() == tiled.data(), "{names:?}: tiles differ from the whole");
        }
    }
}

#[test]
fn a_chain_gives_what_its_generators_give_one_by_one_on_the_cpu() {
    chains_agree(&Device::Cpu);
}

#[test]
fn a_chain_gives_what_its_generators_give_one_by_one_on_the_gpu() {
    chains_agree(&Device::Shared(context()));
}

#[test]
fn generators_of_other_channels_do_not_follow_each_other() {
    let error = chain(&["sonolume", "compact-x4"], &Device::Cpu).build().unwrap_err().to_string();
    assert!(
        error.contains("sonolume gives 1 channel") && error.contains("compact-x4, which is to follow, takes 3"),
        "{error}"
    );
}

/// Pictures through generators that enlarge: the size, the report and its caveat; the same in tiles.
#[test]
fn enlarged_pictures_say_what_they_are() {
    let frame = Frame::from_rgb8(41, 30, (0..41 * 30 * 3).map(|i| (i * 53 % 241) as u8).collect()).unwrap();
    for (names, scale) in [(&["compact-x4"][..], 4), (&["compact-x3", "rrdbnet-x2"], 6), (&["nafnet"], 1)] {
        let enhance = |tile| chain(names, &Device::Cpu).tile(tile).build().unwrap().enhance(&frame).unwrap();
        let whole = enhance(TileSize::Auto);
        let report = &whole.report;
        assert_eq!([whole.frame.width(), whole.frame.height()], [41 * scale, 30 * scale], "{names:?}");
        assert_eq!((report.scale, report.caveat.is_some()), (scale, scale > 1), "{names:?}");
        if let Some(caveat) = &report.caveat {
            assert!(caveat.contains(&format!("1/{scale} of the input's")), "{caveat}");
        }
        if scale > 1 {
            assert_eq!(enhance(TileSize::Square(16)).frame, whole.frame, "{names:?} in tiles");
        }
    }
}
