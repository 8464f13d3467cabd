//! A convolution or linear map with what stands before and behind it: layer norm or a concatenation of its source, a gate or a
//! pixel shuffle of its result. What is between them is never written.
//!
//! `src` is `[in, h, w]`, or two images whose channels together are `in`. The result is that of the operators one after
//! another: [`layer_norm`](super::layer_norm) or [`concat`](super::concat), then [`conv2d`](super::conv2d) or
//! [`linear`](super::linear), then [`gate`](super::gate) or [`pixel_shuffle`](super::pixel_shuffle), behind which a residual is
//! added.

use super::activation::Function;
use super::around::{Around, Norm};
use super::conv2d::{Conv2d, Residual};
use super::dispatch::{self, Binding, Dispatch, Packed, Shader, Traits, params, scratch};
use super::gate::Gate;
use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::pixel_shuffle::PixelShuffle;
use super::{Axis, Io, Operator, Param, Place, Scale, Span, to_u32, winograd};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// What sums over channels.
#[derive(Clone, Debug, PartialEq)]
pub enum Dense {
    /// A convolution.
    Conv2d(Conv2d),
    /// A linear map of every pixel's channels.
    Linear(Linear),
}

/// What stands before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Layer norm of the source.
    Norm(LayerNorm),
    /// The source is the channels of one input, of this number, and then those of the next input.
    Join(usize),
}

/// What stands behind it.
#[derive(Clone, Debug, PartialEq)]
pub enum Behind {
    /// Nothing.
    Nothing,
    /// A gate.
    Gate(Gate),
    /// A pixel shuffle.
    Shuffle(PixelShuffle),
}

/// The operator.
///
/// Inputs: `src`, or both joined images, then the residual if there is one, of the result's size. Parameters: those of `dense`, of
/// the norm, and of the gate, each as that operator has them. A convolution in groups can be neither joined nor gated nor shuffled,
/// unless it is depthwise: that can be gated. With a gate `dense` has neither activation nor residual; with a pixel shuffle, whose
/// result has whole groups of channels, not PReLU, and a residual after the activation if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedConv {
    /// What is before it.
    pub before: Before,
    /// The convolution or linear map.
    pub dense: Dense,
    /// What is behind it.
    pub behind: Behind,
}

impl Dense {
    /// The convolution that it is, or is the same as.
    pub(crate) fn as_conv(&self) -> Conv2d {
        match self {
            Self::Conv2d(conv) => conv.clone(),
            Self::Linear(linear) => linear.as_conv(),
        }
    }

    fn operator(&self) -> &dyn Operator {
        match self {
            Self::Conv2d(conv) => conv,
            Self::Linear(linear) => linear,
        }
    }

    /// Number of its parameters.
    fn params(&self) -> usize {
        let conv = self.as_conv();
        1 + usize::from(conv.bias) + usize::from(conv.activation == Function::PRelu)
    }

    /// How many weights its kernels have: Winograd's algorithm has one more.
    fn packed(&self, traits: Traits) -> usize {
        2 + usize::from(matches!(self, Self::Conv2d(conv) if winograd::suits(conv, traits)))
    }
}

impl FusedConv {
    /// True if `dense` can stand between `before` and `behind`.
    pub fn fits(before: &Before, dense: &Dense, behind: &Behind) -> bool {
        let conv = dense.as_conv();
        let whole = conv.groups == 1;
        // What is before fewer channels than are read together saves nothing.
        let reads = match before {
            Before::Nothing => true,
            Before::Norm(norm) => !conv.is_depthwise() && norm.channels == conv.in_channels && norm.channels >= LANES,
            Before::Join(first) => whole && (1..conv.in_channels).contains(first) && conv.in_channels >= LANES,
        };
        let writes = match behind {
            Behind::Nothing => true,
            Behind::Gate(gate) => {
                let plain = conv.activation == Function::Identity && conv.residual.is_none();
                (whole || conv.is_depthwise()) && plain && gate.channels.checked_mul(2) == Some(conv.out_channels)
            }
            // Else its channels would have to be filled up to whole groups: more products than the writes are worth.
            Behind::Shuffle(shuffle) => {
                let groups =
                    shuffle.channels(&[conv.out_channels]).is_ok_and(|channels| channels.is_multiple_of(LANES));
                let late = conv.residual != Some(Residual::BeforeActivation);
                whole && groups && late && conv.activation != Function::PRelu
            }
        };
        reads && writes
    }

    fn gate(&self) -> Option<&Gate> {
        if let Behind::Gate(gate) = &self.behind { Some(gate) } else { None }
    }

    fn shuffle(&self) -> Option<&PixelShuffle> {
        if let Behind::Shuffle(shuffle) = &self.behind { Some(shuffle) } else { None }
    }

    /// The tensors of `dense`, given those of the operator: of joined images the first's with the channels of both.
    pub(crate) fn dense_io(&self, io: &Io) -> Io {
        let conv = self.dense.as_conv();
        let mut inner = Io { inputs: self.dense_inputs(&io.inputs), output: io.output };
        inner.inputs[0].shape.channels = conv.in_channels;
        inner.output.shape.channels = conv.out_channels;
        if let Some(PixelShuffle { factor }) = self.shuffle() {
            let Place { shape, origin, full } = &mut inner.output;
            for size in [&mut shape.height, &mut shape.width].into_iter().chain(origin).chain(full) {
                *size /= factor;
            }
        }
        inner
    }

    /// Channels of each input but the residual.
    fn sources(&self) -> Vec<usize> {
        match self.before {
            Before::Join(first) => vec![first, self.dense.as_conv().in_channels - first],
            _ => vec![self.dense.as_conv().in_channels],
        }
    }

    /// The inputs of `dense`, given those of the operator: of joined images those of the first.
    fn dense_inputs<T: Copy>(&self, inputs: &[T]) -> Vec<T> {
        let mut inputs = inputs.to_vec();
        if let Before::Join(_) = self.before {
            inputs.remove(1);
        }
        inputs
    }

    /// The parameters of `dense`, of the norm, and of the gate.
    fn split<'p>(&self, params: &'p [Param]) -> Result<[&'p [Param]; 3]> {
        let norm = match &self.before {
            Before::Norm(norm) => usize::from(norm.weight) + usize::from(norm.bias),
            _ => 0,
        };
        let gate = usize::from(self.gate().is_some_and(|gate| gate.activation == Function::PRelu));
        let dense = self.dense.params();
        if params.len() != dense + norm + gate {
            return Err(Error::Weights(format!(
                "fused convolution: {} weights, not {}",
                params.len(),
                dense + norm + gate
            )));
        }
        Ok([&params[..dense], &params[dense..dense + norm], &params[dense + norm..]])
    }

    /// `dense` as the kernels compute it: joined sources and the halves of a gate in whole groups, the halves' groups in turn, and
    /// the gate's function as activation; before a pixel shuffle its groups in the order of [`FusedConv::computed_outputs`].
    fn computed(&self) -> Dense {
        let conv = self.dense.as_conv();
        let out_channels = self.gate().map_or(conv.out_channels, |gate| 2 * gate.channels.next_multiple_of(LANES));
        let in_channels = match self.before {
            _ if conv.is_depthwise() => out_channels,
            Before::Join(first) => first.next_multiple_of(LANES) + conv.in_channels - first,
            _ => conv.in_channels,
        };
        let mut dense = self.dense.clone();
        let (inputs, outputs, activation) = match &mut dense {
            Dense::Conv2d(conv) => {
                if conv.is_depthwise() {
                    conv.groups = out_channels;
                }
                (&mut conv.in_channels, &mut conv.out_channels, &mut conv.activation)
            }
            Dense::Linear(linear) => (&mut linear.in_channels, &mut linear.out_channels, &mut linear.activation),
        };
        (*inputs, *outputs) = (in_channels, out_channels);
        if let Some(gate) = self.gate() {
            *activation = gate.activation;
        }
        dense
    }

    /// For each input channel of [`FusedConv::computed`] that of `dense`, which has no groups.
    fn computed_inputs(&self) -> Vec<Option<usize>> {
        let channels = self.dense.as_conv().in_channels;
        let first = if let Before::Join(first) = self.before { first } else { channels };
        let padding = if first < channels { first.next_multiple_of(LANES) - first } else { 0 };
        (0..first).map(Some).chain(std::iter::repeat_n(None, padding)).chain((first..channels).map(Some)).collect()
    }

    /// For each output channel of [`FusedConv::computed`] that of `dense`.
    fn computed_outputs(&self) -> Vec<Option<usize>> {
        let all = 0..self.dense.as_conv().out_channels;
        match &self.behind {
            Behind::Nothing => all.map(Some).collect(),
            Behind::Gate(Gate { channels: half, .. }) => (0..2 * half.next_multiple_of(LANES))
                .map(|index| {
                    let channel = index / (2 * LANES) * LANES + index % LANES;
                    (channel < *half).then_some(channel + index / LANES % 2 * half)
                })
                .collect(),
            // Four channels of the result together, for one place of the square after the other.
            Behind::Shuffle(PixelShuffle { factor }) => {
                let area = factor * factor;
                all.map(|index| {
                    let (group, lane) = (index / LANES, index % LANES);
                    Some((group / area * LANES + lane) * area + group % area)
                })
                .collect()
            }
        }
    }

    /// The parameters of [`FusedConv::computed`].
    fn computed_params(&self, dense: &[Param], gate: &[Param]) -> Result<Vec<Param>> {
        let conv = self.dense.as_conv();
        let outputs = self.computed_outputs();
        let weight = &dense[0];
        // Of every group.
        let old_depth = conv.in_channels / conv.groups;
        let depth = if conv.groups > 1 { (0..old_depth).map(Some).collect() } else { self.computed_inputs() };
        let expected = conv.out_channels * old_depth;
        let taps = weight.data.len() / expected.max(1);
        if taps == 0 || taps * expected != weight.data.len() || weight.shape.len() < 2 {
            return Err(Error::Weights(format!("{}: {:?} does not fit its convolution", weight.name, weight.shape)));
        }
        let mut data = vec![0.0; outputs.len() * depth.len() * taps];
        for (index, to) in data.chunks_exact_mut(taps).enumerate() {
            if let (Some(out), Some(inner)) = (outputs[index / depth.len()], depth[index % depth.len()]) {
                to.copy_from_slice(&weight.data[(out * old_depth + inner) * taps..][..taps]);
            }
        }
        let mut shape = weight.shape.clone();
        (shape[0], shape[1]) = (outputs.len(), depth.len());
        let mut all = vec![Param::new(weight.name.clone(), shape, data)?];
        for param in dense[1..].iter().chain(gate) {
            // One value for each output channel; of the gate's slopes for each of the first half, or one for all.
            let values = outputs.iter().map(|out| out.and_then(|out| param.data.get(out)).copied().unwrap_or(0.0));
            let values = if param.data.len() == 1 { vec![param.data[0]; outputs.len()] } else { values.collect() };
            all.push(Param::new(param.name.clone(), vec![outputs.len()], values)?);
        }
        Ok(all)
    }
}

params! {
    struct Params { pixels: u32, groups: u32, channels: u32, eps: f32, row: u32 }
}

/// The kernels of this operator beside those of what it is made of.
pub const SHADERS: &[&Shader] = &[&STATISTICS];

static STATISTICS: Shader = Shader {
    name: "fused_conv",
    source: include_str!("../../shaders/fused_conv.wgsl"),
    library: &[dispatch::LANES, dispatch::PIXEL_MOMENTS],
    params: Params::FIELDS,
};

/// The launch that computes the norm's statistics into `result`.
fn statistics(norm: &LayerNorm, io: &Io, result: Binding) -> Result<Dispatch> {
    let shape = io.inputs[0].shape;
    let pixels = to_u32(shape.pixels()?)?;
    let (row, workgroups) = dispatch::line_grid(pixels, 1);
    let (groups, channels) = (to_u32(shape.channel_groups())?, to_u32(shape.channels)?);
    Ok(Dispatch {
        shader: &STATISTICS,
        constants: vec![("CENTER", f64::from(u8::from(norm.center)))],
        params: Params { pixels, groups, channels, eps: norm.eps, row }.bytes(),
        bindings: vec![Binding::Input(0), result],
        workgroups,
    })
}

impl Operator for FusedConv {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let sources = self.sources();
        if !Self::fits(&self.before, &self.dense, &self.behind) || !inputs.starts_with(&sources) {
            return Err(Error::shape(format!(
                "fused convolution from {sources:?} to {} channels cannot take inputs of {inputs:?} channels",
                self.dense.as_conv().out_channels
            )));
        }
        let mut dense = inputs[sources.len() - 1..].to_vec();
        dense[0] = self.dense.as_conv().in_channels;
        if let (Behind::Shuffle(shuffle), Some(residual)) = (&self.behind, dense.get_mut(1)) {
            *residual = residual.saturating_mul(shuffle.factor * shuffle.factor);
        }
        let channels = self.dense.operator().channels(&dense)?;
        match &self.behind {
            Behind::Nothing => Ok(channels),
            Behind::Gate(gate) => gate.channels(&[channels]),
            Behind::Shuffle(shuffle) => shuffle.channels(&[channels]),
        }
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        if let (Before::Join(_), [first, second, ..]) = (&self.before, inputs)
            && first != second
        {
            return Err(Error::shape(format!("concat: sizes {inputs:?} differ on the {axis:?} axis")));
        }
        let inputs = self.dense_inputs(inputs);
        let Some(shuffle) = self.shuffle() else { return self.dense.operator().size(axis, &inputs) };
        let size = shuffle.size(axis, &[self.dense.operator().size(axis, &inputs[..1])?])?;
        match inputs.get(1) {
            Some(&residual) if residual != size => Err(Error::shape(format!(
                "fused convolution: a residual of {residual} pixels does not fit {size} pixels"
            ))),
            _ => Ok(size),
        }
    }

    fn scale(&self, axis: Axis) -> Scale {
        let scale = self.dense.operator().scale(axis);
        self.shuffle().map_or(scale, |shuffle| scale.then(shuffle.scale(axis)))
    }

    fn reads(&self, axis: Axis, index: usize, wanted: Span, size: usize) -> Span {
        let index = index.saturating_sub(self.sources().len() - 1);
        let wanted = match self.shuffle() {
            Some(shuffle) if index == 0 => shuffle.reads(axis, 0, wanted, size),
            _ => wanted,
        };
        self.dense.operator().reads(axis, index, wanted, size)
    }

    fn alignment(&self, axis: Axis) -> usize {
        self.dense.operator().alignment(axis)
    }

    /// The weights of `dense`, then the norm's, then the gate's.
    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let [dense, norm, gate] = self.split(params)?;
        let mut packed = self.dense.operator().pack(dense)?;
        if let Before::Norm(op) = &self.before {
            packed.extend(op.pack(norm)?);
        }
        if let Some(op) = self.gate() {
            packed.extend(op.pack(gate)?);
        }
        Ok(packed)
    }

    fn pack_device(&self, params: &[Param], traits: Traits) -> Result<Vec<Packed>> {
        self.pack(params)?;
        let [dense, norm, gate] = self.split(params)?;
        let params = self.computed_params(dense, gate)?;
        let mut packed = match self.computed() {
            Dense::Conv2d(conv) => conv.pack_around(&params, traits, self.gate().is_some())?,
            Dense::Linear(linear) => linear.pack_around(&params, traits, self.gate().is_some())?,
        };
        if let Before::Norm(op) = &self.before {
            packed.extend(op.pack(norm)?.into_iter().map(Packed::Stored));
        }
        Ok(packed)
    }

    fn flops(&self, io: &Io) -> u64 {
        let source = io.inputs[0];
        let own = Io { inputs: vec![source], output: source };
        let norm = if let Before::Norm(norm) = &self.before { norm.flops(&own) } else { 0 };
        norm + self.dense.operator().flops(&self.dense_io(io)) + self.gate().map_or(0, |gate| gate.flops(io))
    }

    fn parity(&self, io: &Io, traits: Traits) -> Option<[bool; 2]> {
        self.computed().operator().parity(&self.dense_io(io), traits)
    }

    fn dispatches(&self, io: &Io, traits: Traits) -> Result<Vec<Dispatch>> {
        let computed = self.computed();
        let mut dispatches = Vec::new();
        let mut around = Around {
            gate: self.gate().map(|gate| gate.channels),
            shuffle: self.shuffle().map(|shuffle| shuffle.factor),
            ..Around::default()
        };
        match &self.before {
            Before::Nothing => {}
            Before::Join(first) => around.joined = Some(first.div_ceil(LANES)),
            Before::Norm(norm) => {
                // Two 32-bit floats a pixel.
                let elements = if traits.halves { 4 } else { 2 } * io.inputs[0].shape.pixels()? as u64;
                let statistics = Binding::Scratch { index: scratch::STATISTICS, elements };
                dispatches.push(self::statistics(norm, io, statistics)?);
                around.norm = Some(Norm {
                    channels: norm.channels,
                    affine: Binding::Weight(computed.packed(traits)),
                    statistics,
                });
            }
        }
        let mut inner = self.dense_io(io);
        let conv = computed.as_conv();
        if let Before::Join(_) = self.before {
            inner.inputs[0].shape.channels = conv.in_channels;
        }
        inner.output.shape.channels = conv.out_channels;
        dispatches.extend(match computed {
            Dense::Conv2d(conv) => conv.dispatches_around(&inner, traits, &around)?,
            Dense::Linear(linear) => linear.dispatches_around(&inner, traits, &around)?,
        });
        Ok(dispatches)
    }
}
