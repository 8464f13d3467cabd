//! What the kernels of convolutions and linear maps do around their sums for [`super::fused_conv`].

use super::activation::Function;
use super::conv2d::Residual;
use super::dispatch::Binding;

/// Layer norm of what is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub(super) channels: usize,
    /// Scale, then shift.
    pub(super) affine: Binding,
    /// Two 32-bit floats for each pixel: what is subtracted, and what it is then multiplied by.
    pub(super) statistics: Binding,
}

/// What is done before and behind the sums; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around {
    /// Groups of channels of input 0, if those of input 1 follow them.
    pub(super) joined: Option<usize>,
    /// Not with `joined`.
    pub(super) norm: Option<Norm>,
    /// Channels of a gate's result: of every two groups of the sums the first, activated, is multiplied by the second.
    pub(super) gate: Option<usize>,
    /// The factor of a pixel shuffle of the result, whose groups of channels are then in the order that `store.wgsl` says.
    pub(super) shuffle: Option<usize>,
}

impl Around {
    /// The overrides of `source.wgsl`.
    pub(super) fn source_constants(&self) -> [(&'static str, f64); 2] {
        [("JOINED", self.joined.unwrap_or(0) as f64), ("NORM", self.norm.map_or(0, |norm| norm.channels) as f64)]
    }

    /// The overrides of `store.wgsl` and `activation.wgsl`.
    pub(super) fn store_constants(&self, residual: Option<Residual>, activation: Function) -> Vec<(&'static str, f64)> {
        let residual = match residual {
            None => 0.0,
            Some(Residual::BeforeActivation) => 1.0,
            Some(Residual::AfterActivation) => 2.0,
        };
        let own = [
            ("RESIDUAL", residual),
            ("GATE", f64::from(u8::from(self.gate.is_some()))),
            ("SHUFFLE", self.shuffle.unwrap_or(1) as f64),
        ];
        own.into_iter().chain(activation.constants()).collect()
    }

    /// `extra` and `statistics` of `source.wgsl`. What is not there is bound to the source, which is then not read by that name.
    pub(super) fn source_bindings(&self) -> [Binding; 2] {
        match (self.norm, self.joined) {
            (Some(norm), _) => [norm.affine, norm.statistics],
            (None, Some(_)) => [Binding::Input(1), Binding::Input(0)],
            (None, None) => [Binding::Input(0); 2],
        }
    }

    /// The residual's binding; without one that of the source, which the kernel then does not read by that name.
    pub(super) fn residual(&self, residual: Option<Residual>) -> Binding {
        Binding::Input(residual.map_or(0, |_| 1 + usize::from(self.joined.is_some())))
    }

    /// The bindings of a kernel that sums and stores in one.
    pub(super) fn bindings(&self, weight: Binding, residual: Option<Residual>) -> Vec<Binding> {
        let [extra, statistics] = self.source_bindings();
        vec![Binding::Input(0), weight, Binding::Weight(1), self.residual(residual), extra, statistics, Binding::Output]
    }
}
