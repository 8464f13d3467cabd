use sonolume::ops::normalize::Normalize;

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> Normalize {
    Normalize {
        channels: case.shape("src").channels,
        weight: case.number::<u32>("weight") == 1,
        bias: case.number::<u32>("bias") == 1,
        activation: activation::function(case),
        residual: case.number::<u32>("residual") == 1,
    }
}
