//! Two tensors, or three, element by element, then an activation: sums, products, and gates by a pooled value or a map.
//!
//! `a`, `c` and the result are `[channels, height, width]`; `b` is of `a`'s size, or `[channels, 1, 1]`, or
//! `[1, height, width]`. `alpha * a + beta * b` is `torch.add`, `a * b` is `torch.mul`; the result is `f(a . g(b))` or
//! `f((a . g(b)) . c)`, each `.` one of the two.

use super::activation::Function;
use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::scale_shift::pack_slopes;
use super::{Axis, Io, Operator, Param, Span, to_u32};
use crate::error::{Error, Result};

/// Which function of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BinaryKind {
    /// `alpha * a + beta * b`.
    Add {
        /// Factor of the first input.
        alpha: f32,
        /// Factor of the second.
        beta: f32,
    },
    /// `a * b`.
    Multiply,
}

impl BinaryKind {
    /// The same of the inputs in the other order.
    pub(crate) fn swapped(self) -> Self {
        match self {
            Self::Add { alpha, beta } => Self::Add { alpha: beta, beta: alpha },
            Self::Multiply => Self::Multiply,
        }
    }

    /// The kernels' number of a function that may be missing, and its factors.
    pub(super) fn optional(kind: Option<Self>) -> (u32, f32, f32) {
        match kind {
            None => (0, 0.0, 0.0),
            Some(Self::Add { alpha, beta }) => (1, alpha, beta),
            Some(Self::Multiply) => (2, 0.0, 0.0),
        }
    }

    /// Floating-point operations of an element.
    pub(super) fn flops(self) -> u64 {
        if self == Self::Multiply { 1 } else { 3 }
    }
}

/// What the second input's size is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Broadcast {
    /// That of the first.
    #[default]
    None = 0,
    /// `[channels, 1, 1]`: one value for each channel.
    Pooled = 1,
    /// `[1, height, width]`: one value for each pixel.
    Channel = 2,
}

/// The operator. Inputs: `a`, `b`, then `c` if there is [`then`](Self::then). Parameters: the slopes if the activation is PReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Channels of the first input and of the output.
    pub channels: usize,
    /// The function.
    pub kind: BinaryKind,
    /// The second input's size.
    pub broadcast: Broadcast,
    /// Activation of the second input, before all else; not PReLU.
    pub second: Function,
    /// What is made of that, as the function's `a`, and of the third input.
    pub then: Option<BinaryKind>,
    /// Function applied to the result.
    pub activation: Function,
}

impl Binary {
    /// `kind` of two tensors, the second's size being `broadcast`.
    pub fn new(channels: usize, kind: BinaryKind, broadcast: Broadcast) -> Self {
        let identity = Function::Identity;
        Self { channels, kind, broadcast, second: identity, then: None, activation: identity }
    }
}

params! {
    struct Params {
        width: u32, height: u32, groups: u32, channels: u32, alpha: f32, beta: f32, then_alpha: f32, then_beta: f32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "binary",
    source: include_str!("../../shaders/binary.wgsl"),
    library: &[dispatch::ACTIVATION, dispatch::COMBINE, dispatch::LANES],
    params: Params::FIELDS,
};

impl Operator for Binary {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let second = if self.broadcast == Broadcast::Channel { 1 } else { self.channels };
        let expected = [self.channels, second, self.channels];
        let expected = if self.then.is_some() { &expected[..] } else { &expected[..2] };
        if inputs != expected || self.channels == 0 || self.second == Function::PRelu {
            return Err(Error::shape(format!(
                "binary operator: inputs of {inputs:?} channels behind {:?}, {expected:?} are expected",
                self.second
            )));
        }
        Ok(self.channels)
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        let second = if self.broadcast == Broadcast::Pooled { 1 } else { inputs[0] };
        let third = inputs.get(2).copied().unwrap_or(inputs[0]);
        if [inputs[1], third] != [second, inputs[0]] {
            return Err(Error::shape(format!(
                "binary operator: inputs of {inputs:?} pixels, of which the second should have {second}"
            )));
        }
        Ok(inputs[0])
    }

    fn reads(&self, _: Axis, index: usize, wanted: Span, size: usize) -> Span {
        if index == 1 && self.broadcast == Broadcast::Pooled { Span::all(size) } else { wanted }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        Ok(vec![pack_slopes(self.activation, params.iter(), self.channels)?])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let functions = self.second.flops() + self.activation.flops();
        (self.kind.flops() + self.then.map_or(0, BinaryKind::flops) + functions)
            * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.output.shape;
        let (kind, alpha, beta) = BinaryKind::optional(Some(self.kind));
        let (then, then_alpha, then_beta) = BinaryKind::optional(self.then);
        let params = Params {
            width: to_u32(shape.width)?,
            height: to_u32(shape.height)?,
            groups: to_u32(shape.channel_groups())?,
            channels: to_u32(shape.channels)?,
            alpha,
            beta,
            then_alpha,
            then_beta,
        };
        let [(_, second), (_, second_alpha)] = self.second.constants();
        let mut constants = vec![
            ("KIND", f64::from(kind)),
            ("BROADCAST", f64::from(self.broadcast as u32)),
            ("SECOND", second),
            ("SECOND_ALPHA", second_alpha),
            ("THEN", f64::from(then)),
        ];
        constants.extend(self.activation.constants());
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants,
            params: params.bytes(),
            // Without a third input its binding is not read.
            bindings: vec![
                Binding::Input(0),
                Binding::Input(1),
                Binding::Input(if self.then.is_some() { 2 } else { 0 }),
                Binding::Weight(0),
                Binding::Output,
            ],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), 1],
        }])
    }
}
