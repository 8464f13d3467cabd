use sonolume::ops::pixel_unshuffle::PixelUnshuffle;

use crate::harness::Case;

pub fn op(case: &Case) -> PixelUnshuffle {
    PixelUnshuffle { factor: case.number("factor") }
}
