//! Cuts a graph at its global operators, so that a generator with instance norm or pooling runs on images of any size.
//!
//! Within a segment every operator is local and tiles are exact. Between segments the values that later ones need stand
//! whole in host memory, where the global operators are computed from them.

use std::collections::BTreeSet;

use super::{Graph, Value};
use crate::error::Result;
use crate::ops::Axis;

/// One stretch of a graph without global operators.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its operators. Inputs and outputs are those of [`Segment::inputs`] and [`Segment::outputs`], in order.
    pub graph: Graph,
    /// Values of the whole graph that it reads; pooled values are among them.
    pub inputs: Vec<Value>,
    /// Values of the whole graph that it computes and others need.
    pub outputs: Vec<Value>,
    /// Nodes of the whole graph that run after it on whole tensors: the global operators and what follows them on pooled
    /// values alone.
    pub global_nodes: Vec<usize>,
}

impl Graph {
    /// True if `value` is one pixel whatever the image.
    pub fn is_pooled(&self, value: Value) -> bool {
        self.scale_of(value, Axis::Vertical).up == 0
    }

    /// The graph as segments, in the order of execution; a local graph is one segment.
    ///
    /// # Errors
    /// As [`Graph::push`]; a graph that could be built can be cut.
    pub fn segments(&self) -> Result<Vec<Segment>> {
        let mut stage = vec![0usize; self.values.len()];
        for node in &self.nodes {
            let before = node.inputs.iter().map(|value| stage[value.0]).max().unwrap_or(0);
            stage[node.output.0] = before + usize::from(node.op.is_global());
        }
        let last = stage.iter().copied().max().unwrap_or(0);
        (0..=last).map(|index| self.segment(index, &stage)).collect()
    }

    fn segment(&self, index: usize, stage: &[usize]) -> Result<Segment> {
        let runs_here = |output: Value| !self.is_pooled(output) && stage[output.0] == index;
        let mut produced = BTreeSet::new();
        let mut read = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| runs_here(node.output)) {
            read.extend(node.inputs.iter().copied().filter(|value| !produced.contains(value)));
            produced.insert(node.output);
        }
        // Values of this segment that another one, a global operator or the caller reads.
        let mut needed: BTreeSet<Value> =
            self.outputs.iter().copied().filter(|value| produced.contains(value)).collect();
        for node in self.nodes.iter().filter(|node| !runs_here(node.output)) {
            needed.extend(node.inputs.iter().copied().filter(|value| produced.contains(value)));
        }

        let mut graph = Graph::new();
        let mut renamed = vec![Value(usize::MAX); self.values.len()];
        for &value in &read {
            renamed[value.0] = graph.scaled_input(self.channels(value), self.values[value.0].scale);
        }
        for node in self.nodes.iter().filter(|node| runs_here(node.output)) {
            let inputs: Vec<Value> = node.inputs.iter().map(|value| renamed[value.0]).collect();
            renamed[node.output.0] = graph.push(node.op.clone(), &inputs, node.params.clone())?;
        }
        for value in &needed {
            graph.add_output(renamed[value.0]);
        }
        let global_nodes = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| self.is_pooled(node.output) && stage[node.output.0] == index + 1);
        Ok(Segment {
            graph,
            inputs: read.into_iter().collect(),
            outputs: needed.into_iter().collect(),
            global_nodes: global_nodes.map(|(node, _)| node).collect(),
        })
    }
}
