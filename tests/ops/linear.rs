use sonolume::ops::linear::Linear;

use super::{activation, conv2d};
use crate::harness::Case;

pub fn op(case: &Case) -> Linear {
    Linear {
        in_channels: case.shape("src").channels,
        out_channels: case.number("out"),
        bias: case.number::<u32>("bias") == 1,
        activation: activation::function(case),
        residual: conv2d::residual(case),
    }
}
