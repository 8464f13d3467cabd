//! One interface to the two backends.

use std::sync::{Arc, Mutex};

use crate::cpu::CpuRunner;
use crate::error::{Error, Result};
use crate::gpu::{Context, DeviceInfo, GpuRunner, Precision};
use crate::graph::{Graph, Plan};
use crate::tensor::HostTensor;

/// Which device does the work.
#[derive(Clone, Debug, Default)]
pub enum Device {
    /// The best GPU; without one the CPU. Never a software driver.
    #[default]
    Auto,
    /// The CPU reference.
    Cpu,
    /// The best GPU; without one, [`Error::NoDevice`].
    Gpu,
    /// The first device whose name contains this, software drivers included; `cpu` is the CPU.
    Named(String),
    /// A device that the host application opened.
    Shared(Arc<Context>),
}

impl Device {
    /// `auto`, `cpu`, `gpu`, or a part of a device's name.
    pub fn parse(text: &str) -> Self {
        match text.to_lowercase().as_str() {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            _ => Self::Named(text.to_owned()),
        }
    }

    async fn open(&self) -> Result<Option<Arc<Context>>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Auto => Context::automatic().await,
            Self::Gpu => match Context::automatic().await? {
                Some(context) => Ok(Some(context)),
                None => Err(Error::NoDevice(
                    "this machine has no GPU that wgpu can use: use the CPU device, or name a software driver".into(),
                )),
            },
            Self::Named(name) => Context::named(name).await.map(Some),
            Self::Shared(context) => Ok(Some(context.clone())),
        }
    }
}

/// A generator on its device.
pub(super) struct Engine {
    graph: Arc<Graph>,
    choice: Device,
    precision: Precision,
    runner: Runner,
}

enum Runner {
    Cpu(CpuRunner),
    // Replaced when the device was lost.
    Gpu(Mutex<Arc<GpuRunner>>),
}

impl Engine {
    pub(super) async fn new(graph: Arc<Graph>, choice: Device, precision: Precision) -> Result<Self> {
        let runner = match choice.open().await? {
            Some(context) => Runner::Gpu(Mutex::new(Arc::new(GpuRunner::new(context, graph.clone(), precision).await?))),
            // f16 is a way to store on the device; the CPU computes in f32 and is only more exact.
            None => Runner::Cpu(CpuRunner::new(graph.clone())?),
        };
        Ok(Self { graph, choice, precision, runner })
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(super) fn info(&self) -> DeviceInfo {
        match &self.runner {
            Runner::Cpu(_) => DeviceInfo::cpu(),
            Runner::Gpu(_) => self.gpu().map_or_else(|_| DeviceInfo::cpu(), |runner| runner.context().info().clone()),
        }
    }

    pub(super) fn precision(&self) -> Precision {
        match self.runner {
            Runner::Cpu(_) => Precision::F32,
            Runner::Gpu(_) => self.precision,
        }
    }

    /// The most bytes that one tensor may take; the CPU has no limit but its memory.
    pub(super) fn binding_limit_bytes(&self) -> u64 {
        match &self.runner {
            Runner::Cpu(_) => u64::MAX,
            Runner::Gpu(_) => self.gpu().map_or(0, |runner| runner.context().binding_limit_bytes()),
        }
    }

    pub(super) async fn run(&self, plan: &Plan, input: HostTensor) -> Result<HostTensor> {
        match &self.runner {
            Runner::Cpu(runner) => only(runner.run(plan, &[input])?),
            Runner::Gpu(current) => {
                let mut runner = self.gpu()?;
                // A device of the host application is the host's to open anew.
                if runner.context().is_lost() && !matches!(self.choice, Device::Shared(_)) {
                    let context = self.choice.open().await?;
                    let context = context.ok_or_else(|| Error::DeviceLost("there is no GPU any more".into()))?;
                    runner = Arc::new(GpuRunner::new(context, self.graph.clone(), self.precision).await?);
                    if let Ok(mut current) = current.lock() {
                        *current = runner.clone();
                    }
                }
                only(runner.run(plan, &[input]).await?)
            }
        }
    }

    /// The GPU's runner; an engine on the CPU has none.
    pub(super) fn gpu(&self) -> Result<Arc<GpuRunner>> {
        match &self.runner {
            Runner::Cpu(_) => Err(Error::Options("this enhancer runs on the CPU".into())),
            Runner::Gpu(runner) => match runner.lock() {
                Ok(runner) => Ok(runner.clone()),
                Err(_) => Err(Error::Device("an earlier run panicked".into())),
            },
        }
    }
}

/// A generator's one result.
fn only(mut results: Vec<HostTensor>) -> Result<HostTensor> {
    results.pop().ok_or_else(|| Error::Shape("the generator has no output".into()))
}
