//! Records and errors as JavaScript has them.

use js_sys::{Object, Reflect};
use sonolume::gpu::DeviceKind;
use sonolume::{DeviceInfo, Error, Model, Precision, Report};
use wasm_bindgen::JsValue;

/// An `Error` whose `name` says who can act.
pub(crate) fn thrown(error: &Error) -> JsValue {
    let name = match error {
        Error::Image { .. } => "ImageError",
        Error::Weights(_) | Error::NonFinite(_) => "WeightsError",
        Error::NoDevice(_) | Error::DeviceLost(_) | Error::Device(_) => "DeviceError",
        Error::OutOfMemory { .. } => "MemoryError",
        Error::Cancelled => "AbortError",
        _ => "OptionsError",
    };
    let thrown = js_sys::Error::new(&error.to_string());
    thrown.set_name(name);
    thrown.into()
}

fn record(fields: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (key, value) in fields {
        // A plain object takes every key.
        let _ = Reflect::set(&object, &JsValue::from_str(key), value);
    }
    object
}

pub(crate) fn device_record(device: &DeviceInfo) -> Object {
    let kind = match device.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Software => "software",
        _ => "gpu",
    };
    record(&[("kind", kind.into()), ("name", device.name.as_str().into()), ("f16", device.f16.into())])
}

pub(crate) fn model_record(model: &Model) -> Object {
    record(&[
        ("name", model.name.as_str().into()),
        ("architecture", model.architecture.as_str().into()),
        ("details", model.details.as_str().into()),
        ("sha256", model.sha256.as_str().into()),
        ("channels", JsValue::from_f64(model.in_channels() as f64)),
    ])
}

pub(crate) fn report_record(report: &Report) -> Object {
    let number = JsValue::from_f64;
    record(&[
        ("device", device_record(&report.device).into()),
        ("precision", if report.precision == Precision::F16 { "f16" } else { "f32" }.into()),
        ("model", report.model.as_str().into()),
        ("modelSha256", report.model_sha256.as_str().into()),
        ("tiles", number(report.tiles as f64)),
        ("tileWidth", number(report.tile_size[1] as f64)),
        ("tileHeight", number(report.tile_size[0] as f64)),
        ("activationBytes", number(report.activation_bytes as f64)),
        ("generatorMs", number(report.generator_time.as_secs_f64() * 1e3)),
        ("totalMs", number(report.total_time.as_secs_f64() * 1e3)),
    ])
}
