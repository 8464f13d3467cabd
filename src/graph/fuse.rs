//! Fusion: padding, scale and shift, residuals, activations, enlargements and functions of elements move into the operator beside
//! them; [`super::join`] and [`super::surround`] do the rest.
//!
//! Every rule takes an operator and the one that computes its input. If nobody else reads that value, the two become
//! one: less memory traffic, and no difference in the result but rounding.

use std::sync::Arc;

use super::{Graph, Node, Value};
use crate::error::Result;
use crate::ops::activation::Function;
use crate::ops::binary::{Binary, BinaryKind, Broadcast};
use crate::ops::conv2d::Residual;
use crate::ops::pad::PadAmount;
use crate::ops::upsample::Upsample;
use crate::ops::{Op, Param};

impl Graph {
    /// The same computation with fewer operators.
    ///
    /// # Errors
    /// As [`Graph::push`]; a graph that could be built can be fused.
    pub fn fused(&self) -> Result<Self> {
        let uses = self.uses();
        let mut fused = Self { nodes: Vec::new(), values: self.values.clone(), ..self.clone() };
        for node in &self.nodes {
            let node = fold_padding(&mut fused.nodes, node.clone(), &uses);
            if let Some(node) = absorb(&mut fused.nodes, node, &uses) {
                fused.nodes.push(node);
            }
        }
        Ok(fused.joined().surrounded())
    }

    /// How often every value is read, by operators or as a result.
    pub(super) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0usize; self.values.len()];
        for value in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            uses[value.0] += 1;
        }
        uses
    }
}

/// The last operators' index that computes `value`, if `value` has no other reader.
pub(super) fn sole_producer(nodes: &[Node], value: Value, uses: &[usize]) -> Option<usize> {
    (uses[value.0] == 1).then(|| nodes.iter().rposition(|node| node.output == value)).flatten()
}

/// A fixed padding before an unpadded convolution becomes the convolution's own.
fn fold_padding(nodes: &mut Vec<Node>, mut node: Node, uses: &[usize]) -> Node {
    if let Op::Conv2d(conv) = &mut node.op
        && conv.padding == [[0; 2]; 2]
        && let Some(producer) = sole_producer(nodes, node.inputs[0], uses)
        && let Op::Pad(pad) = &nodes[producer].op
        && let PadAmount::Fixed(amount) = pad.amount
    {
        conv.padding = amount;
        conv.border = pad.border;
        node.inputs[0] = nodes.remove(producer).inputs[0];
    }
    node
}

/// Lets the producer of one of `node`'s inputs do its work; gives `node` back if none can.
fn absorb(nodes: &mut Vec<Node>, node: Node, uses: &[usize]) -> Option<Node> {
    // A convolution first: it can also take an activation that follows. What enlarges last: it takes what others leave.
    let rank = |value| match nodes.iter().find(|node| node.output == value).map(|node| &node.op) {
        Some(Op::Conv2d(_) | Op::Linear(_)) => 0,
        Some(Op::Upsample(_)) => 2,
        _ => 1,
    };
    let mut order: Vec<_> = node.inputs.iter().copied().enumerate().collect();
    order.sort_by_key(|&(_, value)| rank(value));
    for (index, input) in order {
        if let Some(producer) = sole_producer(nodes, input, uses)
            && let Some(mut merged) = merge(&nodes[producer], &node, index)
        {
            // At the later place, where both operators' inputs exist.
            nodes.remove(producer);
            merged.output = node.output;
            // The merged operator may take in another producer.
            if let Some(merged) = absorb(nodes, merged, uses) {
                nodes.push(merged);
            }
            return None;
        }
    }
    Some(node)
}

/// `first` followed by `second`, which reads it as input `index`, as one operator.
fn merge(first: &Node, second: &Node, index: usize) -> Option<Node> {
    match &second.op {
        Op::Activation(activation) => {
            let mut merged = first.clone();
            let slot = open_activation(&mut merged.op, activation.function == Function::PRelu)?;
            *slot = activation.function;
            merged.params.extend(second.params.iter().cloned());
            Some(merged)
        }
        Op::ScaleShift(affine) => {
            let mut merged = fold_affine(first, &second.params[0].data, &second.params[1].data)?;
            *open_activation(&mut merged.op, false)? = affine.activation;
            Some(merged)
        }
        Op::Upsample(upsample) if index == 1 => modulated(first, second, upsample),
        Op::Binary(binary)
            if binary.broadcast == Broadcast::None && index < 2 && second.inputs[0] != second.inputs[1] =>
        {
            match &first.op {
                Op::Upsample(upsample) => return combined(first, upsample, second, binary, index),
                Op::Activation(activation) => return activated(first, activation.function, second, binary, index),
                Op::Binary(inner) => return chained(first, inner, second, binary, index),
                _ => {}
            }
            if binary.then.is_some() || binary.second != Function::Identity {
                return None;
            }
            let BinaryKind::Add { alpha, beta } = binary.kind else { return None };
            let (own, other) = if index == 0 { (alpha, beta) } else { (beta, alpha) };
            if other != 1.0 {
                return None;
            }
            let channels = binary.channels;
            let mut merged = if own == 1.0 {
                first.clone()
            } else {
                fold_affine(first, &vec![own; channels], &vec![0.0; channels])?
            };
            let (activation, residual) = match &mut merged.op {
                Op::Conv2d(conv) => (&mut conv.activation, &mut conv.residual),
                Op::Linear(linear) => (&mut linear.activation, &mut linear.residual),
                _ => return None,
            };
            if residual.is_some() {
                return None;
            }
            if *activation == Function::Identity {
                // A later activation can then follow.
                *residual = Some(Residual::BeforeActivation);
                *activation = binary.activation;
            } else if binary.activation == Function::Identity {
                *residual = Some(Residual::AfterActivation);
            } else {
                return None;
            }
            merged.inputs.push(second.inputs[1 - index]);
            Some(merged)
        }
        _ => None,
    }
}

/// An enlarged image and a function of it and another one.
fn combined(first: &Node, upsample: &Upsample, second: &Node, binary: &Binary, index: usize) -> Option<Node> {
    let plain = binary.activation == Function::Identity && binary.second == Function::Identity && binary.then.is_none();
    if !plain || upsample.combine.is_some() {
        return None;
    }
    let combine = if index == 0 { binary.kind.swapped() } else { binary.kind };
    let mut merged = first.clone();
    merged.op = Upsample { combine: Some(combine), ..upsample.clone() }.into();
    merged.inputs.push(second.inputs[1 - index]);
    Some(merged)
}

/// An image combined with one enlarged image and that with another.
fn modulated(first: &Node, second: &Node, upsample: &Upsample) -> Option<Node> {
    let Op::Upsample(inner) = &first.op else { return None };
    let alike = (inner.scale, inner.mode) == (upsample.scale, upsample.mode);
    if !alike || inner.combine.is_none() || inner.then.is_some() || upsample.then.is_some() {
        return None;
    }
    let mut merged = first.clone();
    merged.op = Upsample { then: upsample.combine, ..inner.clone() }.into();
    merged.inputs.push(second.inputs[0]);
    Some(merged)
}

/// A function of one image and of an activation of another.
fn activated(first: &Node, function: Function, second: &Node, binary: &Binary, index: usize) -> Option<Node> {
    if function == Function::PRelu || binary.second != Function::Identity || (index == 0 && binary.then.is_some()) {
        return None;
    }
    let mut merged = second.clone();
    let kind = if index == 0 { binary.kind.swapped() } else { binary.kind };
    merged.op = Binary { second: function, kind, ..binary.clone() }.into();
    merged.inputs[0] = second.inputs[1 - index];
    merged.inputs[1] = first.inputs[0];
    Some(merged)
}

/// A function of two images and one of that and a third.
fn chained(first: &Node, inner: &Binary, second: &Node, outer: &Binary, index: usize) -> Option<Node> {
    let open = inner.then.is_none() && inner.activation == Function::Identity;
    if !open || outer.then.is_some() || outer.second != Function::Identity {
        return None;
    }
    let mut merged = first.clone();
    let then = if index == 0 { outer.kind } else { outer.kind.swapped() };
    merged.op = Binary { then: Some(then), activation: outer.activation, ..inner.clone() }.into();
    merged.inputs.push(second.inputs[1 - index]);
    merged.params.extend(second.params.iter().cloned());
    Some(merged)
}

/// Where an operator keeps its activation, if it can still take one; `weighted` if the function has weights.
fn open_activation(op: &mut Op, weighted: bool) -> Option<&mut Function> {
    let (slot, residual, takes_weights) = match op {
        Op::Conv2d(conv) => (&mut conv.activation, conv.residual, true),
        Op::Linear(linear) => (&mut linear.activation, linear.residual, true),
        Op::ConvTranspose2d(conv) => (&mut conv.activation, None, false),
        Op::ScaleShift(affine) => (&mut affine.activation, None, false),
        Op::Normalize(normalize) if !normalize.residual => (&mut normalize.activation, None, false),
        Op::Binary(binary) => (&mut binary.activation, None, false),
        _ => return None,
    };
    let open = *slot == Function::Identity && residual != Some(Residual::AfterActivation);
    (open && (takes_weights || !weighted)).then_some(slot)
}

/// The node with every output channel multiplied and shifted, by changing its weights.
fn fold_affine(node: &Node, scale: &[f32], shift: &[f32]) -> Option<Node> {
    let mut node = node.clone();
    // The weight's axis of output channels, and how many of them there are in a group.
    let (bias, transposed_groups) = match &mut node.op {
        Op::Conv2d(conv) if conv.activation == Function::Identity && conv.residual.is_none() => (&mut conv.bias, None),
        Op::Linear(linear) if linear.activation == Function::Identity && linear.residual.is_none() => {
            (&mut linear.bias, None)
        }
        Op::ConvTranspose2d(conv) if conv.activation == Function::Identity => (&mut conv.bias, Some(conv.groups)),
        _ => return None,
    };
    let weight = &node.params[0];
    let mut data = weight.data.clone();
    match transposed_groups {
        // [out, ...]
        None => {
            let each = data.len() / scale.len();
            for (row, scale) in data.chunks_exact_mut(each).zip(scale) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
        }
        // [in, out / groups, kh, kw]
        Some(groups) => {
            let [inputs, group_out, ..] = weight.shape[..] else { return None };
            let taps = data.len() / (inputs * group_out);
            for (index, kernel) in data.chunks_exact_mut(taps).enumerate() {
                let (input, out) = (index / group_out, index % group_out);
                let out = input / (inputs / groups) * group_out + out;
                kernel.iter_mut().for_each(|value| *value *= scale[out]);
            }
        }
    }
    let old: Vec<f32> = if *bias { node.params[1].data.clone() } else { vec![0.0; scale.len()] };
    let shifted = old.iter().zip(scale).zip(shift).map(|((old, scale), shift)| old * scale + shift).collect();
    let name = node.params[0].name.clone();
    let new_bias = Param { name: format!("{name} (bias, folded)"), shape: vec![scale.len()], data: shifted };
    let new_weight = Param { data, ..(**weight).clone() };
    if *bias {
        node.params[1] = Arc::new(new_bias);
    } else {
        node.params.insert(1, Arc::new(new_bias));
        *bias = true;
    }
    node.params[0] = Arc::new(new_weight);
    Some(node)
}
