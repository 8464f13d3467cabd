//! Truth and parity: the CPU equals PyTorch, and the GPU equals PyTorch and the CPU, case by case.

use std::sync::Arc;

use sonolume::HostTensor;
use sonolume::cpu::CpuRunner;
use sonolume::gpu::{Context, GpuRunner, Guard, Precision};
use sonolume::graph::Graph;
use sonolume::ops::{Param, Place};

use crate::harness::{Case, Golden, assert_close, context, context_with_matrices, context_without_subgroups};
use crate::ops::TABLES;

/// Relative to the largest output. Measured at most 2.4e-6 over all operators.
pub const TOLERANCE: f32 = 1e-5;
/// Storage in f16 rounds inputs, weights and results by 2^-11 each; sums of products partly average it out.
pub const TOLERANCE_F16: f32 = 4e-3;

/// A case as a graph of one operator, its inputs, and PyTorch's result.
pub struct Check {
    pub graph: Arc<Graph>,
    pub inputs: Vec<HostTensor>,
    pub places: Vec<Place>,
    pub expected: HostTensor,
}

fn check(case: &Case, golden: &Golden, build: fn(&Case) -> sonolume::ops::Op) -> Check {
    let key = case.key();
    let inputs: Vec<HostTensor> = (0..).map_while(|i| golden.image(&format!("{key}/input{i}"))).collect();
    let params: Vec<Arc<Param>> = (0..)
        .map_while(|i| golden.find(&format!("{key}/param{i}")))
        .map(|(shape, data)| Arc::new(Param::new("param", shape, data).unwrap()))
        .collect();
    let expected =
        golden.image(&format!("{key}/output")).unwrap_or_else(|| panic!("{case}: no golden; run make_ops.py"));
    let mut graph = Graph::new();
    let values: Vec<_> = inputs.iter().map(|input| graph.input(input.shape().channels)).collect();
    let output = graph.push(build(case), &values, params).unwrap_or_else(|error| panic!("{case}: {error}"));
    graph.set_output(output);
    let places = inputs.iter().map(|input| Place::whole(input.shape())).collect();
    Check { graph: Arc::new(graph), inputs, places, expected }
}

/// Runs `test` on every case of every operator; `SONOLUME_CASE` picks those whose name contains it.
pub fn every_case(mut test: impl FnMut(&Case, Check)) {
    let filter = std::env::var("SONOLUME_CASE").unwrap_or_default();
    let mut count = 0;
    for (stem, table, build) in TABLES {
        let golden = Golden::open(&format!("ops/{stem}"));
        for case in Case::parse(stem, table) {
            if case.to_string().contains(&filter) {
                test(&case, check(&case, &golden, *build));
                count += 1;
            }
        }
    }
    assert!(count > 0, "no case is named {filter}");
}

#[test]
fn the_cpu_agrees_with_pytorch() {
    every_case(|case, check| {
        let plan = check.graph.plan(&check.places).unwrap_or_else(|error| panic!("{case}: {error}"));
        let runner = CpuRunner::new(check.graph.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        // Twice: the second run finds the first one's leftovers in its buffers.
        for _ in 0..2 {
            let actual = runner.run(&plan, &check.inputs).unwrap().remove(0);
            assert_close(case, &actual, &check.expected, TOLERANCE);
        }
    });
}

fn the_gpu_agrees(context: &Arc<Context>, stems: &[&str], precision: Precision, tolerance: f32) {
    let guard = Guard { bytes: 4096 };
    every_case(|case, check| {
        if !stems.is_empty() && !stems.contains(&case.stem()) {
            return;
        }
        let plan = check.graph.plan(&check.places).unwrap();
        let run = async {
            let runner = GpuRunner::with_guard(context.clone(), check.graph.clone(), precision, guard).await?;
            let result = runner.run(&plan, &check.inputs).await?.remove(0);
            runner.check_guards(&plan).await?;
            Ok::<_, sonolume::Error>(result)
        };
        let actual = pollster::block_on(run).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_close(case, &actual, &check.expected, tolerance);
    });
}

#[test]
fn the_gpu_agrees_with_pytorch_in_f32() {
    the_gpu_agrees(&context(), &[], Precision::F32, TOLERANCE);
}

#[test]
fn the_gpu_agrees_with_pytorch_without_subgroups() {
    the_gpu_agrees(
        &context_without_subgroups(),
        &["conv2d", "conv_transpose2d", "fused_conv", "linear", "window_attention"],
        Precision::F32,
        TOLERANCE,
    );
}

#[test]
fn the_gpu_agrees_with_pytorch_with_matrices() {
    if let Some(context) = context_with_matrices() {
        let right = pollster::block_on(context.uses_matrices()).unwrap();
        assert!(right, "the matrices of {:?} were found to be wrong", context.info());
        the_gpu_agrees(&context, &["conv2d", "fused_conv", "linear"], Precision::F16, TOLERANCE_F16);
    }
}

#[test]
fn the_gpu_agrees_with_pytorch_in_f16() {
    assert!(context().has_f16(), "this device has no f16: the f16 kernels were not tested");
    the_gpu_agrees(&context(), &[], Precision::F16, TOLERANCE_F16);
}
