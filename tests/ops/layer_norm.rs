use sonolume::ops::layer_norm::LayerNorm;

use crate::harness::Case;

pub fn op(case: &Case) -> LayerNorm {
    LayerNorm {
        channels: case.shape("src").channels,
        eps: case.number("eps"),
        center: case.number::<u32>("center") == 1,
        weight: case.number::<u32>("weight") == 1,
        bias: case.number::<u32>("bias") == 1,
    }
}
