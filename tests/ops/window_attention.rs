use sonolume::ops::window_attention::WindowAttention;

use crate::harness::Case;

pub fn op(case: &Case) -> WindowAttention {
    WindowAttention {
        heads: case.number("heads"),
        head_channels: case.number("size"),
        window: case.pair("window"),
        shift: case.pair("shift"),
        cosine: case.number::<u32>("cosine") == 1,
    }
}
