//! What stays on a device between runs, and on disk between processes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sonolume::cpu::CpuRunner;
use sonolume::enhancer::Device;
use sonolume::gpu::{Context, DeviceInfo, GpuRunner, Precision, Surface};
use sonolume::graph::Graph;
use sonolume::models::Model;
use sonolume::ops::Place;
use sonolume::ops::activation::Function;
use sonolume::{Enhancer, Error, Frame, HostTensor, Job, ModelSource, Report, Shape, TileSize, wgpu};

use crate::harness::{assert_close, context, open};
use crate::models::{noise, tiny_models};

/// A device of this test's own: others use the shared one at the same time.
fn own_context(cache: Option<&Path>) -> Arc<Context> {
    pollster::block_on(Context::named_with_cache(&context().info().name, cache)).unwrap()
}

/// A small generator with layers of several kinds.
fn model() -> Model {
    tiny_models().into_iter().find(|model| model.architecture == "sonolume").expect("the golden of sonolume")
}

#[test]
fn a_stream_of_frames_makes_nothing_new() {
    let context = own_context(None);
    let model = model();
    let input = noise(Shape::new(model.in_channels(), 150, 201), 5);
    let enhancer = Enhancer::builder()
        .model(ModelSource::Loaded(Box::new(model)))
        .device(Device::Shared(context.clone()))
        .tile(TileSize::Square(64))
        .build()
        .unwrap();
    let before = context.created();
    let first = enhancer.run(&input).unwrap();
    let made = context.created();
    assert!(made.iter().zip(before).all(|(made, before)| *made > before), "nothing is counted: {made:?}");
    for _ in 0..2 {
        assert!(enhancer.run(&input).unwrap() == first, "a later frame differs");
        assert_eq!(context.created(), made, "buffers, bind groups, kernels");
    }
}

/// What decides on tiles and is reported is what a run leaves on the device, but for every buffer's rounding.
#[test]
fn a_run_takes_the_memory_that_it_is_said_to() {
    const ROUNDING: u64 = 256;
    let context = own_context(None);
    // One with layer norm before convolutions, and one whose tensors find no activation's memory free as they cross.
    for (name, graph) in [("sonolume", model().graph), ("graph with three results", with_three_results())] {
        for precision in [Precision::F32, Precision::F16] {
            let channels = graph.inputs().iter().map(|&input| graph.channels(input));
            let shapes: Vec<Shape> = channels.map(|channels| Shape::new(channels, 50, 67)).collect();
            let plan = graph.plan(&shapes.iter().copied().map(Place::whole).collect::<Vec<_>>()).unwrap();
            let images: Vec<HostTensor> = shapes.into_iter().map(|shape| noise(shape, 3)).collect();
            let (before, after, (held, buffers)) = pollster::block_on(async {
                let runner = GpuRunner::new(context.clone(), graph.clone(), precision).await.unwrap();
                let before = runner.activation_bytes(&plan).unwrap();
                runner.run(&plan, &images).await.unwrap();
                (before, runner.activation_bytes(&plan).unwrap(), runner.held().unwrap())
            });
            assert_eq!(before, after, "{name} in {precision:?}");
            assert!(before > plan.slot_elements() * precision.bytes(), "{name} in {precision:?} shows nothing");
            let rounded = before..before + ROUNDING * buffers as u64;
            assert!(rounded.contains(&held), "{name} in {precision:?}: {held} instead of {before} bytes");
        }
    }
}

fn frame(width: usize, height: usize, seed: u32) -> Frame {
    let levels = noise(Shape::new(1, height, width), seed);
    Frame::from_luma8(width, height, levels.data().iter().map(|v| (v * 255.0) as u8).collect()).unwrap()
}

#[test]
fn a_batch_gives_each_picture_its_own_result_in_order() {
    let frames: Vec<Frame> =
        [(33, 20), (64, 48), (33, 20), (9, 70)].into_iter().zip(0..).map(|((w, h), seed)| frame(w, h, seed)).collect();
    for device in [Device::Cpu, Device::Shared(own_context(None))] {
        let enhancer =
            Enhancer::builder().model(ModelSource::Loaded(Box::new(model()))).device(device).build().unwrap();
        let alone: Vec<Frame> = frames.iter().map(|frame| enhancer.enhance(frame).unwrap().frame).collect();
        let mut taken = 0;
        let mut batch = enhancer.enhance_batch(frames.iter().inspect(|_| taken += 1));
        let first = batch.next().unwrap().unwrap().frame;
        let rest: Vec<Frame> = batch.map(|enhanced| enhanced.unwrap().frame).collect();
        assert_eq!(taken, frames.len());
        assert!(std::iter::once(&first).chain(&rest).eq(&alone), "on {}", enhancer.device().name);
    }
}

#[test]
fn batches_and_images_on_the_device_make_no_buffers_after_the_first() {
    let context = own_context(None);
    let source = ModelSource::Loaded(Box::new(model()));
    let enhancer = Enhancer::builder().model(source).device(Device::Shared(context.clone())).build().unwrap();
    let frames: Vec<Frame> = (0..3).map(|seed| frame(40, 30, seed)).collect();
    let batch = || enhancer.enhance_batch(&frames).for_each(|enhanced| drop(enhanced.unwrap()));
    batch();
    let made = context.created();
    batch();
    assert_eq!(context.created(), made, "buffers, bind groups, kernels");

    let [input, output] = [0, 1].map(|_| {
        context.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 40 * 30 * 4,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    });
    let surface = |buffer| Surface::Buffer { buffer, height: 30, width: 40 };
    let on_device = || {
        pollster::block_on(enhancer.enhance_on_device(surface(&input), surface(&output), Job::new())).unwrap();
    };
    on_device();
    let [buffers, _, kernels] = context.created();
    on_device();
    assert_eq!([context.created()[0], context.created()[2]], [buffers, kernels]);
}

fn run(context: &Arc<Context>, model: &Model, input: &HostTensor) -> HostTensor {
    let plan = model.graph.plan_whole(input.shape().height, input.shape().width).unwrap();
    pollster::block_on(async {
        let runner = GpuRunner::new(context.clone(), model.graph.clone(), Precision::F32).await?;
        runner.run(&plan, std::slice::from_ref(input)).await
    })
    .unwrap()
    .remove(0)
}

#[test]
fn compiled_kernels_are_kept_and_damaged_ones_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("made/when/needed");
    let model = model();
    let input = noise(Shape::new(model.in_channels(), 40, 41), 6);
    let first = own_context(Some(&nested));
    if !first.device().features().contains(sonolume::wgpu::Features::PIPELINE_CACHE) {
        println!("this driver offers no cache: only that nothing is written was tested");
        run(&first, &model, &input);
        assert!(!nested.exists());
        return;
    }
    let expected = run(&first, &model, &input);
    let files = || fs::read_dir(&nested).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("one file is expected: {:?}", files()) };
    let whole = fs::read(file).unwrap();

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [whole.clone(), flipped, whole[..whole.len() - 3].to_vec(), b"no cache".to_vec(), Vec::new()] {
        fs::write(file, &damaged).unwrap();
        assert!(run(&own_context(Some(&nested)), &model, &input) == expected);
        assert!(damaged == whole || fs::read(file).unwrap() != damaged, "the file is still damaged");
        assert_eq!(files().len(), 1, "nothing is left beside it");
    }
    // A folder that cannot be: the work is done all the same.
    let blocked = folder.path().join("file");
    fs::write(&blocked, b"in the way").unwrap();
    assert!(run(&own_context(Some(&blocked.join("cache"))), &model, &input) == expected);
}

/// Two inputs, three results, one of them an input.
fn with_three_results() -> Arc<Graph> {
    let mut graph = Graph::new();
    let (first, second) = (graph.input(3), graph.input(5));
    let joined = graph.concat(first, second).unwrap();
    let activated = graph.activation(joined, Function::Gelu).unwrap();
    let sum = graph.scaled_add(second, 2.0, second, -0.5).unwrap();
    graph.set_output(activated);
    graph.add_output(first);
    graph.add_output(sum);
    Arc::new(graph)
}

#[test]
fn runs_that_overlap_keep_their_images_apart() {
    let graph = with_three_results();
    let cpu = CpuRunner::new(graph.clone()).unwrap();
    for precision in [Precision::F32, Precision::F16] {
        let runner = pollster::block_on(GpuRunner::new(own_context(None), graph.clone(), precision)).unwrap();
        // Each is started before the one before it is read; buffers grow meanwhile.
        let sizes = [(7, 9), (7, 9), (20, 33), (5, 3), (41, 40)];
        let mut pending = Vec::new();
        for (seed, (height, width)) in (0..).zip(sizes) {
            let shapes = [3, 5].map(|channels| Shape::new(channels, height, width));
            let plan = graph.plan(&shapes.map(Place::whole)).unwrap();
            let images = shapes.map(|shape| noise(shape, seed));
            let expected = cpu.run(&plan, &images).unwrap();
            pending.push((pollster::block_on(runner.start(&plan, &images)).unwrap(), expected));
        }
        let tolerance = if precision == Precision::F32 { 1e-6 } else { 2e-3 };
        for (run, expected) in pending {
            let actual = pollster::block_on(runner.finish(run)).unwrap();
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_close(&format!("{precision:?} {}", expected.shape()), actual, expected, tolerance);
            }
        }
    }
}

#[test]
fn a_graph_without_operators_hands_on_every_tile() {
    let mut graph = Graph::new();
    let image = graph.input(1);
    graph.set_output(image);
    let graph = Arc::new(graph);
    let runner = pollster::block_on(GpuRunner::new(own_context(None), graph.clone(), Precision::F32)).unwrap();
    for (seed, column) in [(1, 0), (2, 8)] {
        let tile = Place { shape: Shape::new(1, 4, 4), origin: [0, column], full: [4, 12] };
        let image = noise(tile.shape, seed);
        let plan = graph.plan(&[tile]).unwrap();
        let result = pollster::block_on(runner.run(&plan, std::slice::from_ref(&image))).unwrap().remove(0);
        assert_eq!(result.data(), image.data());
    }
}

/// Two buffers for pictures of 40x30 pixels.
fn buffers(device: &wgpu::Device) -> [wgpu::Buffer; 2] {
    let usage = wgpu::BufferUsages::STORAGE;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 40 * 30 * 4, usage, mapped_at_creation: false };
    [(); 2].map(|()| device.create_buffer(&descriptor))
}

/// Enhances the picture in the first of [`buffers`] into the second.
fn on_device(enhancer: &Enhancer, [input, output]: [&wgpu::Buffer; 2]) -> Result<Report, Error> {
    let [input, output] = [input, output].map(|buffer| Surface::Buffer { buffer, height: 30, width: 40 });
    pollster::block_on(enhancer.enhance_on_device(input, output, Job::new()))
}

#[test]
fn a_device_of_the_host_is_known_for_what_it_is() {
    let (adapter, device, queue) = open(|limits| limits);
    let own = context();
    let expected = DeviceInfo { f16: false, matrices: false, ..own.info().clone() };
    assert_eq!(*Context::from_wgpu(device.clone(), queue.clone()).info(), expected);
    // It was opened without what matrices take.
    let context = Context::from_wgpu_on(&adapter, device, queue);
    assert_eq!(*context.info(), expected);
    assert!(!pollster::block_on(context.uses_matrices()).unwrap());
}

#[test]
fn a_lost_device_is_an_error_of_its_own() {
    let image = frame(40, 30, 1);
    let builder = || Enhancer::builder().model(ModelSource::Loaded(Box::new(model())));
    let (_, device, queue) = open(|limits| limits);
    let context = Context::from_wgpu(device.clone(), queue.clone());
    let enhancer = builder().device(Device::Shared(context.clone())).build().unwrap();
    enhancer.enhance(&image).unwrap();
    let buffers = buffers(&device);
    let run = || on_device(&enhancer, buffers.each_ref());
    run().unwrap();
    // The loss is told once the device has nothing to do.
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    device.destroy();
    assert!(matches!(run(), Err(Error::DeviceLost(_))), "{:?}", run().err());
    for _ in 0..2 {
        assert!(matches!(enhancer.enhance(&image), Err(Error::DeviceLost(_))), "{:?}", enhancer.enhance(&image).err());
    }
    let late = builder().device(Device::Shared(context)).build();
    assert!(matches!(late, Err(Error::DeviceLost(_))), "{:?}", late.err());

    // The host's callback, set later, is called in place of sonolume's: an error still, and no panic.
    let (_, device, queue) = open(|limits| limits);
    let enhancer = builder().device(Device::Shared(Context::from_wgpu(device.clone(), queue))).build().unwrap();
    device.set_device_lost_callback(|_, _| {});
    enhancer.enhance(&image).unwrap();
    device.destroy();
    let result = enhancer.enhance(&image);
    assert!(matches!(result, Err(Error::Device(_) | Error::DeviceLost(_))), "{:?}", result.err());
}

#[test]
fn a_lost_device_is_opened_anew() {
    let image = frame(40, 30, 1);
    let builder = Enhancer::builder().model(ModelSource::Loaded(Box::new(model())));
    let enhancer = builder.device(Device::Named(context().info().name.clone())).build().unwrap();
    let expected = enhancer.enhance(&image).unwrap().frame;
    let lost = enhancer.context().expect("a GPU");
    lost.device().destroy();
    // Whether this run or the next is the first to see it is the driver's choice.
    match enhancer.enhance(&image) {
        Err(Error::DeviceLost(_)) => {}
        other => assert!(other.is_ok_and(|enhanced| enhanced.frame == expected)),
    }
    assert!(enhancer.enhance(&image).unwrap().frame == expected);
    assert!(!Arc::ptr_eq(&lost, &enhancer.context().unwrap()), "the lost device was used");
}

/// A thread of rayon's pool that waits for kernels to compile begins another frame meanwhile: nothing may be locked then.
#[test]
fn frames_of_a_thread_pool_do_not_wait_for_each_other_for_good() {
    const FRAMES: usize = 24;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for kernels_of_the_host_alone in [false, true] {
        let builder = Enhancer::builder().model(ModelSource::Loaded(Box::new(model())));
        let enhancer = builder.device(Device::Shared(own_context(None))).build().unwrap();
        if kernels_of_the_host_alone {
            on_device(&enhancer, buffers(enhancer.context().unwrap().device()).each_ref()).unwrap();
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        for seed in 0..FRAMES as u32 {
            let (enhancer, sender) = (enhancer.clone(), sender.clone());
            pool.spawn(move || sender.send(enhancer.enhance(&frame(40, 30, seed)).is_ok()).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for done in 0..FRAMES {
            let answer = receiver.recv_timeout(std::time::Duration::from_secs(60));
            assert_eq!(answer, Ok(true), "after {done} frames");
        }
    }
}

/// Buffers of a device that was lost are not used on the one that was opened in its place.
#[test]
fn images_on_a_lost_device_are_an_error_and_no_other_device_is_opened_for_them() {
    let image = frame(40, 30, 1);
    let builder = Enhancer::builder().model(ModelSource::Loaded(Box::new(model())));
    let enhancer = builder.device(Device::Named(context().info().name.clone())).build().unwrap();
    let expected = enhancer.enhance(&image).unwrap().frame;
    let run = |buffers| on_device(&enhancer, buffers);
    let lost = enhancer.context().unwrap();
    let old = buffers(lost.device());
    run(old.each_ref()).unwrap();
    lost.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    lost.device().destroy();
    for _ in 0..2 {
        assert!(matches!(run(old.each_ref()), Err(Error::DeviceLost(_))));
    }
    assert!(enhancer.enhance(&image).unwrap().frame == expected);
    let new = buffers(enhancer.context().unwrap().device());
    for foreign in [[&old[0], &new[1]], [&new[0], &old[1]]] {
        assert!(run(foreign).is_err());
        assert!(enhancer.enhance(&image).unwrap().frame == expected);
    }
    run(new.each_ref()).unwrap();
}

#[test]
fn the_cpu_has_a_name_too() {
    let model = ModelSource::Loaded(Box::new(model()));
    let enhancer = Enhancer::builder().model(model).device(Device::Named("CPU".into())).build().unwrap();
    assert!(enhancer.context().is_none());
    assert_eq!(enhancer.device().name, "cpu");
}

#[test]
fn tiles_of_any_size_are_no_larger_than_the_picture() {
    let image = frame(40, 30, 1);
    for side in [41, usize::MAX / 2 + 1, usize::MAX] {
        let builder = Enhancer::builder().model(ModelSource::Loaded(Box::new(model()))).device(Device::Cpu);
        let enhancer = builder.tile(TileSize::Square(side)).build().unwrap();
        assert_eq!(enhancer.enhance(&image).unwrap().report.tiles, 1, "{side}");
    }
    assert!(HostTensor::zeros(Shape::new(4, 1 << (usize::BITS / 2 - 2), 1 << (usize::BITS / 2 - 1))).is_err());
}
