//! Each architecture: found from its file alone, equal to PyTorch, and strict about its tensors.
//!
//! `tests/goldens/models/<name>.safetensors` is a small generator with random weights, and
//! `<name>.reference.safetensors` PyTorch's `output` for its `input`; `make_models.py` makes both.

use std::path::{Path, PathBuf};

use sonolume::enhancer::Device;
use sonolume::models::Model;
use sonolume::weights::Weights;
use sonolume::{Enhancer, HostTensor, ModelSource, Shape, TileSize};

use crate::harness::{Golden, assert_close, compare, context};

/// Relative to the largest output; sums of thousands of products, in another order than PyTorch's.
const TOLERANCE: f32 = 2e-5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models")
}

/// The names of all small generators.
fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".safetensors").map(str::to_owned))
        .filter(|name| !name.ends_with(".reference"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no generators in tests/goldens/models: run make_models.py");
    names
}

fn open(name: &str) -> Weights<'static> {
    Weights::open(folder().join(format!("{name}.safetensors"))).unwrap()
}

/// One small generator of every architecture and configuration.
pub fn tiny_models() -> Vec<Model> {
    names().into_iter().map(|name| Model::load(&name, open(&name)).unwrap_or_else(|e| panic!("{name}: {e}"))).collect()
}

/// Reproducible values between 0 and 1.
pub fn noise(shape: Shape, seed: u32) -> HostTensor {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let data = (0..shape.elements().unwrap())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32
        })
        .collect();
    HostTensor::new(shape, data).unwrap()
}

fn agree(device: &Device) {
    for model in tiny_models() {
        let golden = Golden::open(&format!("models/{}.reference", model.name));
        let (input, expected) = (golden.image("input").unwrap(), golden.image("output").unwrap());
        let name = model.name.clone();
        let enhancer =
            Enhancer::builder().model(ModelSource::Loaded(Box::new(model))).device(device.clone()).build().unwrap();
        assert_close(&name, &enhancer.run(&input).unwrap(), &expected, TOLERANCE);
    }
}

#[test]
fn every_architecture_agrees_with_pytorch_on_the_cpu() {
    agree(&Device::Cpu);
}

#[test]
fn every_architecture_agrees_with_pytorch_on_the_gpu() {
    agree(&Device::Shared(context()));
}

/// Small generators, what their tensors do not tell, another value for it, and what the metadata cannot say.
const UNTOLD: &[(&str, &str, [&str; 2], &str)] = &[
    ("resnet-none", "norm", ["none", "instance"], "batch"),
    ("resnet-instance", "norm", ["instance", "none"], "batch"),
    ("unet-none", "norm", ["none", "instance"], "layer"),
    ("unet-instance", "norm", ["instance", "none"], "layer"),
    ("resnet-instance", "padding_type", ["reflect", "replicate"], "zeros"),
    ("resnet-old", "running_statistics", ["unused", "used"], "maybe"),
    ("compact-x1-relu", "activation", ["relu", "leakyrelu"], "gelu"),
    ("dncnn", "activation", ["relu", "leakyrelu"], "gelu"),
    ("mimicknet", "mimicknet.down_slope", ["0.2", "0.1"], "steep"),
    ("mimicknet", "mimicknet.up_slope", ["0", "0.3"], "steep"),
    ("rrdbnet-trunk-x2", "enlargement", ["2", "3"], "4"),
    ("swinir-jpeg", "image_range", ["255", "1"], "100"),
];

#[test]
fn what_no_tensor_tells_is_said_and_can_be_noted() {
    for &(name, key, [assumed, other], unknown) in UNTOLD {
        let load = |value: Option<&str>| {
            let weights = open(name);
            Model::load(name, value.map_or_else(|| open(name), |value| weights.with_note(key, value)))
        };
        let run = |model: Model| {
            let input = noise(Shape::new(model.in_channels(), 17, 22), 5);
            let source = ModelSource::Loaded(Box::new(model));
            Enhancer::builder().model(source).device(Device::Cpu).build().unwrap().run(&input).unwrap()
        };
        let (plain, same, changed) = (load(None).unwrap(), load(Some(assumed)).unwrap(), load(Some(other)).unwrap());
        let note = format!("{key}={assumed}");
        let says =
            |model: &Model| model.details.split("; assumed, as no tensor tells: ").nth(1).unwrap_or("").to_owned();
        assert!(says(&plain).split(", ").any(|part| part == note), "{name}: {note} is not in {}", plain.details);
        for model in [&same, &changed] {
            assert!(!says(model).contains(&format!("{key}=")), "{name}: {}", model.details);
        }
        let (plain, same, changed) = (run(plain), run(same), run(changed));
        assert!(plain.data() == same.data(), "{name} with {note} is another network");
        let is_other = plain.shape() != changed.shape() || compare(&changed, &plain, 1e-4).is_err();
        assert!(is_other, "{name} with {key}={other} is the same network");
        let error = load(Some(unknown)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains(&format!("`{unknown}`")), "{name}: {error}");
    }
    // What tensors tell is not assumed.
    for name in ["resnet-batch", "resnet-affine", "unet-batch", "compact-x4"] {
        let details = Model::load(name, open(name)).unwrap().details;
        assert!(!details.contains("norm=") && !details.contains("activation="), "{name}: {details}");
    }
}

#[test]
fn a_left_over_tensor_is_named() {
    for name in names() {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let stray = 1.0f32.to_le_bytes();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &stray).unwrap();
        let tensors = file.tensors().into_iter().chain([("a.stray.tensor".to_owned(), view)]);
        let bytes = safetensors::serialize(tensors, None).unwrap();
        let error = Model::load(&name, Weights::from_bytes(bytes).unwrap()).unwrap_err().to_string();
        assert!(error.contains("a.stray.tensor"), "{name}: {error}");
    }
}

#[test]
fn a_missing_tensor_is_an_error_that_names_an_architecture() {
    for name in names() {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for missing in file.names() {
            let rest = file.tensors().into_iter().filter(|(tensor, _)| tensor != missing);
            let bytes = safetensors::serialize(rest, None).unwrap();
            let Ok(weights) = Weights::from_bytes(bytes) else { continue };
            // A bias may be absent: that is another configuration of the same architecture. Buffers that training leaves
            // behind may be absent too.
            if let Err(error) = Model::load(&name, weights) {
                let known = sonolume::models::architectures().any(|known| error.to_string().contains(known));
                assert!(known, "{name} without {missing}: {error}");
            } else {
                let optional =
                    ["bias", "num_batches_tracked", "attn_mask", "relative_position_index", "relative_coords_table"];
                let may_miss = optional.iter().any(|end| missing.ends_with(end));
                assert!(may_miss, "{name} without {missing} was accepted");
            }
        }
    }
}

/// Fusion multiplies biases into each other before any operator has looked at them.
#[test]
fn a_bias_of_another_size_is_an_error_that_names_it() {
    let number = 1.0f32.to_le_bytes();
    for name in names() {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let is_kernel = |bias: &str| {
            let weight = bias.strip_suffix("bias").map(|stem| file.tensor(&format!("{stem}weight")));
            weight.is_some_and(|weight| {
                weight.is_ok_and(|weight| weight.shape().len() > 1 && !weight.shape().contains(&1))
            })
        };
        for bias in file.names().into_iter().filter(|tensor| is_kernel(tensor)) {
            let one = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &number).unwrap();
            let rest = file.tensors().into_iter().filter(|(tensor, _)| tensor != bias);
            let bytes = safetensors::serialize(rest.chain([(bias.to_owned(), one)]), None).unwrap();
            let error = Model::load(&name, Weights::from_bytes(bytes).unwrap()).unwrap_err().to_string();
            assert!(error.contains(bias), "{name} with another {bias}: {error}");
        }
    }
}

/// A tensor of another shape than the architecture's is an error or another configuration, never a panic.
#[test]
fn hostile_shapes_do_not_panic() {
    const HUGE: usize = 1 << 62;
    for name in names() {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let names = file.names();
        // Detection looks at the tensors with the lowest indices first; the others are like them.
        for victim in names.iter().filter(|name| !name.chars().any(|c| ('3'..='9').contains(&c))) {
            let shape = file.tensor(victim).unwrap().shape().to_vec();
            let mut shapes = vec![vec![], vec![0], vec![2, 1], vec![1; 5]];
            for axis in 0..shape.len() {
                for size in [0, 1, shape[axis] + 1] {
                    let mut other = shape.clone();
                    other[axis] = size;
                    shapes.push(other);
                }
            }
            // Empty, so that the file stays small, while the other sizes are anything.
            let mut other = vec![HUGE; shape.len()];
            if let Some(first) = other.first_mut() {
                *first = 0;
                shapes.push(other);
            }
            for shape in shapes {
                let data = vec![0; 4 * shape.iter().product::<usize>()];
                let view = |tensor: &str| match tensor == *victim {
                    true => {
                        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), &data).unwrap()
                    }
                    false => file.tensor(tensor).unwrap(),
                };
                let tensors = names.iter().map(|tensor| (tensor.to_string(), view(tensor)));
                if let Ok(weights) = Weights::from_bytes(safetensors::serialize(tensors, None).unwrap()) {
                    let loaded = std::panic::catch_unwind(|| Model::load(&name, weights).map(|_| ()));
                    assert!(loaded.is_ok(), "{name} with {victim} {shape:?} panicked");
                }
            }
        }
    }
}

/// Published weights, where they are at hand: `SONOLUME_PUBLISHED` names a folder with `<name>.safetensors` and
/// `<name>.reference.safetensors`.
#[test]
fn published_weights_agree_with_their_references() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/weights");
    let folder = std::env::var_os("SONOLUME_PUBLISHED").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no published weights at hand: nothing to compare");
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".reference.safetensors")) else {
            continue;
        };
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let image = |tensor: &str| {
            let view = file.tensor(tensor).unwrap();
            let [1, channels, height, width] = view.shape()[..] else { panic!("{name}: {tensor}") };
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            HostTensor::new(Shape::new(channels, height, width), values).unwrap()
        };
        let enhancer = Enhancer::builder()
            .model(ModelSource::File(folder.join(format!("{name}.safetensors"))))
            .device(Device::Cpu)
            .tile(TileSize::Auto)
            .build()
            .unwrap_or_else(|error| panic!("{error}"));
        assert_close(&name, &enhancer.run(&image("input")).unwrap(), &image("output"), TOLERANCE);
    }
}
