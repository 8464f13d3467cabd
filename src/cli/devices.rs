//! `sonolume devices`: what can do the work.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;
use sonolume::gpu::device;

use super::console::Console;
use super::engine::{device_record, kind_name};
use super::failure::Result;

/// List the devices of this machine, the best first.
///
/// The star marks what `--device auto` takes. Software drivers are used only when named.
#[derive(Args)]
pub struct Options {}

pub fn run(_: &Options, console: &Console) -> Result<u8> {
    let devices = pollster::block_on(device::list());
    // The CPU device is the last.
    let last = devices.len().saturating_sub(1);
    let automatic = devices.iter().position(|device| device.kind.is_automatic()).unwrap_or(last);
    let mut text = String::new();
    for (index, device) in devices.iter().enumerate() {
        if console.json() {
            let mut record = device_record(device);
            if let Value::Object(record) = &mut record {
                record.insert("auto".into(), (index == automatic).into());
            }
            console.record(&record)?;
            continue;
        }
        let star = if index == automatic { '*' } else { ' ' };
        let halves = match (device.f16, device.matrices) {
            (true, true) => "f32, f16, f16 matrices",
            (true, false) => "f32, f16",
            (false, _) => "f32",
        };
        let driver = if device.driver.is_empty() { String::new() } else { format!(", {}", device.driver) };
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{star} {} ({}, {}, {halves}{driver})", device.name, kind_name(device.kind), device.backend);
    }
    console.text(&text)?;
    Ok(0)
}
