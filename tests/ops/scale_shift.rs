use sonolume::ops::scale_shift::ScaleShift;

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> ScaleShift {
    ScaleShift { channels: case.shape("src").channels, activation: activation::function(case) }
}
