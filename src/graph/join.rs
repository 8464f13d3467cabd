//! Joins the maps of one image whose results an enlargement combines (gain and offset): they become one of twice the channels, so
//! that the image is read once.

use std::sync::Arc;

use super::fuse::sole_producer;
use super::{Graph, Info, Node, Value};
use crate::ops::activation::Function;
use crate::ops::upsample::Upsample;
use crate::ops::{Op, Param};
use crate::tensor::LANES;

impl Graph {
    /// The same computation with such maps joined.
    pub(super) fn joined(mut self) -> Self {
        let uses = self.uses();
        let mut nodes: Vec<Node> = Vec::new();
        for mut node in std::mem::take(&mut self.nodes) {
            if let Op::Upsample(upsample) = &node.op
                && upsample.then.is_some()
                && !upsample.joined
                && let (Some(gain), Some(offset)) =
                    (sole_producer(&nodes, node.inputs[0], &uses), sole_producer(&nodes, node.inputs[2], &uses))
                && let Some(mut both) = both(&nodes[gain], &nodes[offset])
            {
                let channels = 2 * self.channels(node.inputs[0]);
                both.output = self.add_value(Info { channels, scale: self.values[node.inputs[0].0].scale });
                node.op = Upsample { joined: true, ..upsample.clone() }.into();
                node.inputs = vec![both.output, node.inputs[1]];
                // Both have their input where the first is.
                nodes[gain.min(offset)] = both;
                nodes.remove(gain.max(offset));
            }
            nodes.push(node);
        }
        Self { nodes, ..self }
    }
}

/// Two maps of one image, the channels of the first and then those of the second; the output is still to be named.
fn both(first: &Node, second: &Node) -> Option<Node> {
    if first.op != second.op || first.inputs != second.inputs {
        return None;
    }
    let mut op = first.op.clone();
    let (channels, activation, is_plain) = match &mut op {
        Op::Conv2d(conv) => (&mut conv.out_channels, conv.activation, conv.groups == 1 && conv.residual.is_none()),
        Op::Linear(linear) => (&mut linear.out_channels, linear.activation, linear.residual.is_none()),
        _ => return None,
    };
    if !is_plain || activation == Function::PRelu || !channels.is_multiple_of(LANES) {
        return None;
    }
    *channels *= 2;
    let params = first.params.iter().zip(&second.params).map(|(first, second)| {
        let name = format!("{}, {}", first.name, second.name);
        let mut shape = first.shape.clone();
        // That of the output channels.
        *shape.first_mut()? *= 2;
        let data = [&first.data[..], &second.data].concat();
        // One of another size than its shape says is reported where it is packed.
        Param::new(name, shape, data).ok().map(Arc::new)
    });
    let params = params.collect::<Option<_>>()?;
    Some(Node { op, inputs: first.inputs.clone(), params, output: Value(usize::MAX) })
}
