//! What the CPU computes in one go: operators, or a convolution with the layer norm or concatenation before it and the gate
//! behind it.
//!
//! Fusion here changes the traffic between memory and caches, not a single bit of the result.

use crate::graph::plan::Slots;
use crate::graph::{Graph, Node, Plan, Value};
use crate::ops::activation::Function;
use crate::ops::{Io, Op};
use crate::tensor::{LANES, Shape};

/// Operators that run together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// A layer norm that only `node` reads, as its source.
    pub(super) norm: Option<usize>,
    /// A concatenation that only `node` reads, as its source.
    pub(super) concat: Option<usize>,
    pub(super) node: usize,
    /// A gate that alone reads what `node` computes.
    pub(super) gate: Option<usize>,
    /// What it reads, in the order of `node`'s inputs; both inputs of a concatenation stand for its result.
    pub(super) inputs: Vec<Value>,
    pub(super) output: Value,
}

impl Group {
    /// Its operators in the order of the graph.
    pub(super) fn nodes(&self) -> Vec<usize> {
        self.norm.into_iter().chain(self.concat).chain([self.node]).chain(self.gate).collect()
    }
}

/// The graph's operators as groups, in an order in which they can run.
pub(super) fn groups(graph: &Graph) -> Vec<Group> {
    let nodes = graph.nodes();
    let mut uses = std::collections::HashMap::new();
    for value in nodes.iter().flat_map(|node| &node.inputs).chain(graph.outputs()) {
        *uses.entry(*value).or_insert(0usize) += 1;
    }
    let alone = |value: Value| uses.get(&value) == Some(&1);
    let mut groups: Vec<Group> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let (inputs, output) = (node.inputs.clone(), node.output);
        let mut group = Group { norm: None, concat: None, node: index, gate: None, inputs, output };
        let producer = groups.iter().position(|group| group.output == node.inputs[0]).filter(|_| alone(node.inputs[0]));
        if let Some(producer) = producer {
            let first = &groups[producer];
            match (&nodes[first.node].op, &node.op) {
                (Op::LayerNorm(_), _) if reads_groups(graph, node) => {
                    group.norm = Some(first.node);
                    group.inputs[0] = first.inputs[0];
                    groups.remove(producer);
                }
                (Op::Concat(_), _) if reads_groups(graph, node) => {
                    group.concat = Some(first.node);
                    group.inputs.splice(..1, first.inputs.iter().copied());
                    groups.remove(producer);
                }
                (op, Op::Gate(_)) if is_dense(op) && is_plain(op) && first.gate.is_none() => {
                    groups[producer].gate = Some(index);
                    groups[producer].output = node.output;
                    continue;
                }
                _ => {}
            }
        }
        groups.push(group);
    }
    groups
}

/// True for a convolution with a weight matrix that reads its source in whole groups of channels, as what is fused before it writes
/// them.
fn reads_groups(graph: &Graph, node: &Node) -> bool {
    is_dense(&node.op) && graph.channels(node.inputs[0]) >= LANES
}

/// True for a convolution with a weight matrix.
fn is_dense(op: &Op) -> bool {
    match op {
        Op::Conv2d(conv) => !conv.is_depthwise(),
        Op::Linear(_) => true,
        _ => false,
    }
}

/// True if nothing but a bias is fused into the operator.
fn is_plain(op: &Op) -> bool {
    let (activation, residual) = match op {
        Op::Conv2d(conv) => (conv.activation, conv.residual),
        Op::Linear(linear) => (linear.activation, linear.residual),
        _ => return false,
    };
    activation == Function::Identity && residual.is_none()
}

/// True if the result is the first input as it is: padding or cropping by nothing.
fn is_copy(op: &Op, io: &Io) -> bool {
    matches!(op, Op::Pad(_) | Op::Crop(_)) && io.inputs[0].shape == io.output.shape
}

/// One group with its sizes and buffer slots.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Index of the group.
    pub(super) group: usize,
    /// The places of `node`'s inputs and output.
    pub(super) io: Io,
    /// Slot and shape of what the group reads.
    pub(super) inputs: Vec<(usize, Shape)>,
    pub(super) output: usize,
}

/// A plan in groups.
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
    pub(super) fn new(graph: &Graph, groups: &[Group], plan: &Plan) -> Self {
        let mut ios: Vec<Option<&Io>> = vec![None; graph.nodes().len()];
        for step in &plan.steps {
            ios[step.node] = Some(&step.io);
        }
        let live = || groups.iter().enumerate().filter(|(_, group)| ios[group.node].is_some());
        // Values that another holds already.
        let mut same = std::collections::HashMap::new();
        for (_, group) in live() {
            if ios[group.node].is_some_and(|io| is_copy(&graph.nodes()[group.node].op, io)) {
                let held = same.get(&group.inputs[0]).copied().unwrap_or(group.inputs[0]);
                same.insert(group.output, held);
            }
        }
        let held = |value: Value| same.get(&value).copied().unwrap_or(value);
        let live = || live().filter(|(_, group)| !same.contains_key(&group.output));
        let mut last_use = std::collections::HashMap::new();
        for (index, group) in live() {
            last_use.extend(group.inputs.iter().map(|&input| (held(input), index)));
        }
        last_use.extend(graph.outputs().iter().map(|&output| (held(output), usize::MAX)));

        let mut slots = Slots::default();
        let mut slot_of = std::collections::HashMap::new();
        for (&value, (_, place)) in graph.inputs().iter().zip(&plan.inputs) {
            slot_of.insert(value, slots.take(super::stored(place.shape)));
        }
        let mut steps = Vec::new();
        for (index, group) in live() {
            let Some(io) = ios[group.node] else { continue };
            let result = group.gate.and_then(|gate| ios[gate]).unwrap_or(io).output;
            let output = slots.take(super::stored(result.shape));
            slot_of.insert(group.output, output);
            let joined = group.concat.and_then(|concat| ios[concat]).map(|io| &io.inputs[..]);
            let own = &io.inputs[usize::from(joined.is_some())..];
            let places = joined.unwrap_or_default().iter().chain(own);
            let slot = |input: &Value| slot_of.get(&held(*input)).copied();
            let inputs = group.inputs.iter().filter_map(slot).zip(places.map(|place| place.shape)).collect();
            let mut done: Vec<usize> = group
                .inputs
                .iter()
                .map(|&input| held(input))
                .filter(|input| last_use.get(input) == Some(&index))
                .filter_map(|input| slot_of.get(&input).copied())
                .collect();
            done.sort_unstable();
            done.dedup();
            done.into_iter().for_each(|slot| slots.give_back(slot));
            steps.push(Step { group: index, io: io.clone(), inputs, output });
        }
        let of = |values: &[Value]| values.iter().filter_map(|&value| slot_of.get(&held(value)).copied()).collect();
        Self { inputs: of(graph.inputs()), outputs: of(graph.outputs()), steps, slots: slots.sizes }
    }
}
