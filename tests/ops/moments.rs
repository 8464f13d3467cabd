use sonolume::ops::moments::Moments;

use crate::harness::Case;

pub fn op(case: &Case) -> Moments {
    Moments { channels: case.shape("src").channels, groups: case.number("groups"), eps: case.number("eps") }
}
