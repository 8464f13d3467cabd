//! Surrounds convolutions with what stands before and behind them ([`crate::ops::fused_conv`]): layer norms, concatenations, gates
//! and pixel shuffles are then not passes of their own.

use super::fuse::sole_producer;
use super::{Graph, Node};
use crate::ops::Op;
use crate::ops::binary::{Binary, BinaryKind, Broadcast};
use crate::ops::conv2d::Residual;
use crate::ops::fused_conv::{Before, Behind, Dense, FusedConv};

impl Graph {
    /// The same computation with what can be in a convolution in it.
    pub(super) fn surrounded(mut self) -> Self {
        let uses = self.uses();
        let mut nodes: Vec<Node> = Vec::new();
        for node in std::mem::take(&mut self.nodes) {
            // (Of the operators that are asked only a sum looks at its second input.)
            let merged = node.inputs.iter().take(2).enumerate().find_map(|(index, &input)| {
                let producer = sole_producer(&nodes, input, &uses)?;
                Some((producer, self.merged(&nodes[producer], &node, index)?))
            });
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

    /// `first`, whose result only `second` reads, as input `index`, and `second` as one operator.
    fn merged(&self, first: &Node, second: &Node, index: usize) -> Option<Node> {
        let parts = |op: &Op| match op {
            Op::Conv2d(conv) => Some((Before::Nothing, Dense::Conv2d(conv.clone()))),
            Op::Linear(linear) => Some((Before::Nothing, Dense::Linear(linear.clone()))),
            Op::FusedConv(FusedConv { before, dense, behind: Behind::Nothing }) => {
                Some((before.clone(), dense.clone()))
            }
            _ => None,
        };
        let (op, inputs, params) = match (&first.op, &second.op) {
            (Op::FusedConv(conv), Op::Binary(binary)) => return added(first, conv, second, binary, index),
            _ if index > 0 => return None,
            (Op::LayerNorm(norm), op) => {
                let (_, dense) = parts(op)?;
                let rest = second.inputs[1..].iter();
                let inputs = first.inputs.iter().chain(rest).copied().collect();
                let params = second.params.iter().chain(&first.params).cloned().collect();
                (FusedConv { before: Before::Norm(norm.clone()), dense, behind: Behind::Nothing }, inputs, params)
            }
            (Op::Concat(_), op) => {
                let (_, dense) = parts(op)?;
                let before = Before::Join(self.channels(first.inputs[0]));
                let inputs = first.inputs.iter().chain(&second.inputs[1..]).copied().collect();
                (FusedConv { before, dense, behind: Behind::Nothing }, inputs, second.params.clone())
            }
            (op, Op::Gate(gate)) => {
                let (before, dense) = parts(op)?;
                let params = first.params.iter().chain(&second.params).cloned().collect();
                (FusedConv { before, dense, behind: Behind::Gate(gate.clone()) }, first.inputs.clone(), params)
            }
            (op, Op::PixelShuffle(shuffle)) => {
                let (before, dense) = parts(op)?;
                // A residual that is there already is of the size before the shuffle.
                if dense.as_conv().residual.is_some() {
                    return None;
                }
                let behind = Behind::Shuffle(shuffle.clone());
                (FusedConv { before, dense, behind }, first.inputs.clone(), first.params.clone())
            }
            _ => return None,
        };
        FusedConv::fits(&op.before, &op.dense, &op.behind).then(|| Node {
            op: op.into(),
            inputs,
            params,
            output: second.output,
        })
    }
}

/// A sum of a shuffled convolution and an image as the convolution's residual.
fn added(first: &Node, conv: &FusedConv, second: &Node, binary: &Binary, index: usize) -> Option<Node> {
    let Behind::Shuffle(_) = conv.behind else { return None };
    let sum = Binary::new(binary.channels, BinaryKind::Add { alpha: 1.0, beta: 1.0 }, Broadcast::None);
    let mut conv = conv.clone();
    let residual = match &mut conv.dense {
        Dense::Conv2d(conv) => &mut conv.residual,
        Dense::Linear(linear) => &mut linear.residual,
    };
    if *binary != sum || residual.is_some() || second.inputs[0] == second.inputs[1] {
        return None;
    }
    *residual = Some(Residual::AfterActivation);
    let mut merged = first.clone();
    merged.op = conv.into();
    merged.inputs.push(second.inputs[1 - index]);
    merged.output = second.output;
    Some(merged)
}
