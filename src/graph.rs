//! A generator as a graph of operators, and the builder that architectures use.
//!
//! Values are activations; a node computes one value from others. Sizes stay open: [`Graph::plan`] fixes them for an
//! image or a tile of one.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ops::{Axis, Op, Packed, Param, Scale, Traits};

mod build;
mod fuse;
mod join;
pub mod plan;
pub mod reach;
pub mod segment;
mod surround;

pub use plan::{Plan, Step};

/// One activation of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) usize);

/// One operator of a [`Graph`], with what it reads and its weights.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operator.
    pub op: Op,
    /// What it reads, in the operator's order.
    pub inputs: Vec<Value>,
    /// Its weights, in the operator's order.
    pub params: Vec<Arc<Param>>,
    /// What it computes.
    pub output: Value,
}

impl Node {
    /// The weights as the operator's kernels read them.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor that does not fit the operator.
    pub fn pack(&self) -> Result<Vec<Vec<f32>>> {
        self.op.pack(&self.owned_params())
    }

    /// The weights as a device with these `traits` keeps them.
    ///
    /// # Errors
    /// As [`Node::pack`].
    pub fn pack_device(&self, traits: Traits) -> Result<Vec<Packed>> {
        self.op.pack_device(&self.owned_params(), traits)
    }

    fn owned_params(&self) -> Vec<Param> {
        self.params.iter().map(|param| (**param).clone()).collect()
    }
}

/// What the builder knows of a value.
#[derive(Clone, Copy, Debug)]
struct Info {
    channels: usize,
    /// Pixels of this value for each pixel of the input, `[vertical, horizontal]`; zero for a pooled value.
    scale: [Scale; 2],
}

/// Operators in the order of execution.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    values: Vec<Info>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input of `channels` channels.
    pub fn input(&mut self, channels: usize) -> Value {
        self.scaled_input(channels, [Scale::ONE; 2])
    }

    /// Adds an input with `scale` pixels, vertical and horizontal, for each pixel of the image.
    pub fn scaled_input(&mut self, channels: usize, scale: [Scale; 2]) -> Value {
        let value = self.add_value(Info { channels, scale });
        self.inputs.push(value);
        value
    }

    /// Adds an operator and answers what it computes.
    ///
    /// # Errors
    /// [`Error::Shape`] if the channels do not fit, [`Error::Weights`] if a parameter does not.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[Value], params: Vec<Arc<Param>>) -> Result<Value> {
        let op = op.into();
        let channels: Vec<usize> = inputs.iter().map(|&value| self.channels(value)).collect();
        let channels = op.channels(&channels)?;
        let from = self.values[inputs[0].0].scale;
        let scale = Axis::BOTH.map(|axis| from[axis as usize].then(op.scale(axis)));
        let output = self.add_value(Info { channels, scale });
        self.nodes.push(Node { op, inputs: inputs.to_vec(), params, output });
        Ok(output)
    }

    /// Declares `value` the result.
    pub fn set_output(&mut self, value: Value) {
        self.outputs = vec![value];
    }

    /// Declares `value` one more result.
    pub fn add_output(&mut self, value: Value) {
        self.outputs.push(value);
    }

    /// Channels of `value`.
    pub fn channels(&self, value: Value) -> usize {
        self.values[value.0].channels
    }

    /// Pixels of `value` for each pixel of the input, on one axis.
    pub fn scale_of(&self, value: Value, axis: Axis) -> Scale {
        self.values[value.0].scale[axis as usize]
    }

    /// The operators in the order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The results; a generator has one.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The first result.
    ///
    /// # Errors
    /// [`Error::Shape`] if none was declared.
    pub fn output(&self) -> Result<Value> {
        self.outputs.first().copied().ok_or_else(|| Error::shape("the graph has no output"))
    }

    /// Output pixels for each input pixel, vertical and horizontal.
    ///
    /// # Errors
    /// [`Error::Shape`] if the graph has no output.
    pub fn scale(&self) -> Result<[Scale; 2]> {
        Ok(self.values[self.output()?.0].scale)
    }

    /// Number of weights, each tensor counted once.
    pub fn parameters(&self) -> usize {
        let mut seen = std::collections::HashSet::new();
        self.nodes
            .iter()
            .flat_map(|node| &node.params)
            .filter(|p| seen.insert(Arc::as_ptr(p)))
            .map(|p| p.data.len())
            .sum()
    }

    /// True if some operator depends on the whole image.
    pub fn is_global(&self) -> bool {
        self.nodes.iter().any(|node| node.op.is_global())
    }

    /// `self` followed by `next`, which must take as many channels as `self` gives.
    ///
    /// # Errors
    /// [`Error::Shape`] if the channels differ or either has not exactly one input and an output.
    pub fn then(mut self, next: Self) -> Result<Self> {
        let joint = self.output()?;
        let [entry] = next.inputs[..] else {
            return Err(Error::shape("only a generator with one input can follow another"));
        };
        if self.channels(joint) != next.channels(entry) {
            return Err(Error::shape(format!(
                "a generator with {} output channels cannot feed one with {} input channels",
                self.channels(joint),
                next.channels(entry)
            )));
        }
        let last = next.output()?;
        let mut renamed = vec![joint; next.values.len()];
        for node in next.nodes {
            let inputs: Vec<Value> = node.inputs.iter().map(|value| renamed[value.0]).collect();
            renamed[node.output.0] = self.push(node.op, &inputs, node.params)?;
        }
        self.set_output(renamed[last.0]);
        Ok(self)
    }

    fn add_value(&mut self, info: Info) -> Value {
        self.values.push(info);
        Value(self.values.len() - 1)
    }
}
