use sonolume::ops::gate::Gate;

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> Gate {
    Gate { channels: case.shape("src").channels / 2, activation: activation::function(case) }
}
