//! One interface to the two backends.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::cpu::CpuRunner;
use crate::error::{Error, Result, lock};
use crate::gpu::{Context, Core, DeviceInfo, GpuRunner, Pending, Precision, Transfer};
use crate::graph::segment::Segment;
use crate::graph::{Graph, Plan, Value};
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

    async fn open(&self, cache: Option<&Path>) -> Result<Option<Arc<Context>>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Auto => Context::automatic_with_cache(cache).await,
            Self::Gpu => match Context::automatic_with_cache(cache).await? {
                Some(context) => Ok(Some(context)),
                None => Err(Error::NoDevice(
                    "this machine has no GPU that wgpu can use: use the CPU device, or name a software driver".into(),
                )),
            },
            Self::Named(name) if name.eq_ignore_ascii_case("cpu") => Ok(None),
            Self::Named(name) => Context::named_with_cache(name, cache).await.map(Some),
            Self::Shared(context) => Ok(Some(context.clone())),
        }
    }
}

/// A segment of a generator, and what runs it.
pub(super) struct Part {
    pub(super) segment: Segment,
    runner: Runner,
}

#[derive(Clone)]
enum Runner {
    Cpu(Arc<CpuRunner>),
    Gpu(Arc<GpuRunner>),
}

impl Part {
    async fn new(segment: Segment, context: Option<Arc<Context>>, precision: Precision) -> Result<Self> {
        let graph = Arc::new(segment.graph.clone());
        let runner = match context {
            Some(context) => Runner::Gpu(Arc::new(GpuRunner::new(context, graph, precision).await?)),
            // f16 is a way to store on the device; the CPU computes in f32 and is only more exact.
            None => Runner::Cpu(Arc::new(CpuRunner::new(graph)?)),
        };
        Ok(Self { segment, runner })
    }

    /// Memory that a run of `plan` takes beside the weights.
    pub(super) fn activation_bytes(&self, plan: &Plan) -> Result<u64> {
        match &self.runner {
            Runner::Cpu(_) => Ok(plan.slot_elements() * Precision::F32.bytes()),
            Runner::Gpu(runner) => runner.activation_bytes(plan),
        }
    }

    /// True if the segment, or a global operator behind it, reads `value`.
    pub(super) fn needs(&self, graph: &Graph, value: Value) -> bool {
        let by_node = |&node: &usize| graph.nodes()[node].inputs.contains(&value);
        self.segment.inputs.contains(&value) || self.segment.global_nodes.iter().any(by_node)
    }
}

/// A run that was started.
pub(super) enum Started {
    Done(Vec<HostTensor>),
    Pending(Pending, Arc<GpuRunner>),
}

impl Started {
    /// Waits for the results.
    pub(super) async fn finish(self) -> Result<Vec<HostTensor>> {
        match self {
            Self::Done(results) => Ok(results),
            Self::Pending(pending, runner) => runner.finish(pending).await,
        }
    }
}

/// A generator on its device.
pub(super) struct Engine {
    graph: Arc<Graph>,
    choice: Device,
    precision: Precision,
    /// Where compiled kernels are kept.
    cache: Option<PathBuf>,
    state: Mutex<State>,
}

/// Replaced when the device was lost.
#[derive(Clone)]
struct State {
    context: Option<Arc<Context>>,
    /// The whole graph, global operators included.
    whole: Arc<Part>,
    /// The graph cut at its global operators, made when an image is first too large for it.
    parts: Option<Arc<Vec<Part>>>,
}

impl Engine {
    pub(super) async fn new(
        graph: Arc<Graph>,
        choice: Device,
        precision: Precision,
        cache: Option<PathBuf>,
    ) -> Result<Self> {
        let state = State::new(&graph, choice.open(cache.as_deref()).await?, precision).await?;
        Ok(Self { graph, choice, precision, cache, state: Mutex::new(state) })
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(super) fn info(&self) -> DeviceInfo {
        self.context().map_or_else(DeviceInfo::cpu, |context| context.info().clone())
    }

    pub(super) fn precision(&self) -> Precision {
        if self.context().is_some() { self.precision } else { Precision::F32 }
    }

    /// The most bytes that one tensor may take; the CPU has no limit but its memory.
    pub(super) fn binding_limit_bytes(&self) -> u64 {
        self.context().map_or(u64::MAX, |context| context.binding_limit_bytes())
    }

    /// True if a run that was started goes on while the caller does something else.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn computes_while_waiting(&self) -> bool {
        self.context().is_some()
    }

    /// As [`Engine::whole`], on the device as it is: what a caller has on a lost one is gone with it.
    pub(super) fn whole_as_it_is(&self) -> Result<Arc<Part>> {
        Ok(self.lock()?.whole.clone())
    }

    /// The whole graph as one part.
    pub(super) async fn whole(&self) -> Result<Arc<Part>> {
        Ok(self.ready().await?.whole)
    }

    /// The graph's segments.
    pub(super) async fn parts(&self) -> Result<Arc<Vec<Part>>> {
        let state = self.ready().await?;
        if let Some(parts) = state.parts {
            return Ok(parts);
        }
        let mut parts = Vec::new();
        for segment in self.graph.segments()? {
            parts.push(Part::new(segment, state.context.clone(), self.precision).await?);
        }
        let parts = Arc::new(parts);
        let mut now = self.lock()?;
        // Another thread may have found the device lost meanwhile.
        if now.context.as_ref().map(Arc::as_ptr) == state.context.as_ref().map(Arc::as_ptr) {
            now.parts = Some(parts.clone());
        }
        Ok(parts)
    }

    /// Starts a plan of `part`'s graph; a device computes while the caller goes on.
    pub(super) async fn start(&self, part: &Part, plan: &Plan, inputs: &[Cow<'_, HostTensor>]) -> Result<Started> {
        match &part.runner {
            Runner::Cpu(runner) => runner.run(plan, inputs).map(Started::Done),
            Runner::Gpu(runner) => Ok(Started::Pending(runner.start(plan, inputs).await?, runner.clone())),
        }
    }

    /// Runs a plan of the whole graph on an image on the device.
    pub(super) async fn transfer(&self, part: &Part, plan: &Plan, transfer: &Transfer<'_>, core: Core) -> Result<()> {
        match &part.runner {
            Runner::Cpu(_) => {
                Err(Error::Options("this enhancer runs on the CPU: images on a device need that device".into()))
            }
            Runner::Gpu(runner) => runner.transfer(plan, transfer, core).await,
        }
    }

    /// The state with a device that is not lost. A device of the host application is the host's to open anew.
    async fn ready(&self) -> Result<State> {
        let state = self.lock()?.clone();
        let lost = state.context.as_ref().is_some_and(|context| context.is_lost());
        if !lost || matches!(self.choice, Device::Shared(_)) {
            return Ok(state);
        }
        let context = self.choice.open(self.cache.as_deref()).await?;
        let context = context.ok_or_else(|| Error::DeviceLost("there is no GPU any more".into()))?;
        let state = State::new(&self.graph, Some(context), self.precision).await?;
        *self.lock()? = state.clone();
        Ok(state)
    }

    pub(super) fn context(&self) -> Option<Arc<Context>> {
        self.lock().ok().and_then(|state| state.context.clone())
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        lock(&self.state)
    }
}

impl State {
    async fn new(graph: &Graph, context: Option<Arc<Context>>, precision: Precision) -> Result<Self> {
        let segment = Segment {
            graph: graph.clone(),
            inputs: graph.inputs().to_vec(),
            outputs: graph.outputs().to_vec(),
            global_nodes: Vec::new(),
        };
        let whole = Arc::new(Part::new(segment, context.clone(), precision).await?);
        Ok(Self { context, whole, parts: None })
    }
}
