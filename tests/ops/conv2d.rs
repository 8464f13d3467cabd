use sonolume::ops::Border;
use sonolume::ops::conv2d::{Conv2d, Residual};

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> Conv2d {
    Conv2d {
        in_channels: case.shape("src").channels,
        out_channels: case.number("out"),
        kernel: case.pair("kernel"),
        stride: case.pair("stride"),
        padding: case.sides("pad"),
        border: border(case),
        dilation: case.pair("dilation"),
        groups: case.number("groups"),
        bias: case.number::<u32>("bias") == 1,
        activation: activation::function(case),
        residual: residual(case),
    }
}

/// The field `border`.
pub fn border(case: &Case) -> Border {
    match case.text("border") {
        "zero" => Border::Zero,
        "reflect" => Border::Reflect,
        "replicate" => Border::Replicate,
        other => panic!("{case}: unknown border {other}"),
    }
}

/// The field `residual`.
pub fn residual(case: &Case) -> Option<Residual> {
    match case.text("residual") {
        "none" => None,
        "before" => Some(Residual::BeforeActivation),
        "after" => Some(Residual::AfterActivation),
        other => panic!("{case}: unknown residual {other}"),
    }
}
