use sonolume::ops::conv_transpose2d::ConvTranspose2d;

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> ConvTranspose2d {
    ConvTranspose2d {
        in_channels: case.shape("src").channels,
        out_channels: case.number("out"),
        kernel: case.pair("kernel"),
        stride: case.pair("stride"),
        padding: case.pair("pad"),
        output_padding: case.pair("extra"),
        dilation: case.pair("dilation"),
        groups: case.number("groups"),
        bias: case.number::<u32>("bias") == 1,
        activation: activation::function(case),
    }
}
