//! The graph builder for operators with weights: takes tensors by name, reads channels and kernels off their shapes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::activation::{Activation, Function};
use crate::ops::conv_transpose2d::ConvTranspose2d;
use crate::ops::conv2d::Conv2d;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::Linear;
use crate::ops::moments::Moments;
use crate::ops::normalize::Normalize;
use crate::ops::scale_shift::ScaleShift;
use crate::ops::window_attention::WindowAttention;
use crate::ops::{Border, Param};
use crate::weights::Weights;

/// A graph under construction and the weights it takes.
pub struct Builder<'a, 'w> {
    graph: Graph,
    weights: &'a mut Weights<'w>,
}

/// How a convolution is applied; its channels and kernel come from its weight.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Step between outputs.
    pub stride: usize,
    /// Padding on all sides; `None` keeps the size at stride 1, that is `dilation * (kernel - 1) / 2`.
    pub padding: Option<usize>,
    /// What the padding is made of.
    pub border: Border,
    /// Distance between the kernel's elements.
    pub dilation: usize,
    /// Number of channel groups.
    pub groups: usize,
}

/// What the metadata can say of an activation without tensors.
const ACTIVATIONS: &[&str] = &["relu", "leakyrelu"];

/// The activation of a network whose tensors do not tell it: LeakyReLU of the given slope only if the metadata says
/// `activation: leakyrelu`, else ReLU.
pub fn noted_activation(weights: &Weights, slope: f32) -> Function {
    if weights.noted("activation", ACTIVATIONS) == Some("leakyrelu") {
        Function::LeakyRelu { slope }
    } else {
        Function::Relu
    }
}

/// Notes what [`noted_activation`] gave.
///
/// # Errors
/// [`Error::Weights`] if the metadata says something unknown.
pub fn settle_activation(weights: &mut Weights, activation: Function) -> Result<()> {
    let name = if activation == Function::Relu { "relu" } else { "leakyrelu" };
    weights.settle("activation", name, ACTIVATIONS)
}

/// # Errors
/// [`Error::Weights`] if a network whose first convolution `name` takes images behind a pixel unshuffle would shrink them.
pub fn check_unshuffle(name: &str, unshuffle: usize, scale: usize) -> Result<()> {
    if scale.is_multiple_of(unshuffle) {
        return Ok(());
    }
    Err(Error::Weights(format!(
        "tensor `{name}.weight` takes {} pixels at once, but features are enlarged {scale} times: fractions of a pixel",
        unshuffle * unshuffle
    )))
}

/// The norms behind a generator's convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Those that their tensors tell.
    Stored,
    /// Instance norm without tensors.
    Instance,
    /// None.
    None,
}

impl Norm {
    /// What the metadata can say of norms without tensors.
    const KINDS: &[&str] = &["instance", "none"];

    /// True if there are tensors of the norm `name`.
    pub fn is_stored(weights: &Weights, name: &str) -> bool {
        ["weight", "running_mean"].iter().any(|part| weights.has(&format!("{name}.{part}")))
    }

    /// `stored`: there are tensors of norms. `biased`: convolutions before norms have biases.
    ///
    /// Instance norm without weights and no norm at all have the same tensors, none. Where the metadata does not say `norm:
    /// instance` or `norm: none`, the biases decide: CycleGAN's reference code gives them to the convolutions before instance
    /// norm, and not to those that no norm follows.
    pub fn detect(weights: &Weights, stored: bool, biased: bool) -> Self {
        match (stored, weights.noted("norm", Self::KINDS)) {
            (true, _) => Self::Stored,
            (false, Some("instance")) => Self::Instance,
            (false, Some(_)) => Self::None,
            (false, None) if biased => Self::Instance,
            (false, None) => Self::None,
        }
    }

    /// Notes what was taken for the norms.
    ///
    /// # Errors
    /// [`Error::Weights`] if the metadata says something unknown.
    pub fn settle(self, weights: &mut Weights) -> Result<()> {
        match self {
            Self::Stored => Ok(()),
            Self::Instance => weights.settle("norm", "instance", Self::KINDS),
            Self::None => weights.settle("norm", "none", Self::KINDS),
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { stride: 1, padding: None, border: Border::Zero, dilation: 1, groups: 1 }
    }
}

impl Window {
    /// Stride 1, the size kept, padded with `border`.
    pub fn same(border: Border) -> Self {
        Self { border, ..Self::default() }
    }

    /// The given stride and zero padding.
    pub fn strided(stride: usize, padding: usize) -> Self {
        Self { stride, padding: Some(padding), ..Self::default() }
    }
}

impl Deref for Builder<'_, '_> {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl DerefMut for Builder<'_, '_> {
    fn deref_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }
}

impl<'a, 'w> Builder<'a, 'w> {
    /// An empty graph over `weights`.
    pub fn new(weights: &'a mut Weights<'w>) -> Self {
        Self { graph: Graph::new(), weights }
    }

    /// The weights.
    pub fn weights(&mut self) -> &mut Weights<'w> {
        self.weights
    }

    /// The finished graph.
    pub fn finish(mut self, output: Value) -> Graph {
        self.graph.set_output(output);
        self.graph
    }

    /// `name.weight`, and `name.bias` if there is one.
    ///
    /// The bias must have as many numbers as the weight has on `axis`: fusion counts on it.
    fn weight_and_bias(&mut self, name: &str, axis: usize) -> Result<(Vec<Arc<Param>>, bool)> {
        let mut params = vec![self.weights.take_any(&format!("{name}.weight"))?];
        let bias = format!("{name}.bias");
        let has_bias = self.weights.has(&bias);
        if has_bias {
            let Some(&channels) = params[0].shape.get(axis) else {
                return Err(unexpected(&params[0], "a shape with more axes"));
            };
            params.push(self.weights.take(&bias, &[channels])?);
        }
        Ok((params, has_bias))
    }

    /// 2-D convolution with `name.weight` `[out, in / groups, kh, kw]` and, if there is one, `name.bias`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weight is missing or does not fit `x`.
    pub fn conv(&mut self, name: &str, x: Value, window: Window) -> Result<Value> {
        let (params, bias) = self.weight_and_bias(name, 0)?;
        let [out_channels, group_in, kernel_height, kernel_width] = params[0].shape[..] else {
            return Err(unexpected(&params[0], "[out, in, height, width]"));
        };
        let in_channels = self.graph.channels(x);
        if group_in.checked_mul(window.groups) != Some(in_channels) || kernel_height * kernel_width == 0 {
            return Err(unexpected(
                &params[0],
                &format!("[out, {}, height, width]", in_channels / window.groups.max(1)),
            ));
        }
        let kernel = [kernel_height, kernel_width];
        let padding = kernel.map(|size| [window.padding.unwrap_or(window.dilation * (size - 1) / 2); 2]);
        let conv = Conv2d {
            stride: [window.stride; 2],
            padding,
            border: window.border,
            dilation: [window.dilation; 2],
            groups: window.groups,
            bias,
            ..Conv2d::new(in_channels, out_channels, kernel)
        };
        if conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.groups == 1 && conv.padding == [[0; 2]; 2] {
            let linear = Linear { in_channels, out_channels, bias, activation: Function::Identity, residual: None };
            return self.graph.push(linear, &[x], params);
        }
        self.graph.push(conv, &[x], params)
    }

    /// Depthwise convolution: one kernel for each channel, the size kept, padded with `border`.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn depthwise(&mut self, name: &str, x: Value, border: Border) -> Result<Value> {
        let groups = self.graph.channels(x);
        self.conv(name, x, Window { groups, ..Window::same(border) })
    }

    /// Transposed convolution with `name.weight` `[in, out, kh, kw]`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weight is missing or does not fit `x`.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: Value,
        stride: usize,
        padding: usize,
        output_padding: usize,
    ) -> Result<Value> {
        let (params, bias) = self.weight_and_bias(name, 1)?;
        let [in_channels, out_channels, kernel_height, kernel_width] = params[0].shape[..] else {
            return Err(unexpected(&params[0], "[in, out, height, width]"));
        };
        if in_channels != self.graph.channels(x) {
            return Err(unexpected(&params[0], &format!("[{}, out, height, width]", self.graph.channels(x))));
        }
        let conv = ConvTranspose2d {
            in_channels,
            out_channels,
            kernel: [kernel_height, kernel_width],
            stride: [stride; 2],
            padding: [padding; 2],
            output_padding: [output_padding; 2],
            dilation: [1; 2],
            groups: 1,
            bias,
            activation: Function::Identity,
        };
        self.graph.push(conv, &[x], params)
    }

    /// Linear map of every pixel's channels with `name.weight` `[out, in]`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weight is missing or does not fit `x`.
    pub fn linear(&mut self, name: &str, x: Value) -> Result<Value> {
        let (params, bias) = self.weight_and_bias(name, 0)?;
        let in_channels = self.graph.channels(x);
        match params[0].shape[..] {
            [out_channels, found] if found == in_channels => {
                let linear = Linear { in_channels, out_channels, bias, activation: Function::Identity, residual: None };
                self.graph.push(linear, &[x], params)
            }
            _ => Err(unexpected(&params[0], &format!("[out, {in_channels}]"))),
        }
    }

    /// Every channel times its own number, `name`: a tensor of any shape with one number for each channel.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing or does not fit `x`.
    pub fn channel_scale(&mut self, name: &str, x: Value) -> Result<Value> {
        let scale = self.weights.take_any(name)?;
        let channels = self.graph.channels(x);
        if scale.data.len() != channels {
            return Err(unexpected(&scale, &format!("[1, {channels}, 1, 1]")));
        }
        self.scale_shift(name, x, scale.data.clone(), vec![0.0; channels])
    }

    /// `scale * x + shift` with one number of each for every channel; `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Weights`] if they do not fit `x`.
    pub fn scale_shift(&mut self, name: &str, x: Value, scale: Vec<f32>, shift: Vec<f32>) -> Result<Value> {
        let channels = self.graph.channels(x);
        let params = vec![
            Arc::new(Param::new(format!("{name} (scale)"), vec![channels], scale)?),
            Arc::new(Param::new(format!("{name} (shift)"), vec![channels], shift)?),
        ];
        self.graph.push(ScaleShift { channels, activation: Function::Identity }, &[x], params)
    }

    /// PReLU with the slopes `name`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are missing or do not fit `x`.
    pub fn prelu(&mut self, name: &str, x: Value) -> Result<Value> {
        let slopes = self.weights.take_any(name)?;
        let channels = self.graph.channels(x);
        if ![1, channels].contains(&slopes.data.len()) {
            return Err(unexpected(&slopes, &format!("[{channels}]")));
        }
        self.graph.push(Activation { channels, function: Function::PRelu }, &[x], vec![slopes])
    }

    /// Layer norm over every pixel's channels with `name.weight` and, if there is one, `name.bias`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are missing or do not fit `x`.
    pub fn layer_norm(&mut self, name: &str, x: Value, eps: f32) -> Result<Value> {
        let (params, bias) = self.weight_and_bias(name, 0)?;
        let norm = LayerNorm { channels: self.graph.channels(x), eps, center: true, weight: true, bias };
        self.graph.push(norm, &[x], params)
    }

    /// Swin's window self-attention over queries, keys and values that `qkv` holds, with the bias table `name`,
    /// `[(2 * window - 1)^2, heads]`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the table is missing, or its heads do not divide the channels.
    pub fn window_attention(&mut self, name: &str, qkv: Value, shifted: bool) -> Result<Value> {
        let table = self.weights.take_any(name)?;
        let channels = self.graph.channels(qkv) / 3;
        let (window, heads) =
            bias_window(&table.shape).ok_or_else(|| unexpected(&table, "[(2 * window - 1)^2, heads]"))?;
        if !channels.is_multiple_of(heads) {
            return Err(Error::Weights(format!(
                "tensor `{name}`: {channels} channels do not divide into {heads} heads"
            )));
        }
        let shift = [if shifted { window / 2 } else { 0 }; 2];
        let attention =
            WindowAttention { heads, head_channels: channels / heads, window: [window; 2], shift, cosine: false };
        self.graph.push(attention, &[qkv], vec![table])
    }

    /// Group norm; as many groups as channels is instance norm. Affine if there is `name.weight`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they do not fit `x`.
    pub fn group_norm(&mut self, name: &str, x: Value, groups: usize, eps: f32) -> Result<Value> {
        let channels = self.graph.channels(x);
        let affine = self.weights.has(&format!("{name}.weight"));
        let params = if affine { self.weight_and_bias(name, 0)?.0 } else { vec![] };
        let moments = self.graph.push(Moments { channels, groups, eps }, &[x], vec![])?;
        let bias = params.len() == 2;
        let normalize = Normalize { channels, weight: affine, bias, activation: Function::Identity, residual: false };
        self.graph.push(normalize, &[x, moments], params)
    }

    /// Instance norm, as [`Builder::group_norm`] with one channel a group.
    ///
    /// # Errors
    /// As [`Builder::group_norm`].
    pub fn instance_norm(&mut self, name: &str, x: Value, eps: f32) -> Result<Value> {
        let groups = self.graph.channels(x);
        self.group_norm(name, x, groups, eps)
    }

    /// The norm of the given kind.
    ///
    /// # Errors
    /// [`Error::Weights`] if its tensors are missing or do not fit `x`.
    pub fn norm(&mut self, kind: Norm, name: &str, x: Value, eps: f32) -> Result<Value> {
        match kind {
            Norm::None => Ok(x),
            Norm::Instance => self.instance_norm(name, x, eps),
            Norm::Stored if Norm::is_stored(self.weights, name) => self.any_norm(name, x, eps),
            Norm::Stored => Err(Error::Weights(format!("tensor `{name}.weight` is missing"))),
        }
    }

    /// The norm of a network whose kind its tensors tell, as PyTorch evaluates it: batch norm, or instance norm that has
    /// tracked its statistics, if there are running statistics; else instance norm, affine if there is `name.weight`.
    ///
    /// Before PyTorch 0.4.1 instance norm always saved statistics, which no generator of that time used: they have
    /// neither a weight nor `num_batches_tracked` beside them, and are passed over unless the metadata says
    /// `running_statistics: used`.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are missing or do not fit `x`.
    pub fn any_norm(&mut self, name: &str, x: Value, eps: f32) -> Result<Value> {
        let has = |part: &str| self.weights.has(&format!("{name}.{part}"));
        if !has("running_mean") {
            return self.instance_norm(name, x, eps);
        }
        if has("weight") || has("num_batches_tracked") {
            return self.batch_norm(name, x, eps);
        }
        let kinds = ["unused", "used"];
        let kind = self.weights.noted("running_statistics", &kinds).unwrap_or("unused");
        self.weights.settle("running_statistics", kind, &kinds)?;
        if kind == "used" {
            return self.batch_norm(name, x, eps);
        }
        let channels = self.graph.channels(x);
        for part in ["running_mean", "running_var"] {
            self.weights.take(&format!("{name}.{part}"), &[channels])?;
        }
        self.instance_norm(name, x, eps)
    }

    /// Batch norm in evaluation: `name.running_mean`, `name.running_var`, and weight and bias if they are there. It is
    /// folded into the convolution before it when the graph is fused.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are missing or do not fit `x`.
    pub fn batch_norm(&mut self, name: &str, x: Value, eps: f32) -> Result<Value> {
        let channels = self.graph.channels(x);
        let mean = self.weights.take(&format!("{name}.running_mean"), &[channels])?;
        let variance = self.weights.take(&format!("{name}.running_var"), &[channels])?;
        self.weights.ignore(&format!("{name}.num_batches_tracked"));
        let has_bias = self.weights.has(&format!("{name}.bias"));
        let mut affine = |part: &str, default: f32| -> Result<Vec<f32>> {
            let name = format!("{name}.{part}");
            if self.weights.has(&name) || (part == "weight" && has_bias) {
                Ok(self.weights.take(&name, &[channels])?.data.clone())
            } else {
                Ok(vec![default; channels])
            }
        };
        let (weight, bias) = (affine("weight", 1.0)?, affine("bias", 0.0)?);
        // In f64, as the two roundings would otherwise show in the folded weights.
        let scale: Vec<f64> = weight
            .iter()
            .zip(&variance.data)
            .map(|(&weight, &variance)| f64::from(weight) / (f64::from(variance) + f64::from(eps)).sqrt())
            .collect();
        let shift =
            bias.iter().zip(&mean.data).zip(&scale).map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
        self.scale_shift(name, x, scale.iter().map(|&s| s as f32).collect(), shift.collect())
    }
}

/// Side of the window and number of heads that a relative position bias table of `shape` is made for.
pub fn bias_window(shape: &[usize]) -> Option<(usize, usize)> {
    let &[positions, heads] = shape else { return None };
    let side = positions.isqrt();
    (heads > 0 && side % 2 == 1 && side * side == positions).then_some((side.div_ceil(2), heads))
}

fn unexpected(param: &Param, expected: &str) -> Error {
    Error::Weights(format!("tensor `{}` has shape {:?}; {expected} is expected", param.name, param.shape))
}
