use sonolume::ops::pad::{Pad, PadAmount};

use super::conv2d;
use crate::harness::Case;

pub fn op(case: &Case) -> Pad {
    let amount = if case.has("multiple") {
        PadAmount::ToMultiple(case.pair("multiple"))
    } else {
        PadAmount::Fixed(case.sides("pad"))
    };
    Pad { amount, border: conv2d::border(case) }
}
