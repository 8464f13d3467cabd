//! The steps of a plan as the CPU takes them: operators that copy are left out, as their result is what they would copy.

use std::collections::HashMap;

use crate::graph::plan::{Plan, Slots, Step};
use crate::graph::{Graph, Value};
use crate::ops::{Io, Op};

/// True if the result is the first input as it is: padding or cropping by nothing.
fn is_copy(op: &Op, io: &Io) -> bool {
    matches!(op, Op::Pad(_) | Op::Crop(_)) && io.inputs[0].shape == io.output.shape
}

/// A plan without copies.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) steps: Vec<Step>,
    /// Elements of each slot.
    pub(super) slots: Vec<usize>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}

impl Schedule {
    /// Shares slots between the values of `plan` that are not in use at the same time.
    pub(super) fn new(graph: &Graph, plan: &Plan) -> Self {
        let node = |step: &Step| &graph.nodes()[step.node];
        // Values that another holds already.
        let mut same = HashMap::new();
        for step in plan.steps.iter().filter(|step| is_copy(&node(step).op, &step.io)) {
            let source = node(step).inputs[0];
            same.insert(node(step).output, same.get(&source).copied().unwrap_or(source));
        }
        let held = |value: Value| same.get(&value).copied().unwrap_or(value);
        let live = || plan.steps.iter().filter(|step| !same.contains_key(&node(step).output)).enumerate();
        let mut last_use = HashMap::new();
        for (index, step) in live() {
            last_use.extend(node(step).inputs.iter().map(|&input| (held(input), index)));
        }
        last_use.extend(graph.outputs().iter().map(|&output| (held(output), usize::MAX)));

        let mut slots = Slots::default();
        let mut slot_of = HashMap::new();
        for (&value, (_, place)) in graph.inputs().iter().zip(&plan.inputs) {
            slot_of.insert(value, slots.take(super::stored(place.shape)));
        }
        let mut steps = Vec::new();
        for (index, step) in live() {
            let output = slots.take(super::stored(step.io.output.shape));
            slot_of.insert(node(step).output, output);
            let sources = || node(step).inputs.iter().map(|&input| held(input));
            let inputs = sources().filter_map(|input| slot_of.get(&input).copied()).collect();
            let mut done: Vec<usize> = sources()
                .filter(|input| last_use.get(input) == Some(&index))
                .filter_map(|input| slot_of.get(&input).copied())
                .collect();
            done.sort_unstable();
            done.dedup();
            done.into_iter().for_each(|slot| slots.give_back(slot));
            steps.push(Step { inputs, output, ..step.clone() });
        }
        let of = |values: &[Value]| values.iter().filter_map(|&value| slot_of.get(&held(value)).copied()).collect();
        Self { inputs: of(graph.inputs()), outputs: of(graph.outputs()), steps, slots: slots.sizes }
    }
}
