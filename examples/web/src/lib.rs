//! sonolume in a web page's worker: what `js/worker.ts` calls.
//!
//! Pictures and results stay on this side, with all their bits and their alpha; the page gets what it shows.
#![cfg(target_arch = "wasm32")]

mod picture;
mod report;

use js_sys::{Function, Object};
use sonolume::{CancelToken, Device, Job, ModelSource, Precision};
use wasm_bindgen::prelude::*;

use picture::{Picture, Result};
use report::{device_record, model_record, thrown};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn log(text: &str);
}

/// A panic ends the module; the console gets to know why.
#[wasm_bindgen(start)]
fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| log(&panic.to_string())));
}

/// A generator on a device.
#[wasm_bindgen]
pub struct Enhancer {
    enhancer: sonolume::Enhancer,
}

#[wasm_bindgen]
impl Enhancer {
    /// Loads the built-in generator, or the safetensors file `weights`, which reports will call `name`.
    ///
    /// `device` is `auto` (the GPU; the CPU if there is none or it is a software adapter), `webgpu` (software adapters too)
    /// or `cpu`. With `half`, a GPU that can stores 16-bit floats.
    pub async fn load(
        device: String,
        weights: Option<Vec<u8>>,
        name: String,
        memory_limit_bytes: Option<f64>,
        half: bool,
    ) -> std::result::Result<Enhancer, JsValue> {
        let device = match device.as_str() {
            // Every adapter's name contains nothing.
            "webgpu" => Device::Named(String::new()),
            "auto" | "cpu" => Device::parse(&device),
            _ => return Err(thrown(&sonolume::Error::Options(format!("`{device}` is not auto, webgpu or cpu")))),
        };
        let model = weights.map_or(ModelSource::Default, |bytes| ModelSource::Bytes { name, bytes });
        let mut builder = sonolume::Enhancer::builder().model(model).device(device);
        if let Some(bytes) = memory_limit_bytes {
            builder = builder.memory_limit_bytes(bytes as u64);
        }
        let mut enhancer = builder.clone().build_async().await.map_err(|error| thrown(&error))?;
        if half && enhancer.device().f16 {
            enhancer = builder.precision(Precision::F16).build_async().await.map_err(|error| thrown(&error))?;
        }
        Ok(Self { enhancer })
    }

    /// The device that does the work.
    pub fn device(&self) -> Object {
        device_record(&self.enhancer.device())
    }

    /// The generator.
    pub fn model(&self) -> Object {
        model_record(self.enhancer.model())
    }

    /// Runs the generator; calls `progress` after every tile with the share that is done.
    pub async fn enhance(
        &self,
        picture: &Picture,
        stop: &Stop,
        progress: Option<Function>,
    ) -> std::result::Result<Result, JsValue> {
        let mut job = Job::new().cancel(&stop.token);
        if let Some(progress) = progress {
            job = job.progress(move |at| {
                let share = at.done as f64 / at.total.max(1) as f64;
                // A page whose callback throws still gets its picture.
                let _ = progress.call1(&JsValue::UNDEFINED, &share.into());
            });
        }
        let frame = picture.frame().clone();
        // A clone, so that the page may let go of this object meanwhile.
        let enhancer = self.enhancer.clone();
        let generated = enhancer.generate(&frame, job).await.map_err(|error| thrown(&error))?;
        Ok(Result::new(frame, generated))
    }
}

/// Stops work between tiles.
#[wasm_bindgen]
#[derive(Default)]
pub struct Stop {
    token: CancelToken,
}

#[wasm_bindgen]
impl Stop {
    /// Stops nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }
}
