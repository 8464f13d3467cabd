use sonolume::ops::upsample::{Interpolation, Upsample};

use super::binary;
use crate::harness::Case;

pub fn op(case: &Case) -> Upsample {
    let mode = match case.text("mode") {
        "nearest" => Interpolation::Nearest,
        "bilinear" => Interpolation::Bilinear { align_corners: false },
        "corners" => Interpolation::Bilinear { align_corners: true },
        other => panic!("{case}: unknown mode {other}"),
    };
    let combine = (case.text("kind") != "none").then(|| binary::kind(case));
    Upsample {
        scale: case.pair("scale"),
        mode,
        combine,
        then: binary::then(case),
        joined: case.number::<u32>("joined") == 1,
    }
}
