//! Images on the device give what images in host memory give, whole and in tiles.

use sonolume::gpu::Surface;
use sonolume::wgpu;
use sonolume::wgpu::util::DeviceExt;
use sonolume::{Device, Enhancer, Frame, Job, ModelSource, Shape, TileSize};

use crate::harness::context;
use crate::models::{noise, tiny_models};

fn enhancer(tile: TileSize) -> Enhancer {
    let model = tiny_models().into_iter().find(|model| model.name == "sonolume").expect("the small sonolume");
    let source = ModelSource::Loaded(Box::new(model));
    Enhancer::builder().model(source).device(Device::Shared(context())).tile(tile).build().unwrap()
}

/// The bytes of a buffer on the device.
fn read(source: &wgpu::Buffer) -> Vec<u8> {
    let context = context();
    let copy = context.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: source.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(source, 0, &copy, 0, source.size());
    context.queue().submit([encoder.finish()]);
    copy.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    context.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    copy.get_mapped_range(..).unwrap().to_vec()
}

#[test]
fn buffers_on_the_device_give_the_hosts_result() {
    let (height, width) = (83, 71);
    let image = noise(Shape::new(1, height, width), 5);
    let context = context();
    let input = context.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(image.data()),
        usage: wgpu::BufferUsages::STORAGE,
    });
    let output = context.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: input.size(),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let surface = |buffer| Surface::Buffer { buffer, height, width };
    for (tile, strength) in [(TileSize::Auto, 1.0f32), (TileSize::Square(32), 1.0), (TileSize::Square(32), 0.25)] {
        let enhancer = enhancer(tile);
        let expected = enhancer.run(&image).unwrap();
        let job = Job::new().strength(strength);
        pollster::block_on(enhancer.enhance_on_device(surface(&input), surface(&output), job)).unwrap();
        let bytes = read(&output);
        let result: &[f32] = bytemuck::cast_slice(&bytes);
        for ((result, expected), plain) in result.iter().zip(expected.data()).zip(image.data()) {
            let expected = plain + strength * (expected.clamp(0.0, 1.0) - plain);
            assert!((result - expected).abs() < 1e-6, "{tile:?} {strength}: {result}, expected {expected}");
        }
    }
    let refused =
        pollster::block_on(enhancer(TileSize::Auto).enhance_on_device(surface(&input), surface(&input), Job::new()));
    assert!(refused.is_err(), "input and output were the same buffer");
}

#[test]
fn textures_on_the_device_give_the_hosts_result() {
    let (height, width) = (45, 64);
    let levels: Vec<u8> = noise(Shape::new(1, height, width), 9).data().iter().map(|v| (v * 255.0) as u8).collect();
    // Grey, and one pixel of Doppler colour.
    let mut pixels: Vec<u8> = levels.iter().flat_map(|&v| [v, v, v, 200]).collect();
    pixels[4 * 500..4 * 500 + 4].copy_from_slice(&[250, 20, 10, 255]);
    let context = context();
    let descriptor = |usage| wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage,
        view_formats: &[],
    };
    let input = context.device().create_texture_with_data(
        context.queue(),
        &descriptor(wgpu::TextureUsages::TEXTURE_BINDING),
        wgpu::util::TextureDataOrder::LayerMajor,
        &pixels,
    );
    let output = context
        .device()
        .create_texture(&descriptor(wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC));
    let enhancer = enhancer(TileSize::Square(32));
    pollster::block_on(enhancer.enhance_on_device(Surface::Texture(&input), Surface::Texture(&output), Job::new()))
        .unwrap();

    let buffer = context.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: (4 * width * height) as u64,
        usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * width as u32), rows_per_image: None };
    encoder.copy_texture_to_buffer(
        output.as_image_copy(),
        wgpu::TexelCopyBufferInfo { buffer: &buffer, layout },
        output.size(),
    );
    context.queue().submit([encoder.finish()]);
    let result = read(&buffer);

    let frame = Frame::from_rgba8(width, height, pixels).unwrap();
    let expected = enhancer.enhance(&frame).unwrap().frame;
    let worst = result.iter().zip(expected.as_u8().unwrap()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "differs by {worst:?} levels");
    assert_eq!(result[4 * 500..4 * 500 + 4], [250, 20, 10, 255], "the colour pixel changed");
}
