use sonolume::ops::gram::Gram;

use crate::harness::Case;

pub fn op(case: &Case) -> Gram {
    Gram { heads: case.number("heads"), head_channels: case.number("size") }
}
