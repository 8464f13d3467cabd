//! Enhances an image that is on the device, on a device that the application opened.

use sonolume::gpu::{Context, Surface};
use sonolume::phantom::{Phantom, PhantomOptions};
use sonolume::{Device, Enhancer, Error, Job, wgpu};
use wgpu::util::DeviceExt;

fn main() -> sonolume::Result<()> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .map_err(|error| Error::NoDevice(error.to_string()))?;
    let (device, queue) = pollster::block_on(
        adapter.request_device(&wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() }),
    )
    .map_err(|error| Error::NoDevice(error.to_string()))?;

    let scan = Phantom::new(PhantomOptions::default())?.pair().low.luma();
    let (height, width) = (scan.shape().height, scan.shape().width);
    let input = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some("scan"),
        contents: bytemuck::cast_slice(scan.data()),
        usage: wgpu::BufferUsages::STORAGE,
    });
    let output = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("enhanced"),
        size: input.size(),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });

    let context = Context::from_wgpu(device, queue);
    let enhancer = Enhancer::builder().device(Device::Shared(context)).build()?;
    let surface = |buffer| Surface::Buffer { buffer, height, width };
    let report = pollster::block_on(enhancer.enhance_on_device(surface(&input), surface(&output), Job::new()))?;
    println!("{width}x{height} in {} tiles on {}", report.tiles, report.device.name);
    Ok(())
}
