//! Runs a plan on a GPU through wgpu: executes the launches that operators describe.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::graph::{Graph, Plan, Step};
use crate::ops::blocks::UNIFORM_BYTES;
use crate::ops::{Binding, Dispatch, Place, Traits};
use crate::tensor::{HostTensor, Shape};

mod buffer;
mod cache;
pub mod device;
mod matrices;
mod pipeline;
mod planes;
mod submit;
pub mod timing;
mod transfer;
#[cfg_attr(target_arch = "wasm32", path = "gpu/upload_browser.rs")]
mod upload;
mod weights;

pub use buffer::Guard;
pub use device::{Context, DeviceInfo, DeviceKind};
pub use pipeline::{Precision, source};
pub use submit::Pending;
pub use timing::Timing;
pub use transfer::{Core, SHADERS, Surface, Transfer};

use buffer::Arena;
use planes::Crossing;
use submit::{Copied, Launch, Mapped, Staging};
use timing::Queries;
use upload::{Uploads, Written};
use weights::Weights;

/// Slots are shared by at most this many prepared sizes: interior, edge and corner tiles.
const PREPARED_SIZES: usize = 16;

/// A graph ready to run on a device: weights uploaded, kernels compiled at first use and kept.
pub struct GpuRunner {
    context: Arc<Context>,
    graph: Arc<Graph>,
    precision: Precision,
    traits: Traits,
    weights: Weights,
    uploads: Uploads,
    state: Mutex<State>,
}

/// What a run needs beside weights and kernels; one run at a time uses it.
struct State {
    arena: Arena,
    staging: Staging,
    parameters: transfer::Parameters,
    prepared: HashMap<Key, Prepared>,
}

impl State {
    /// Drops all buffers: runs make their own.
    fn forget(&mut self) {
        self.arena.clear();
        self.staging = Staging::default();
        self.prepared.clear();
    }
}

/// What decides how many launches a plan takes and how large they are: the sizes of its inputs, and of those steps that mind it
/// whether they begin at an even row and column.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    shapes: Vec<Shape>,
    odd: Vec<[bool; 2]>,
}

/// The launches of one plan with their buffers bound.
struct Prepared {
    launches: Vec<Launch>,
    /// For each step of the plan, where its launches end.
    ends: Vec<usize>,
    /// What the host writes, and what it reads, from the first run that does.
    host: Option<[Crossing; 2]>,
    /// All launches' `Params`, each at an aligned offset.
    params: wgpu::Buffer,
    /// Where in the image the parameters are for.
    places: Vec<Place>,
    /// The launches, for a run with tensors of the host: recorded while the device runs them.
    recorded: Option<wgpu::CommandBuffer>,
    /// [`GpuRunner::activation_bytes`].
    bytes: u64,
}

/// True if the launches of `key` were not made yet, or not those for tensors of the host.
fn lacks(all: &HashMap<Key, Prepared>, key: &Key, with_host: bool) -> bool {
    all.get(key).is_none_or(|prepared| with_host && prepared.host.is_none())
}

impl GpuRunner {
    /// Uploads the weights of `graph`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor does not fit its operator, [`Error::OutOfMemory`] if the device is too small,
    /// [`Error::Options`] if `precision` is f16 and the device has none, or if the device was opened with less than
    /// WebGPU's default limits.
    pub async fn new(context: Arc<Context>, graph: Arc<Graph>, precision: Precision) -> Result<Self> {
        Self::with_guard(context, graph, precision, Guard::default()).await
    }

    /// As [`GpuRunner::new`], with memory around every activation for tests.
    #[doc(hidden)]
    pub async fn with_guard(
        context: Arc<Context>,
        graph: Arc<Graph>,
        precision: Precision,
        guard: Guard,
    ) -> Result<Self> {
        let traits = context.traits(precision).await?;
        Self::with_traits(context, graph, precision, guard, traits).await
    }

    /// As [`GpuRunner::with_guard`], with kernels for `traits` whatever the device's are.
    async fn with_traits(
        context: Arc<Context>,
        graph: Arc<Graph>,
        precision: Precision,
        guard: Guard,
        traits: Traits,
    ) -> Result<Self> {
        if precision == Precision::F16 && !context.has_f16() {
            return Err(Error::Options(format!(
                "{} has no 16-bit floats in shaders: use precision f32",
                context.info().name
            )));
        }
        let uniform_bytes = context.device().limits().max_uniform_buffer_binding_size;
        if uniform_bytes < UNIFORM_BYTES as u64 {
            return Err(Error::Options(format!(
                "{} was opened with {uniform_bytes} bytes for a uniform binding: open it with WebGPU's default limits",
                context.info().name
            )));
        }
        let scopes = context.push_scopes();
        let weights = Weights::upload(&context, &graph, precision, traits);
        let parameters = transfer::Parameters::new(&context);
        scopes.pop(weights.as_ref().map_or(0, Weights::bytes)).await?;
        let arena = Arena::new(guard);
        let inputs = graph.inputs().len();
        Ok(Self {
            context,
            graph,
            precision,
            traits,
            weights: weights?,
            uploads: Uploads::new(inputs),
            state: Mutex::new(State { arena, staging: Staging::default(), parameters, prepared: HashMap::new() }),
        })
    }

    /// The device it runs on.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// How activations and weights are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Device memory that a run of `plan` takes beside the weights: activations, what operators keep between their kernels, and
    /// inputs and results as they cross where no activation's memory is free for them.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size does not fit the kernels' 32-bit arithmetic.
    pub fn activation_bytes(&self, plan: &Plan) -> Result<u64> {
        if let Some(prepared) = self.lock()?.prepared.get(&self.key(plan)) {
            return Ok(prepared.bytes);
        }
        Ok(self.activation_bytes_of(plan, &self.dispatches(plan)?))
    }

    fn activation_bytes_of(&self, plan: &Plan, dispatches: &[Vec<Dispatch>]) -> u64 {
        buffer::arena_bytes(plan, dispatches.iter().flatten(), self.precision)
    }

    /// Runs `plan`, a plan of this runner's graph, on `inputs`. Runs of one runner follow one another.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input has not the planned size, [`Error::OutOfMemory`], [`Error::DeviceLost`] and
    /// [`Error::Device`] as the device reports them.
    pub async fn run(&self, plan: &Plan, inputs: &[impl Borrow<HostTensor>]) -> Result<Vec<HostTensor>> {
        let pending = self.start(plan, inputs).await?;
        self.finish(pending).await
    }

    /// Submits a run of `plan` and does not wait for it: the next one can be started before this one is read. Inputs of two runs can be
    /// on their way at once; a third waits until the device has done those before.
    ///
    /// # Errors
    /// As [`GpuRunner::run`].
    pub async fn start(&self, plan: &Plan, inputs: &[impl Borrow<HostTensor>]) -> Result<Pending> {
        for (input, (_, place)) in inputs.iter().zip(&plan.inputs) {
            let input = input.borrow();
            if input.shape() != place.shape {
                return Err(Error::shape(format!("an input is {}, planned for {}", input.shape(), place.shape)));
            }
        }
        let written = self.write(plan, inputs)?;
        self.settled(plan, true, |state| self.submit(state, plan, inputs, written)).await
    }

    /// Waits for a run and reads its results.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Device`] as the device reports them.
    pub async fn finish(&self, pending: Pending) -> Result<Vec<HostTensor>> {
        let mut results = Vec::with_capacity(pending.results.len());
        for Mapped { buffer, bytes, shape } in pending.results {
            let decode = |bytes: &[u8]| self.precision.decode(bytes, shape);
            let result = submit::read_bytes(&self.context, &buffer, bytes, &pending.submission, decode).await?;
            results.push(result?);
            self.lock()?.staging.give_back(buffer);
        }
        Ok(results)
    }

    /// Does `work`, a run of `plan` with tensors of the host or without, with the state, and catches the device's errors. After one
    /// the buffers are dropped, as one of them may not exist, before another thread's run finds them: a smaller run makes its own.
    async fn settled<T>(&self, plan: &Plan, with_host: bool, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.check_size(plan)?;
        let bytes = self.activation_bytes(plan)?;
        // Before the state is locked: a thread of the pool that waits for the others to compile may begin another run meanwhile.
        // A browser, without such threads, compiles where errors are caught.
        if cfg!(not(target_arch = "wasm32")) && lacks(&self.lock()?.prepared, &self.key(plan), with_host) {
            self.compile(&self.dispatches(plan)?, with_host)?;
        }
        let scopes = self.context.push_scopes();
        let mut state = self.lock()?;
        let done = work(&mut state);
        let error = scopes.error(bytes);
        #[cfg(not(target_arch = "wasm32"))]
        let error = {
            // It is there at once.
            let error = pollster::block_on(error);
            if error.is_some() {
                state.forget();
            }
            drop(state);
            error
        };
        // A browser has one thread.
        #[cfg(target_arch = "wasm32")]
        let error = {
            drop(state);
            let error = error.await;
            if error.is_some() {
                self.lock()?.forget();
            }
            error
        };
        match error {
            Some(error) => Err(self.context.lost_or(error)),
            None => self.context.check_lost().and(done),
        }
    }

    /// Fails on a lost device, and if a tensor is larger than the device's bindings.
    fn check_size(&self, plan: &Plan) -> Result<()> {
        self.context.check_lost()?;
        self.context.check_binding(plan.largest_slot() as u64 * self.precision.bytes())
    }

    /// The state; what a run that panicked left of it is dropped, and made anew.
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        Ok(self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.forget();
            self.state.clear_poison();
            state
        }))
    }

    /// Compiles what `dispatches` need, all at once: kernels compile side by side, and the cache is written once.
    fn compile(&self, dispatches: &[Vec<Dispatch>], with_host: bool) -> Result<()> {
        let planes = if with_host { &planes::kernels()[..] } else { &[] };
        self.context.compile_all(dispatches.iter().flatten().chain(planes), self.precision)
    }

    /// Runs `plan` with every operator between two timestamps: what each took on the device, in the order of execution.
    ///
    /// # Errors
    /// As [`GpuRunner::run`]; [`Error::Options`] if the device has no timestamps.
    pub async fn profile(&self, plan: &Plan, inputs: &[impl Borrow<HostTensor>]) -> Result<Vec<Timing>> {
        let written = self.write(plan, inputs)?;
        let submit = |state: &mut State| {
            let queries = Queries::new(&self.context, plan.steps.len())?;
            let (kernels, submission) = self.submit_profile(state, plan, inputs, written, &queries)?;
            Ok((kernels, submission, queries))
        };
        let (kernels, submission, queries) = self.settled(plan, true, submit).await?;
        let nanoseconds = queries.read(&self.context, &submission).await?;
        let steps = plan.steps.iter().zip(kernels).zip(nanoseconds);
        Ok(steps
            .map(|((step, kernel), nanoseconds)| {
                let op = &self.graph.nodes()[step.node].op;
                let places = op.moved(&step.io);
                let bytes = places.iter().map(|place| buffer::stored_bytes(place.shape, self.precision)).sum();
                let flops = op.flops(&step.io);
                Timing { node: step.node, operator: op.stem(), kernel, nanoseconds, flops, bytes }
            })
            .collect())
    }

    /// Records and submits one run between timestamps; answers each step's kernel.
    fn submit_profile(
        &self,
        State { arena, prepared, .. }: &mut State,
        plan: &Plan,
        inputs: &[impl Borrow<HostTensor>],
        written: Vec<Option<Written>>,
        queries: &Queries,
    ) -> Result<(Vec<&'static str>, wgpu::SubmissionIndex)> {
        if arena.fit(&self.context, plan, self.precision) {
            prepared.clear();
        }
        let prepared = self.prepared(prepared, arena, plan, true)?;
        let ([from, _], copies) = self.upload(prepared, arena, inputs, written)?;
        let before = submit::record_copies(&self.context, &copies);
        self.context.queue().submit([before, submit::record(&self.context, &from.launches)]);
        Uploads::give_back(copies);
        let starts = std::iter::once(0).chain(prepared.ends.iter().copied());
        let steps = starts.zip(&prepared.ends).map(|(start, &end)| &prepared.launches[start..end]);
        let submission = queries.submit(&self.context, steps);
        let dispatches = self.dispatches(plan)?;
        let kernels = dispatches.iter().map(|all| all.last().map_or("", |dispatch| dispatch.shader.name)).collect();
        Ok((kernels, submission))
    }

    /// After a run: fails if a kernel wrote to the zones around the activations.
    #[doc(hidden)]
    pub async fn check_guards(&self, plan: &Plan) -> Result<()> {
        let (copies, submission) = self.lock()?.arena.copy_guards(&self.context, plan);
        for copy in copies {
            let decode = |bytes: &[u8]| bytes.to_vec();
            let bytes = submit::read_bytes(&self.context, &copy, copy.size(), &submission, decode).await?;
            if bytes.iter().any(|&byte| byte != Guard::PATTERN) {
                return Err(Error::Device("a kernel wrote outside its tensor".into()));
            }
        }
        Ok(())
    }

    /// Bytes and number of the buffers that runs have left, for tests.
    #[doc(hidden)]
    pub fn held(&self) -> Result<(u64, usize)> {
        Ok(self.lock()?.arena.held())
    }

    /// Writes a run's inputs to memory that the device can copy from; not in a browser.
    fn write(&self, plan: &Plan, inputs: &[impl Borrow<HostTensor>]) -> Result<Vec<Option<Written>>> {
        self.check_size(plan)?;
        let write = |(input, (_, place)): (&_, &(usize, Place))| {
            let values = HostTensor::data(Borrow::borrow(input));
            let bytes = planes::bytes(place.shape, self.precision);
            self.context.check_binding(bytes)?;
            self.uploads.write(&self.context, self.precision, values, bytes)
        };
        inputs.iter().zip(&plan.inputs).map(write).collect()
    }

    /// Submits one run, and records the next one like it.
    fn submit(
        &self,
        state: &mut State,
        plan: &Plan,
        inputs: &[impl Borrow<HostTensor>],
        written: Vec<Option<Written>>,
    ) -> Result<Pending> {
        let State { arena, staging, prepared, .. } = state;
        if arena.fit(&self.context, plan, self.precision) {
            prepared.clear();
        }
        let prepared = self.prepared(prepared, arena, plan, true)?;
        arena.fill_guards(&self.context, plan);
        let recorded = prepared.recorded.take();
        let ([from, to], copies) = self.upload(prepared, arena, inputs, written)?;
        let record =
            || submit::record(&self.context, from.launches.iter().chain(&prepared.launches).chain(&to.launches));
        let recorded = recorded.unwrap_or_else(record);
        let pending = submit::submit(&self.context, &copies, recorded, arena, staging, &to.planes, self.precision)?;
        Uploads::give_back(copies);
        // A browser has one thread for this and for what the page does.
        let next = cfg!(not(target_arch = "wasm32")).then(record);
        prepared.recorded = next;
        Ok(pending)
    }

    /// Runs `plan`, one tile, on an image that is on the device, and writes its core to another; waits for nothing.
    ///
    /// # Errors
    /// As [`GpuRunner::run`]; [`Error::Options`] if the surfaces do not suit.
    pub async fn transfer(&self, plan: &Plan, transfer: &Transfer<'_>, core: Core) -> Result<()> {
        transfer.check()?;
        self.settled(plan, false, |state| self.submit_transfer(state, plan, transfer, core)).await
    }

    fn submit_transfer(
        &self,
        State { arena, parameters, prepared, .. }: &mut State,
        plan: &Plan,
        transfer: &Transfer<'_>,
        core: Core,
    ) -> Result<()> {
        if arena.fit(&self.context, plan, self.precision) {
            prepared.clear();
        }
        let prepared = self.prepared(prepared, arena, plan, false)?;
        let (slot, place) = plan.inputs[0];
        let slot = arena.binding(slot, place.shape, self.precision);
        let import = transfer::import(&self.context, self.precision, parameters, transfer, place, slot)?;
        let (slot, place) = plan.output();
        let slot = arena.binding(slot, place.shape, self.precision);
        let export =
            transfer::export(&self.context, self.precision, parameters, transfer, core, place.shape.width, slot)?;
        let launches = [&import].into_iter().chain(&prepared.launches).chain([&export]);
        self.context.queue().submit([submit::record(&self.context, launches)]);
        Ok(())
    }

    /// How a run's inputs and results cross, and what the device is to copy first of what [`GpuRunner::write`] wrote.
    fn upload<'p>(
        &self,
        prepared: &'p Prepared,
        arena: &'p Arena,
        inputs: &[impl Borrow<HostTensor>],
        written: Vec<Option<Written>>,
    ) -> Result<(&'p [Crossing; 2], Vec<Copied<'p>>)> {
        let host = prepared.host.as_ref();
        let host = host.ok_or_else(|| Error::Device("a run was prepared without the host".into()))?;
        let mut copies = Vec::with_capacity(written.len());
        for ((planes, tensor), written) in host[0].planes.iter().zip(inputs).zip(written) {
            let (target, start, bytes) = planes.buffer(arena, self.precision)?;
            match written {
                Some(source) => copies.push(Copied { source, target, start, bytes }),
                None => {
                    let values = self.precision.encode(tensor.borrow().data());
                    self.context.queue().write_buffer(target, start, &values);
                }
            }
        }
        Ok((host, copies))
    }

    /// The launches for `plan`'s sizes, made at first use, with the parameters of `plan`'s place in the image; those for tensors of
    /// the host, too, if there are any.
    fn prepared<'p>(
        &self,
        all: &'p mut HashMap<Key, Prepared>,
        arena: &mut Arena,
        plan: &Plan,
        with_host: bool,
    ) -> Result<&'p mut Prepared> {
        let places: Vec<Place> = plan.inputs.iter().map(|(_, place)| *place).collect();
        let key = self.key(plan);
        let mut dispatches = Vec::new();
        if lacks(all, &key, with_host) {
            dispatches = self.dispatches(plan)?;
            let most = self.context.device().limits().max_compute_workgroups_per_dimension;
            if dispatches.iter().flatten().flat_map(|dispatch| dispatch.workgroups).any(|count| count > most) {
                // A smaller tile may do.
                return Err(Error::OutOfMemory { bytes: self.activation_bytes_of(plan, &dispatches) });
            }
            if cfg!(target_arch = "wasm32") {
                self.compile(&dispatches, with_host)?;
            }
            let mut grown = arena.fit_scratch(&self.context, dispatches.iter().flatten(), self.precision);
            if with_host {
                grown |= arena.fit_planes(&self.context, plan, self.precision);
            }
            if grown || all.len() >= PREPARED_SIZES {
                all.clear();
            }
        }
        let prepared = match all.entry(key) {
            Entry::Vacant(vacant) => vacant.insert(self.prepare(plan, &dispatches, places.clone(), arena)?),
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if with_host && prepared.host.is_none() {
            let crossing = |shader, tensors| Crossing::new(&self.context, self.precision, arena, shader, tensors);
            prepared.host = Some([crossing(&planes::IMPORT, &plan.inputs)?, crossing(&planes::EXPORT, &plan.outputs)?]);
        }
        if prepared.places != places {
            let (bytes, _) = buffer::params_bytes(&self.context, self.dispatches(plan)?.iter().flatten());
            self.context.queue().write_buffer(&prepared.params, 0, &bytes);
            prepared.places = places;
        }
        Ok(prepared)
    }

    fn key(&self, plan: &Plan) -> Key {
        let parity = |step: &Step| self.graph.nodes()[step.node].op.parity(&step.io, self.traits);
        Key {
            shapes: plan.inputs.iter().map(|(_, place)| place.shape).collect(),
            odd: plan.steps.iter().filter_map(parity).collect(),
        }
    }

    /// The launches of every step.
    fn dispatches(&self, plan: &Plan) -> Result<Vec<Vec<Dispatch>>> {
        plan.steps.iter().map(|step| self.graph.nodes()[step.node].op.dispatches(&step.io, self.traits)).collect()
    }

    fn prepare(
        &self,
        plan: &Plan,
        dispatches: &[Vec<Dispatch>],
        places: Vec<Place>,
        arena: &Arena,
    ) -> Result<Prepared> {
        let (params, offsets) = buffer::params(&self.context, dispatches.iter().flatten());
        let mut offsets = offsets.into_iter();
        let mut launches = Vec::new();
        let mut ends = Vec::with_capacity(dispatches.len());
        for (step, dispatches) in plan.steps.iter().zip(dispatches) {
            for (dispatch, offset) in dispatches.iter().zip(&mut offsets) {
                launches.push(self.launch(step, dispatch, &params, offset, arena)?);
            }
            ends.push(launches.len());
        }
        let bytes = self.activation_bytes_of(plan, dispatches);
        Ok(Prepared { launches, ends, host: None, params, places, recorded: None, bytes })
    }

    fn launch(
        &self,
        step: &Step,
        dispatch: &Dispatch,
        params: &wgpu::Buffer,
        offset: u64,
        arena: &Arena,
    ) -> Result<Launch> {
        let resource = |binding: &Binding| match *binding {
            Binding::Input(i) => Ok(arena.binding(step.inputs[i], step.io.inputs[i].shape, self.precision)),
            Binding::Output => Ok(arena.binding(step.output, step.io.output.shape, self.precision)),
            Binding::Weight(i) => self.weights.whole(step.node, i),
            Binding::Block { weight, start, bytes } => self.weights.block(step.node, weight, start, bytes),
            Binding::Scratch { index, elements } => arena.scratch(index, elements, self.precision),
        };
        let resources: Vec<_> = dispatch.bindings.iter().map(resource).collect::<Result<_>>()?;
        submit::launch(&self.context, self.precision, dispatch, (params, offset), resources)
    }
}
