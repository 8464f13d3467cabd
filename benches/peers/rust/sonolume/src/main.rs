//! sonolume as a worker of the comparison; options `device`, as the command takes it, and `precision`, f32 or f16.

use protocol::{Arguments, Result, Runtime, serve};
use sonolume::{Device, Enhancer, HostTensor, ModelSource, Precision, Shape};

struct Sonolume {
    enhancer: Enhancer,
    input: HostTensor,
    element_bytes: u64,
}

impl Runtime for Sonolume {
    fn name(&self) -> String {
        format!("sonolume {}, {}", env!("CARGO_PKG_VERSION"), self.enhancer.device().name)
    }

    fn run(&mut self) -> Result<Vec<f32>> {
        Ok(self.enhancer.run(&self.input)?.into_data())
    }

    fn report(&self) -> String {
        let shape = self.input.shape();
        let graph = &self.enhancer.model().graph;
        graph.plan_whole(shape.height, shape.width).map_or("{}".into(), |plan| {
            let bytes = (plan.slot_elements() + graph.parameters() as u64) * self.element_bytes;
            format!(
                r#"{{"gflop": {}, "parameters": {}, "device_bytes": {bytes}}}"#,
                plan.flops as f64 / 1e9,
                graph.parameters()
            )
        })
    }
}

fn load(arguments: &Arguments) -> Result<Sonolume> {
    let precision = if arguments.option("precision", "f32") == "f16" { Precision::F16 } else { Precision::F32 };
    let [channels, height, width] = arguments.shape;
    Ok(Sonolume {
        element_bytes: if precision == Precision::F16 { 2 } else { 4 },
        enhancer: Enhancer::builder()
            .model(ModelSource::parse(&arguments.model))
            .device(Device::parse(arguments.option("device", "cpu")))
            .precision(precision)
            .build()?,
        input: HostTensor::new(Shape::new(channels, height, width), arguments.input.clone())?,
    })
}

fn main() -> Result<()> {
    serve(load)
}
