//! A Vulkan layer that counts what a process allocates on its devices, whichever runtime it is.
//!
//! Resident memory mixes drivers, compilers and copies on the host, and does not see a graphics card's memory at all. Every
//! runtime on Vulkan takes device memory by `vkAllocateMemory`, in blocks or one by one; what a driver keeps for itself
//! (kernels, descriptors, command buffers) does not pass there.
//!
//! The file that `PEERS_DEVICE_MEMORY_FILE` names holds two numbers: the most bytes that were allocated at one time, and the
//! most in memory that is local to a device. It is written at every new peak, as a process may end without destroying its
//! device.

mod chain;

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use ash::vk::{self, Handle};

use chain::{DeviceLink, InstanceLink, Negotiation};

/// The next layer's functions, or the driver's.
#[derive(Clone, Copy)]
struct Instance {
    handle: vk::Instance,
    get_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    destroy: vk::PFN_vkDestroyInstance,
    memory_properties: vk::PFN_vkGetPhysicalDeviceMemoryProperties,
}

#[derive(Clone, Copy)]
struct Device {
    get_proc_addr: vk::PFN_vkGetDeviceProcAddr,
    destroy: vk::PFN_vkDestroyDevice,
    allocate: vk::PFN_vkAllocateMemory,
    free: vk::PFN_vkFreeMemory,
    /// Bit for bit the memory types that are local to the device.
    local_types: u32,
}

/// Bytes of all memory, and of the memory that is local to a device.
type Bytes = [u64; 2];

#[derive(Default)]
struct State {
    /// By their dispatch keys, which physical devices share.
    instances: HashMap<usize, Instance>,
    devices: HashMap<vk::Device, Device>,
    allocations: HashMap<(vk::Device, vk::DeviceMemory), Bytes>,
    now: Bytes,
    peak: Bytes,
    file: Option<File>,
}

/// A file that cannot be made is missed by who waits for it; the process must go on.
static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let file = std::env::var_os("PEERS_DEVICE_MEMORY_FILE").and_then(|path| File::create(path).ok());
    Mutex::new(State { file, ..State::default() })
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks only for the look-up: a driver may take its time.
fn device(handle: vk::Device) -> Option<Device> {
    state().devices.get(&handle).copied()
}

fn instance(key: usize) -> Option<Instance> {
    state().instances.get(&key).copied()
}

/// What the loader keeps at the start of an instance, and of each of its physical devices.
///
/// # Safety
/// `handle` is of an instance or a physical device that exists.
unsafe fn dispatch_key(handle: u64) -> usize {
    unsafe { *(handle as usize as *const usize) }
}

impl State {
    fn add(&mut self, device: vk::Device, memory: vk::DeviceMemory, bytes: Bytes) {
        self.allocations.insert((device, memory), bytes);
        for ((now, peak), bytes) in self.now.iter_mut().zip(&mut self.peak).zip(bytes) {
            *now = now.saturating_add(bytes);
            *peak = (*peak).max(*now);
        }
    }

    fn remove(&mut self, bytes: Bytes) {
        for (now, bytes) in self.now.iter_mut().zip(bytes) {
            *now = now.saturating_sub(bytes);
        }
    }

    /// Peaks only grow: of the same width, a text replaces the one before.
    fn write(&mut self) {
        let [all, local] = self.peak;
        if let Some(file) = &mut self.file {
            let _ = file.rewind().and_then(|()| file.write_all(format!("{all:20} {local:20}\n").as_bytes()));
        }
    }
}

/// The loader's first call: which interface they speak, and where the layer's functions are.
///
/// # Safety
/// As Vulkan's loader calls it.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(negotiation: *mut Negotiation) -> vk::Result {
    let negotiation = unsafe { negotiation.as_mut() };
    if negotiation.is_some_and(|negotiation| negotiation.offer(get_instance_proc_addr, get_device_proc_addr)) {
        vk::Result::SUCCESS
    } else {
        vk::Result::ERROR_INITIALIZATION_FAILED
    }
}

/// This layer's function of that name.
macro_rules! own {
    ($name:expr, $($vulkan:literal => $function:ident as $kind:ty),* $(,)?) => {
        match $name.to_bytes() {
            // SAFETY: Vulkan's functions are handed over as `void (*)()`, and called as what their name says.
            $($vulkan => unsafe {
                std::mem::transmute::<Option<$kind>, vk::PFN_vkVoidFunction>(Some($function as $kind))
            },)*
            _ => None,
        }
    };
}

fn own_of_device(name: &CStr) -> vk::PFN_vkVoidFunction {
    own!(name,
        b"vkGetDeviceProcAddr" => get_device_proc_addr as vk::PFN_vkGetDeviceProcAddr,
        b"vkDestroyDevice" => destroy_device as vk::PFN_vkDestroyDevice,
        b"vkAllocateMemory" => allocate_memory as vk::PFN_vkAllocateMemory,
        b"vkFreeMemory" => free_memory as vk::PFN_vkFreeMemory,
    )
}

fn own_of_instance(name: &CStr) -> vk::PFN_vkVoidFunction {
    own!(name,
        b"vkGetInstanceProcAddr" => get_instance_proc_addr as vk::PFN_vkGetInstanceProcAddr,
        b"vkCreateInstance" => create_instance as vk::PFN_vkCreateInstance,
        b"vkDestroyInstance" => destroy_instance as vk::PFN_vkDestroyInstance,
        b"vkCreateDevice" => create_device as vk::PFN_vkCreateDevice,
    )
}

unsafe extern "system" fn get_instance_proc_addr(handle: vk::Instance, name: *const c_char) -> vk::PFN_vkVoidFunction {
    let own = unsafe { own_of_instance(CStr::from_ptr(name)).or(own_of_device(CStr::from_ptr(name))) };
    if own.is_some() || handle.is_null() {
        return own;
    }
    unsafe { (instance(dispatch_key(handle.as_raw()))?.get_proc_addr)(handle, name) }
}

unsafe extern "system" fn get_device_proc_addr(handle: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    let own = unsafe { own_of_device(CStr::from_ptr(name)) };
    if own.is_some() {
        return own;
    }
    unsafe { (device(handle)?.get_proc_addr)(handle, name) }
}

/// The next function `name`, of the type that belongs to it.
macro_rules! next {
    ($get:expr, $handle:expr, $name:literal as $kind:ty) => {
        // SAFETY: a function that Vulkan hands over is of the type that its name says.
        unsafe { std::mem::transmute::<vk::PFN_vkVoidFunction, Option<$kind>>($get($handle, $name.as_ptr())) }
    };
}

unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    handle: *mut vk::Instance,
) -> vk::Result {
    let Some(link) = (unsafe { chain::advance::<InstanceLink>((*info).p_next) }) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let get = link.get_instance_proc_addr;
    let Some(create) = next!(get, vk::Instance::null(), c"vkCreateInstance" as vk::PFN_vkCreateInstance) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let result = unsafe { create(info, callbacks, handle) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    let handle = unsafe { *handle };
    let destroy = next!(get, handle, c"vkDestroyInstance" as vk::PFN_vkDestroyInstance);
    let memory_properties =
        next!(get, handle, c"vkGetPhysicalDeviceMemoryProperties" as vk::PFN_vkGetPhysicalDeviceMemoryProperties);
    let (Some(destroy), Some(memory_properties)) = (destroy, memory_properties) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let key = unsafe { dispatch_key(handle.as_raw()) };
    state().instances.insert(key, Instance { handle, get_proc_addr: get, destroy, memory_properties });
    result
}

unsafe extern "system" fn destroy_instance(handle: vk::Instance, callbacks: *const vk::AllocationCallbacks<'_>) {
    if handle.is_null() {
        return;
    }
    let key = unsafe { dispatch_key(handle.as_raw()) };
    let Some(instance) = state().instances.remove(&key) else { return };
    unsafe { (instance.destroy)(handle, callbacks) }
}

unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    handle: *mut vk::Device,
) -> vk::Result {
    let link = unsafe { chain::advance::<DeviceLink>((*info).p_next) };
    let (Some(link), Some(instance)) = (link, instance(unsafe { dispatch_key(physical.as_raw()) })) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let get = link.get_instance_proc_addr;
    let Some(create) = next!(get, instance.handle, c"vkCreateDevice" as vk::PFN_vkCreateDevice) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let result = unsafe { create(physical, info, callbacks, handle) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    let handle = unsafe { *handle };
    let get_proc_addr = link.get_device_proc_addr;
    let destroy = next!(get_proc_addr, handle, c"vkDestroyDevice" as vk::PFN_vkDestroyDevice);
    let allocate = next!(get_proc_addr, handle, c"vkAllocateMemory" as vk::PFN_vkAllocateMemory);
    let free = next!(get_proc_addr, handle, c"vkFreeMemory" as vk::PFN_vkFreeMemory);
    let (Some(destroy), Some(allocate), Some(free)) = (destroy, allocate, free) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    };
    let mut properties = vk::PhysicalDeviceMemoryProperties::default();
    unsafe { (instance.memory_properties)(physical, &mut properties) };
    let types = properties.memory_types.iter().take(properties.memory_type_count as usize).enumerate();
    let local_types = types
        .filter(|(_, kind)| kind.property_flags.contains(vk::MemoryPropertyFlags::DEVICE_LOCAL))
        .fold(0, |bits, (index, _)| bits | 1 << index);
    let mut state = state();
    state.devices.insert(handle, Device { get_proc_addr, destroy, allocate, free, local_types });
    // A process that has a device and allocates nothing has a peak, too.
    state.write();
    result
}

unsafe extern "system" fn destroy_device(handle: vk::Device, callbacks: *const vk::AllocationCallbacks<'_>) {
    let device = {
        let mut state = state();
        // Whatever the process forgot to free.
        let left: Vec<Bytes> =
            state.allocations.extract_if(|(owner, _), _| *owner == handle).map(|(_, bytes)| bytes).collect();
        left.into_iter().for_each(|bytes| state.remove(bytes));
        state.devices.remove(&handle)
    };
    let Some(device) = device else { return };
    unsafe { (device.destroy)(handle, callbacks) }
}

unsafe extern "system" fn allocate_memory(
    handle: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    let Some(device) = device(handle) else { return vk::Result::ERROR_INITIALIZATION_FAILED };
    let result = unsafe { (device.allocate)(handle, info, callbacks, memory) };
    if result == vk::Result::SUCCESS {
        let (info, memory) = unsafe { (&*info, *memory) };
        let is_local = device.local_types.checked_shr(info.memory_type_index).is_some_and(|bits| bits & 1 == 1);
        let bytes = [info.allocation_size, if is_local { info.allocation_size } else { 0 }];
        let mut state = state();
        let before = state.peak;
        state.add(handle, memory, bytes);
        if state.peak != before {
            state.write();
        }
    }
    result
}

unsafe extern "system" fn free_memory(
    handle: vk::Device,
    memory: vk::DeviceMemory,
    callbacks: *const vk::AllocationCallbacks<'_>,
) {
    let Some(device) = device(handle) else { return };
    {
        // Before the driver frees it: then another thread may already get the same handle.
        let mut state = state();
        if let Some(bytes) = state.allocations.remove(&(handle, memory)) {
            state.remove(bytes);
        }
    }
    unsafe { (device.free)(handle, memory, callbacks) }
}
