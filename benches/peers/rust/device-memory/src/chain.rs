//! How Vulkan's loader and its layers find each other; `vk_layer.h` declares it, and ash does not.

use std::ffi::c_void;

use ash::vk;

/// The version of the interface with this call; older loaders look for exported functions.
const INTERFACE: u32 = 2;

/// `VkNegotiateLayerInterface`: the loader says which interface it speaks, the layer which of its functions to call.
#[repr(C)]
pub struct Negotiation {
    kind: i32,
    next: *mut c_void,
    version: u32,
    get_instance_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
    get_device_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
    get_physical_device_proc_addr: vk::PFN_vkVoidFunction,
}

impl Negotiation {
    /// False if the loader is too old.
    pub(super) fn offer(
        &mut self,
        get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
        get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
    ) -> bool {
        const NEGOTIATION: i32 = 1;
        if self.kind != NEGOTIATION || self.version < INTERFACE {
            return false;
        }
        self.version = INTERFACE;
        self.get_instance_proc_addr = Some(get_instance_proc_addr);
        self.get_device_proc_addr = Some(get_device_proc_addr);
        self.get_physical_device_proc_addr = None;
        true
    }
}

/// One layer's part of the chain.
pub(super) trait Link: Copy {
    /// The structure in the creation's `pNext` that holds the chain.
    const HOLDER: vk::StructureType;
    fn next(&self) -> *mut Self;
}

/// `VkLayerInstanceLink`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct InstanceLink {
    next: *mut Self,
    pub(super) get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_physical_device_proc_addr: vk::PFN_vkVoidFunction,
}

impl Link for InstanceLink {
    const HOLDER: vk::StructureType = vk::StructureType::LOADER_INSTANCE_CREATE_INFO;

    fn next(&self) -> *mut Self {
        self.next
    }
}

/// `VkLayerDeviceLink`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DeviceLink {
    next: *mut Self,
    pub(super) get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    pub(super) get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
}

impl Link for DeviceLink {
    const HOLDER: vk::StructureType = vk::StructureType::LOADER_DEVICE_CREATE_INFO;

    fn next(&self) -> *mut Self {
        self.next
    }
}

/// `VkLayerInstanceCreateInfo` and `VkLayerDeviceCreateInfo`, up to the member that this layer reads of their union.
#[repr(C)]
struct Holder<L> {
    kind: vk::StructureType,
    next: *mut c_void,
    function: i32,
    link: *mut L,
}

/// Takes this layer's link, and leaves the next layer's in its place, as the interface asks.
///
/// # Safety
/// `next` is the `pNext` of a creation that the loader passes down.
pub(super) unsafe fn advance<L: Link>(next: *const c_void) -> Option<L> {
    const LINK: i32 = 0;
    let mut at = next.cast::<Holder<L>>().cast_mut();
    while !at.is_null() {
        // SAFETY: every structure in such a list begins with its kind and the next one; the rest is read of the holder only.
        unsafe {
            if (*at).kind == L::HOLDER && (*at).function == LINK {
                let link = *(*at).link.as_ref()?;
                (*at).link = link.next();
                return Some(link);
            }
            at = (*at).next.cast();
        }
    }
    None
}
