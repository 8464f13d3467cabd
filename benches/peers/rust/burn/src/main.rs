//! burn on Vulkan as a worker of the comparison, with its kernel fusion and autotuning.
//!
//! Option `device`: `default`, or `cpu` for a software driver. burn has no ONNX reader that knows every operator of these
//! generators, so two of them are written here as one would write them in burn.

mod compact;
mod generator;
mod sonolume;

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use protocol::{Arguments, Result, Runtime, serve};

use generator::{Generator, Weights};

struct Burn {
    generator: Box<dyn Generator>,
    device: Device,
    input: TensorData,
}

impl Runtime for Burn {
    fn name(&self) -> String {
        format!("burn 0.22.1, {:?}", self.device)
    }

    fn run(&mut self) -> Result<Vec<f32>> {
        let image = Tensor::<4>::from_data(self.input.clone(), &self.device);
        Ok(self.generator.run(image).into_data().to_vec::<f32>().map_err(|error| format!("{error:?}"))?)
    }

    fn report(&self) -> String {
        self.device.memory_pool_usage().map_or("{}".into(), |usage| {
            format!(r#"{{"device_bytes": {}, "device_bytes_in_use": {}}}"#, usage.bytes_reserved, usage.bytes_in_use)
        })
    }
}

fn load(arguments: &Arguments) -> Result<Burn> {
    let kind = if arguments.option("device", "default") == "cpu" { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
    let device = Device::vulkan(kind);
    let weights = Weights::open(&arguments.model, &device)?;
    let [channels, height, width] = arguments.shape;
    let generator: Box<dyn Generator> = match arguments.option("generator", "") {
        "sonolume-s" => Box::new(sonolume::Sonolume::new(weights, height, width)?),
        "srvgg-64x16" => Box::new(compact::Compact::new(weights)?),
        other => return Err(format!("{other} is not written in burn").into()),
    };
    Ok(Burn { generator, device, input: TensorData::new(arguments.input.clone(), [1, channels, height, width]) })
}

fn main() -> Result<()> {
    serve(load)
}
