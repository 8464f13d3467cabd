//! `sonolume tensor`: raw values through a generator, to check it against another runtime.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use sonolume::{HostTensor, Shape};

use super::console::Console;
use super::engine::{EngineOptions, device_record, weights_files};
use super::failure::{Failure, Kind, Result};
use super::files;

/// Run a generator on a tensor.
///
/// The tensor `input` of a safetensors file, [images, channels, height, width] in f32 (f16, bf16 and f64 are converted), goes
/// through the generator in the generator's own range of values, the images one after the other. The result is stored as
/// `output`, f32, unclamped. An OUTPUT that exists is replaced.
#[derive(Args)]
pub struct Options {
    /// The safetensors file that holds `input`; `-` for stdin.
    #[arg(short, long, value_name = "X.safetensors")]
    input: PathBuf,

    /// The safetensors file to write; `-` for stdout.
    #[arg(short, long, value_name = "Y.safetensors")]
    output: PathBuf,

    #[command(flatten)]
    engine: EngineOptions,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let started = Instant::now();
    if console.json() && files::is_stream(&options.output) {
        return Err(Failure::usage("stdout cannot carry the tensor and JSON: name a file"));
    }
    let weights: Vec<PathBuf> = weights_files(&options.engine.models).collect();
    let inputs = weights.iter().chain([&options.input]).map(PathBuf::as_path);
    files::check_distinct(inputs, &[&options.output])?;
    files::check_writable(&options.output, false)?;
    let images = read(&options.input)?;
    let from = images[0].shape();
    let count = images.len();

    let enhancer = options.engine.open(console)?;
    let mut shape = Shape::new(0, 0, 0);
    let mut bytes = Vec::new();
    for image in images {
        let result = enhancer.run(&image).map_err(|error| Failure::from(error).at(&options.input))?;
        shape = result.shape();
        bytes.extend(result.data().iter().flat_map(|value| value.to_le_bytes()));
    }
    let shape = [count, shape.channels, shape.height, shape.width];
    let broken =
        |error: safetensors::SafeTensorError| Failure::new(Kind::Failed, error.to_string()).at(&options.output);
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).map_err(broken)?;
    files::write(&options.output, &safetensors::serialize([("output", view)], None).map_err(broken)?)?;

    if console.json() {
        console.record(&json!({
            "input": options.input.to_string_lossy(),
            "output": options.output.to_string_lossy(),
            "status": "done",
            "input_shape": [count, from.channels, from.height, from.width],
            "output_shape": shape,
            "model": enhancer.model().name,
            "architecture": enhancer.model().architecture,
            "model_sha256": enhancer.model().sha256,
            "device": device_record(&enhancer.device()),
            "device_fallback": options.engine.fallback(&enhancer.device()),
            "seconds": started.elapsed().as_secs_f64(),
        }))?;
    }
    Ok(0)
}

/// The images of the tensor `input`; at least one.
fn read(path: &std::path::Path) -> Result<Vec<HostTensor>> {
    let bytes = files::read(path)?;
    let invalid = |message: String| Failure::new(Kind::Input, message).at(path);
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| invalid(format!("not a valid safetensors file ({error}): write it again")))?;
    let tensor = file.tensor("input").map_err(|_| {
        let names: Vec<String> = file.names().into_iter().map(|name| format!("`{name}`")).collect();
        invalid(format!("the file has no tensor `input`, only {}: rename it", names.join(", ")))
    })?;
    let [images, channels, height, width] = tensor.shape()[..] else {
        return Err(invalid(format!(
            "`input` has shape {:?}: [images, channels, height, width] is needed",
            tensor.shape()
        )));
    };
    let values = decode(tensor.data(), tensor.dtype())
        .ok_or_else(|| invalid(format!("`input` is of {:?}: store it as F32, F16, BF16 or F64", tensor.dtype())))?;
    if values.is_empty() {
        return Err(invalid(format!("`input` of shape {:?} is empty", tensor.shape())));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(invalid(format!("`input` holds {} at element {at}: values must be finite", values[at])));
    }
    let shape = Shape::new(channels, height, width);
    let images = values.chunks_exact(values.len() / images).map(|image| HostTensor::new(shape, image.to_vec()));
    Ok(images.collect::<sonolume::Result<_>>()?)
}

fn decode(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => return None,
    })
}
