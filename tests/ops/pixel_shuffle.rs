use sonolume::ops::pixel_shuffle::PixelShuffle;

use crate::harness::Case;

pub fn op(case: &Case) -> PixelShuffle {
    PixelShuffle { factor: case.number("factor") }
}
