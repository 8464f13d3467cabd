use sonolume::ops::channel_attention::ChannelAttention;

use crate::harness::Case;

pub fn op(case: &Case) -> ChannelAttention {
    ChannelAttention { heads: case.number("heads"), head_channels: case.number("size") }
}
