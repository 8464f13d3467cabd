//! Finds, names and opens devices.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::cache::Cache;
use super::matrices;
use super::pipeline::{Key, Pipeline, Precision};
use crate::error::{Error, Result, lock};
use crate::ops::{Matrices, Traits};

/// What kind of hardware a device is, in the order in which it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A graphics card of its own.
    Discrete,
    /// A graphics unit that shares the processor's memory.
    Integrated,
    /// A graphics unit of a virtual machine.
    Virtual,
    /// wgpu cannot tell; all that a browser says.
    Other,
    /// A driver that computes on the processor; slower than the CPU device, chosen only when named.
    Software,
    /// No driver at all: this crate's CPU reference.
    Cpu,
}

impl DeviceKind {
    /// True if the device may be chosen without being named.
    pub const fn is_automatic(self) -> bool {
        !matches!(self, Self::Software | Self::Cpu)
    }
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The adapter's name, or `cpu`.
    pub name: String,
    /// The kind of hardware.
    pub kind: DeviceKind,
    /// The graphics interface: `vulkan`, `metal`, `dx12`, `webgpu`; `rust` for the CPU device.
    pub backend: String,
    /// The driver's name and version; may be empty.
    pub driver: String,
    /// Whether kernels can store 16-bit floats.
    pub f16: bool,
    /// Whether it offers matrices that a subgroup multiplies together (tensor cores): convolutions in 16 bits then use them,
    /// once they were found to be right.
    pub matrices: bool,
}

impl DeviceInfo {
    /// The CPU device.
    pub fn cpu() -> Self {
        Self {
            name: "cpu".into(),
            kind: DeviceKind::Cpu,
            backend: "rust".into(),
            driver: String::new(),
            f16: false,
            matrices: false,
        }
    }

    fn of(adapter: &wgpu::Adapter) -> Self {
        let matrices = offered_by(adapter).is_some();
        Self::new(adapter.get_info(), adapter.features(), matrices)
    }

    /// `matrices`: there are some; whether they are wanted is decided here.
    fn new(info: wgpu::AdapterInfo, features: wgpu::Features, matrices: bool) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Other,
        };
        let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned();
        // A browser tells no name.
        let name = if info.name.is_empty() { info.backend.to_string() } else { info.name };
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        let matrices = matrices && kind != DeviceKind::Software && std::env::var_os(NO_MATRICES).is_none();
        Self { name, kind, backend: info.backend.to_string(), driver, f16, matrices }
    }
}

/// Counts what was made on a device, so that a test can see that a stream of frames makes nothing new.
#[derive(Debug, Default)]
pub(super) struct Created {
    pub(super) buffers: AtomicUsize,
    pub(super) bind_groups: AtomicUsize,
    pub(super) pipelines: AtomicUsize,
}

/// A device with its queue and the kernels compiled for it; shared by all runners on it.
pub struct Context {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: DeviceInfo,
    pub(super) pipelines: Mutex<HashMap<Key, Arc<Pipeline>>>,
    pub(super) cache: Option<Cache>,
    pub(super) created: Created,
    traits: Traits,
    /// Whether the matrices of `traits` were found to be right; `None` before the first use.
    matrices_checked: Mutex<Option<bool>>,
    lost: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Mesa's software driver runs eight invocations of a workgroup at a time, in their order. Graphics cards may not keep that
/// order, and have faster ways to share.
fn has_eight_lanes(device: &wgpu::Device) -> bool {
    let adapter = device.adapter_info();
    device.features().contains(wgpu::Features::SUBGROUP)
        && adapter.device_type == wgpu::DeviceType::Cpu
        && adapter.name.starts_with("llvmpipe")
        && [adapter.subgroup_min_size, adapter.subgroup_max_size] == [8, 8]
}

/// Set to anything, this environment variable keeps matrices unused, should a driver not survive even the comparison.
const NO_MATRICES: &str = "SONOLUME_NO_MATRICES";

/// What a device must have been opened with for matrices.
const MATRIX_FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The matrices of 16-bit factors and 32-bit sums that subgroups of `adapter` multiply, if they are of a size that kernels are
/// written for, every subgroup has as many lanes as those count on, and a device with `features` and `limits` can run them.
fn matrices_of(adapter: &wgpu::Adapter, features: wgpu::Features, limits: &wgpu::Limits) -> Option<Matrices> {
    if !features.contains(MATRIX_FEATURES) {
        return None;
    }
    let info = adapter.get_info();
    let offered = adapter.cooperative_matrix_properties();
    [Matrices::Sixteen, Matrices::Eight].into_iter().find(|matrices| {
        let edge = matrices.edge() as u32;
        [info.subgroup_min_size, info.subgroup_max_size] == [matrices.lanes(); 2]
            && matrices.workgroup_bytes() <= limits.max_compute_workgroup_storage_size as usize
            && offered.iter().any(|offer| {
                [offer.m_size, offer.n_size, offer.k_size] == [edge; 3]
                    && offer.ab_type == wgpu::CooperativeScalarType::F16
                    && offer.cr_type == wgpu::CooperativeScalarType::F32
            })
    })
}

/// Those of a device that is opened with all that `adapter` has.
fn offered_by(adapter: &wgpu::Adapter) -> Option<Matrices> {
    matrices_of(adapter, adapter.features(), &adapter.limits())
}

/// One for the process, so that wgpu knows what is of another device. (A browser's belongs to its thread.)
#[cfg(not(target_arch = "wasm32"))]
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: std::sync::OnceLock<wgpu::Instance> = std::sync::OnceLock::new();
    INSTANCE.get_or_init(new_instance)
}

#[cfg(target_arch = "wasm32")]
fn instance() -> wgpu::Instance {
    new_instance()
}

fn new_instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    wgpu::Instance::new(descriptor)
}

async fn adapters() -> Vec<(wgpu::Adapter, DeviceInfo)> {
    let found = if cfg!(target_arch = "wasm32") {
        // A browser lets nobody enumerate.
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        instance().request_adapter(&options).await.into_iter().collect()
    } else {
        instance().enumerate_adapters(wgpu::Backends::PRIMARY).await
    };
    let mut adapters: Vec<_> = found
        .into_iter()
        .filter(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .map(|adapter| {
            let info = DeviceInfo::of(&adapter);
            (adapter, info)
        })
        .collect();
    adapters.sort_by_key(|(_, info)| info.kind);
    adapters
}

/// The devices of this machine, in the order in which they are chosen; the CPU device is the last.
pub async fn list() -> Vec<DeviceInfo> {
    let mut devices: Vec<DeviceInfo> = adapters().await.into_iter().map(|(_, info)| info).collect();
    devices.push(DeviceInfo::cpu());
    devices
}

impl Context {
    /// Opens the best GPU: a discrete one, then an integrated one. `None` if there is none but software drivers.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is a GPU and none can be opened.
    pub async fn automatic() -> Result<Option<Arc<Self>>> {
        Self::automatic_with_cache(None).await
    }

    /// As [`Context::automatic`], with compiled kernels kept in the directory `cache` where the driver can.
    ///
    /// # Errors
    /// As [`Context::automatic`].
    pub async fn automatic_with_cache(cache: Option<&Path>) -> Result<Option<Arc<Self>>> {
        let mut refusal = None;
        for (adapter, info) in adapters().await {
            if info.kind.is_automatic() {
                match Self::open(&adapter, info, cache).await {
                    Ok(context) => return Ok(Some(context)),
                    Err(error) => refusal = Some(error),
                }
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    /// Opens the first device whose name contains `name`, upper or lower case; software drivers too.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if none does or it cannot be opened; the message lists the devices there are.
    pub async fn named(name: &str) -> Result<Arc<Self>> {
        Self::named_with_cache(name, None).await
    }

    /// As [`Context::named`], with compiled kernels kept in the directory `cache` where the driver can.
    ///
    /// # Errors
    /// As [`Context::named`].
    pub async fn named_with_cache(name: &str, cache: Option<&Path>) -> Result<Arc<Self>> {
        let wanted = name.to_lowercase();
        let mut names = Vec::new();
        for (adapter, info) in adapters().await {
            if info.name.to_lowercase().contains(&wanted) {
                return Self::open(&adapter, info, cache).await;
            }
            names.push(format!("`{}`", info.name));
        }
        names.push("`cpu`".into());
        Err(Error::NoDevice(format!("no device is named `{name}`; there are {}", names.join(", "))))
    }

    /// The first device that multiplies matrices, a software driver too, on which they are slower than the other kernels:
    /// for tests. `None` if none does.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if it cannot be opened.
    #[doc(hidden)]
    pub async fn with_matrices() -> Result<Option<Arc<Self>>> {
        for (adapter, info) in adapters().await {
            if offered_by(&adapter).is_some() {
                return Self::open(&adapter, DeviceInfo { matrices: true, ..info }, None).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Whether a run in 16 bits uses matrices: the device has them and they were found to be right.
    ///
    /// # Errors
    /// What stops the comparison.
    #[doc(hidden)]
    pub async fn uses_matrices(self: &Arc<Self>) -> Result<bool> {
        Ok(self.traits(Precision::F16).await?.matrices.is_some())
    }

    async fn open(adapter: &wgpu::Adapter, info: DeviceInfo, cache: Option<&Path>) -> Result<Arc<Self>> {
        let wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let matrices = if info.matrices { offered_by(adapter) } else { None };
        let mut required_features = adapter.features() & wanted;
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices.is_some() {
            required_features |= MATRIX_FEATURES;
            // SAFETY: the one experimental feature is used by kernels that stay inside their bindings, and for results only
            // after a comparison.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("sonolume"),
            required_features,
            required_limits: adapter.limits(),
            experimental_features,
            // The smallest blocks there are; wgpu's begin at 128 MiB. A generator's buffers are few, and large ones get their own.
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: 4 << 20..4 << 20 },
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::NoDevice(format!("{} cannot be opened: {error}", info.name)))?;
        let cache = cache.and_then(|directory| Cache::open(&device, directory));
        Ok(Arc::new(Self::new(device, queue, info, matrices, cache)))
    }

    /// Uses a device that the host application opened. Kernels store 16-bit floats if it was opened with
    /// `Features::SHADER_F16`; on Mesa's software driver they are faster with `Features::SUBGROUP`. Matrices (tensor cores)
    /// take [`Context::from_wgpu_on`].
    ///
    /// Sets the device's callback for its loss. If the host sets its own after that, a lost device is told as [`Error::Device`].
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Arc<Self> {
        let info = DeviceInfo::new(device.adapter_info(), device.features(), false);
        Arc::new(Self::new(device, queue, info, None, None))
    }

    /// As [`Context::from_wgpu`], with the adapter that `device` is of: only that tells which matrices there are. Convolutions in 16
    /// bits use them if the device was opened with `Features::EXPERIMENTAL_COOPERATIVE_MATRIX`, `SHADER_F16` and `SUBGROUP`,
    /// and the adapter's `max_compute_workgroup_storage_size`.
    pub fn from_wgpu_on(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Arc<Self> {
        let offered = matrices_of(adapter, device.features(), &device.limits());
        let info = DeviceInfo::new(adapter.get_info(), device.features(), offered.is_some());
        let matrices = offered.filter(|_| info.matrices);
        Arc::new(Self::new(device, queue, info, matrices, None))
    }

    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: DeviceInfo,
        matrices: Option<Matrices>,
        cache: Option<Cache>,
    ) -> Self {
        let lost = Arc::new(Mutex::new(None));
        let reason = lost.clone();
        device.set_device_lost_callback(move |_, message| {
            if let Ok(mut reason) = reason.lock() {
                *reason = Some(message);
            }
        });
        let traits = Traits { eight_lanes: has_eight_lanes(&device), halves: false, matrices };
        Self {
            device,
            queue,
            info,
            pipelines: Mutex::default(),
            cache,
            created: Created::default(),
            traits,
            matrices_checked: Mutex::default(),
            lost,
        }
    }

    /// Whether subgroups are eight consecutive invocations: kernels then share what they read.
    pub(super) fn eight_lanes(&self) -> bool {
        self.traits.eight_lanes
    }

    /// What the device's kernels use in `precision`.
    ///
    /// wgpu calls its matrices experimental, so before their first use a convolution with them is compared with one
    /// without; if they differ, or the driver refuses the kernel, none are used.
    pub(super) async fn traits(self: &Arc<Self>, precision: Precision) -> Result<Traits> {
        let all = Traits { halves: precision == Precision::F16, ..self.traits };
        let without = Traits { matrices: None, ..all };
        if !all.halves || all.matrices.is_none() {
            return Ok(without);
        }
        let known = *lock(&self.matrices_checked)?;
        let right = match known {
            Some(right) => right,
            None => {
                let right = Box::pin(matrices::agree(self, all, without)).await?;
                *lock(&self.matrices_checked)? = Some(right);
                right
            }
        };
        Ok(if right { all } else { without })
    }

    /// What is known of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Whether kernels can store 16-bit floats.
    pub fn has_f16(&self) -> bool {
        self.info.f16
    }

    /// Whether the device measures the time of kernels ([`GpuRunner::profile`](super::GpuRunner::profile)).
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The wgpu queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Buffers, bind groups and kernels made so far.
    #[doc(hidden)]
    pub fn created(&self) -> [usize; 3] {
        let Created { buffers, bind_groups, pipelines } = &self.created;
        [buffers, bind_groups, pipelines].map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn create_buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.create(wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false })
    }

    /// A buffer that the host can write at once.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn create_mapped(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let usage = usage | wgpu::BufferUsages::MAP_WRITE;
        self.create(wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: true })
    }

    fn create(&self, descriptor: wgpu::BufferDescriptor<'_>) -> wgpu::Buffer {
        self.created.buffers.fetch_add(1, Ordering::Relaxed);
        self.device.create_buffer(&descriptor)
    }

    /// Waits until the device has all that was written to its buffers; in a browser it goes on meanwhile.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Device`] as the device reports them.
    pub(super) fn flush(&self) -> Result<()> {
        let submission = self.queue.submit([]);
        self.wait(&submission)
    }

    /// Waits for `submission`, in a browser not.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Device`] as the device reports them.
    pub(super) fn wait(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        let _ = submission;
        #[cfg(not(target_arch = "wasm32"))]
        self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: None }).map_err(
            |error| {
                // A loss is told once nothing is on its way.
                let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
                self.lost_or(Error::Device(error.to_string()))
            },
        )?;
        Ok(())
    }

    pub(super) fn create_bind_group(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        entries: &[wgpu::BindGroupEntry<'_>],
    ) -> wgpu::BindGroup {
        self.created.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries })
    }

    /// The most bytes that one tensor may take.
    pub fn binding_limit_bytes(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    /// True once the device was lost: it must be opened anew.
    pub fn is_lost(&self) -> bool {
        self.check_lost().is_err()
    }

    pub(super) fn check_binding(&self, bytes: u64) -> Result<()> {
        if bytes > self.binding_limit_bytes() {
            return Err(Error::OutOfMemory { bytes });
        }
        Ok(())
    }

    pub(super) fn check_lost(&self) -> Result<()> {
        // Until then the device only fails to do what it is asked, without an error.
        let _ = self.device.poll(wgpu::PollType::Poll);
        match self.lost.lock() {
            Ok(lost) => lost.as_ref().map_or(Ok(()), |reason| Err(Error::DeviceLost(reason.clone()))),
            Err(_) => Err(Error::DeviceLost("its callback panicked".into())),
        }
    }

    /// The loss of the device if that is what happened, else `error`.
    pub(super) fn lost_or(&self, error: Error) -> Error {
        self.check_lost().err().unwrap_or(error)
    }

    /// Catches the device's errors until [`Scopes::pop`].
    pub(super) fn push_scopes(&self) -> Scopes<'_> {
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        Scopes { context: self, internal, validation, memory }
    }
}

/// Error scopes around one piece of work.
pub(super) struct Scopes<'a> {
    context: &'a Context,
    internal: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
    memory: wgpu::ErrorScopeGuard,
}

impl<'a> Scopes<'a> {
    /// The first error since the push; `bytes` is what the work wanted to allocate. The scopes end at the call, the
    /// future only waits for the answer.
    pub(super) fn pop(self, bytes: u64) -> impl Future<Output = Result<()>> + use<'a> {
        let context = self.context;
        let error = self.error(bytes);
        async move {
            match error.await {
                Some(error) => Err(context.lost_or(error)),
                None => context.check_lost(),
            }
        }
    }

    /// As [`Scopes::pop`], but for the loss of the device: asks it nothing.
    pub(super) fn error(self, bytes: u64) -> impl Future<Output = Option<Error>> + use<> {
        // In reverse order of the pushes.
        let memory = self.memory.pop();
        let validation = self.validation.pop();
        let internal = self.internal.pop();
        async move {
            if memory.await.is_some() {
                return Some(Error::OutOfMemory { bytes });
            }
            validation.await.or(internal.await).map(|error| Error::Device(error.to_string()))
        }
    }
}
