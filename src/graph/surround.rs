//! Surrounds convolutions with what stands before and behind them ([`crate::ops::fused_conv`]): layer norms, concatenations and
//! gates are then not written.

use super::fuse::sole_producer;
use super::{Graph, Node};
use crate::ops::Op;
use crate::ops::fused_conv::{Before, Dense, FusedConv};

impl Graph {
    /// The same computation with what can be in a convolution in it.
    pub(super) fn surrounded(mut self) -> Self {
        let uses = self.uses();
        let mut nodes: Vec<Node> = Vec::new();
        for node in std::mem::take(&mut self.nodes) {
            let merged = sole_producer(&nodes, node.inputs[0], &uses)
                .and_then(|producer| Some((producer, self.merged(&nodes[producer], &node)?)));
            match merged {
                Some((producer, merged)) => {
                    nodes.remove(producer);
                    nodes.push(merged);
                }
                None => nodes.push(node),
            }
        }
        Self { nodes, ..self }
    }

    /// `first`, whose result only `second` reads, and `second` as one operator.
    fn merged(&self, first: &Node, second: &Node) -> Option<Node> {
        let parts = |op: &Op| match op {
            Op::Conv2d(conv) => Some((Before::Nothing, Dense::Conv2d(conv.clone()))),
            Op::Linear(linear) => Some((Before::Nothing, Dense::Linear(linear.clone()))),
            Op::FusedConv(FusedConv { before, dense, gate: None }) => Some((before.clone(), dense.clone())),
            _ => None,
        };
        let (op, inputs, params) = match (&first.op, &second.op) {
            (Op::LayerNorm(norm), op) => {
                let (_, dense) = parts(op)?;
                let rest = second.inputs[1..].iter();
                let inputs = first.inputs.iter().chain(rest).copied().collect();
                let params = second.params.iter().chain(&first.params).cloned().collect();
                (FusedConv { before: Before::Norm(norm.clone()), dense, gate: None }, inputs, params)
            }
            (Op::Concat(_), op) => {
                let (_, dense) = parts(op)?;
                let before = Before::Join(self.channels(first.inputs[0]));
                let inputs = first.inputs.iter().chain(&second.inputs[1..]).copied().collect();
                (FusedConv { before, dense, gate: None }, inputs, second.params.clone())
            }
            (op, Op::Gate(gate)) => {
                let (before, dense) = parts(op)?;
                let params = first.params.iter().chain(&second.params).cloned().collect();
                (FusedConv { before, dense, gate: Some(gate.clone()) }, first.inputs.clone(), params)
            }
            _ => return None,
        };
        FusedConv::fits(&op.before, &op.dense, op.gate.as_ref()).then(|| Node {
            op: op.into(),
            inputs,
            params,
            output: second.output,
        })
    }
}
