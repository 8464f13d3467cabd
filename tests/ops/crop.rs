use sonolume::ops::crop::{Crop, CropAmount};

use crate::harness::Case;

pub fn op(case: &Case) -> Crop {
    let amount = if case.has("like") {
        CropAmount::Like { scale: case.pair("scale") }
    } else {
        CropAmount::Fixed(case.sides("crop"))
    };
    Crop { amount }
}
