//! tract as a worker of the comparison, on all cores; takes the ONNX file.

use std::sync::Arc;

use protocol::{Arguments, Result, Runtime, serve};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

struct Tract {
    model: Arc<TypedRunnableModel>,
    input: Tensor,
}

impl Runtime for Tract {
    fn name(&self) -> String {
        "tract 0.23.9, CPU".into()
    }

    fn run(&mut self) -> Result<Vec<f32>> {
        let output = self.model.run(tvec!(self.input.clone().into()))?.remove(0);
        Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

fn load(arguments: &Arguments) -> Result<Tract> {
    set_default_executor(Executor::multithread(std::thread::available_parallelism()?.get()));
    let [channels, height, width] = arguments.shape;
    let shape = [1, channels, height, width];
    let model = tract_onnx::onnx()
        .model_for_path(&arguments.model)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    Ok(Tract { model, input: Tensor::from_shape(&shape, &arguments.input)? })
}

fn main() -> Result<()> {
    serve(load)
}
