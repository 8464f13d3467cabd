//! What stays on a device between runs, and on disk between processes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sonolume::enhancer::Device;
use sonolume::gpu::{Context, GpuRunner, Precision};
use sonolume::models::Model;
use sonolume::{Enhancer, HostTensor, ModelSource, Shape, TileSize};

use crate::harness::context;
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
