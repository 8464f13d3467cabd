//! `sonolume models`: what a generator is and what it will cost, before anything runs.

use std::ffi::OsString;
use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use sonolume::Model;
use sonolume::models::{DEFAULT_MODEL, architectures};
use sonolume::ops::Axis;

use super::console::Console;
use super::engine::source;
use super::failure::{Failure, Result, outcome};
use super::size::Size;

/// Show generators: architecture, parameters, reach, and the work and memory they take at a size.
///
/// Without names: the built-in generator, and the architectures that are recognised in safetensors files.
#[derive(Args)]
pub struct Options {
    /// Built-in names or safetensors files.
    #[arg(value_name = "NAME_OR_PATH")]
    models: Vec<OsString>,

    /// The picture's size that work and memory are given for.
    #[arg(long, value_name = "WxH", default_value = "1024x768")]
    size: Size,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let built_in = [OsString::from(DEFAULT_MODEL)];
    let names = if options.models.is_empty() { &built_in[..] } else { &options.models[..] };
    let mut failures = Vec::new();
    let mut done = 0;
    for name in names {
        match Facts::of(name, options.size) {
            Ok(facts) => {
                done += 1;
                if console.json() { console.record(&facts.record())? } else { console.text(&facts.text())? }
            }
            Err(failure) => {
                console.fail(&failure);
                failures.push(failure.kind);
            }
        }
    }
    if options.models.is_empty() {
        let known: Vec<&str> = architectures().collect();
        if console.json() {
            console.record(&json!({ "architectures": known }))?;
        } else {
            console.text(&format!("Architectures recognised in safetensors files: {}\n", known.join(", ")))?;
        }
    }
    Ok(outcome(done, &failures))
}

/// What can be said of a generator without running it.
struct Facts {
    model: Model,
    size: Size,
    parameters: usize,
    /// Vertical, horizontal; `None` for the whole image.
    reach: [Option<usize>; 2],
    alignment: [usize; 2],
    /// Output pixels per input pixel, vertical, horizontal.
    scale: [f64; 2],
    flops: u64,
    traffic_elements: u64,
    peak_elements: u64,
}

impl Facts {
    fn of(name: &OsString, size: Size) -> Result<Self> {
        let model = source(name)?.load()?;
        let failed = |error: sonolume::Error| Failure::from(error).at(name.as_ref());
        let graph = &model.graph;
        let plan = graph.plan_whole(size.height, size.width).map_err(failed)?;
        if [plan.flops, plan.traffic_elements].contains(&u64::MAX) {
            let message = format!("{}x{} pixels take more work than can be counted", size.width, size.height);
            return Err(Failure::usage(message));
        }
        let [vertical, horizontal] = graph.scale().map_err(failed)?;
        Ok(Self {
            size,
            parameters: graph.parameters(),
            reach: [graph.reach(Axis::Vertical).map_err(failed)?, graph.reach(Axis::Horizontal).map_err(failed)?],
            alignment: Axis::BOTH.map(|axis| graph.alignment(axis)),
            scale: [vertical, horizontal].map(|scale| scale.up as f64 / scale.down as f64),
            flops: plan.flops,
            traffic_elements: plan.traffic_elements,
            peak_elements: plan.slot_elements(),
            model,
        })
    }

    fn record(&self) -> Value {
        let bytes = |elements: u64| json!({ "f32": elements * 4, "f16": elements * 2 });
        json!({
            "name": self.model.name,
            "architecture": self.model.architecture,
            "hyper_parameters": self.model.details,
            "sha256": self.model.sha256,
            "in_channels": self.model.in_channels(),
            "out_channels": self.model.out_channels(),
            "value_range": self.model.range.text(),
            "scale": { "vertical": self.scale[0], "horizontal": self.scale[1] },
            "parameters": self.parameters,
            "weight_bytes": bytes(self.parameters as u64),
            "operators": self.model.graph.nodes().len(),
            "whole_image": self.model.graph.is_global(),
            "reach": { "vertical": self.reach[0], "horizontal": self.reach[1] },
            "alignment": { "vertical": self.alignment[0], "horizontal": self.alignment[1] },
            "size": { "width": self.size.width, "height": self.size.height },
            "gflop": self.flops as f64 / 1e9,
            "gmac": self.flops as f64 / 2e9,
            "traffic_bytes": bytes(self.traffic_elements),
            "peak_activation_bytes": bytes(self.peak_elements),
        })
    }

    fn text(&self) -> String {
        let reach = match self.reach {
            [Some(rows), Some(columns)] => format!("{rows} rows, {columns} columns"),
            _ => "the whole image".to_owned(),
        };
        let scale = match self.scale {
            [vertical, horizontal] if vertical == horizontal => format!("x{vertical}"),
            [vertical, horizontal] => format!("x{vertical} vertically, x{horizontal} horizontally"),
        };
        let bytes = |elements: u64| format!("{} in f32, {} in f16", mebibytes(elements * 4), mebibytes(elements * 2));
        let lines = [
            ("architecture", format!("{} {}", self.model.architecture, self.model.details)),
            (
                "channels",
                format!(
                    "{} to {}, values {}",
                    self.model.in_channels(),
                    self.model.out_channels(),
                    self.model.range.text()
                ),
            ),
            ("scale", scale),
            ("parameters", format!("{} ({})", self.parameters, bytes(self.parameters as u64))),
            ("operators", self.model.graph.nodes().len().to_string()),
            ("reach", reach),
            ("alignment", format!("{} rows, {} columns", self.alignment[0], self.alignment[1])),
            ("sha256", self.model.sha256.clone()),
            (
                "work",
                format!(
                    "{:.2} GFLOP ({:.2} GMAC) at {}x{}",
                    self.flops as f64 / 1e9,
                    self.flops as f64 / 2e9,
                    self.size.width,
                    self.size.height
                ),
            ),
            ("traffic", bytes(self.traffic_elements)),
            ("activations", format!("{} at the peak", bytes(self.peak_elements))),
        ];
        let mut text = format!("{}\n", self.model.name);
        for (label, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {label:<13} {value}");
        }
        text.push('\n');
        text
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
