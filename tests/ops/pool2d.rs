use sonolume::ops::pool2d::{Pool2d, PoolKind};

use crate::harness::Case;

pub fn op(case: &Case) -> Pool2d {
    Pool2d {
        kind: kind(case),
        kernel: case.pair("kernel"),
        stride: case.pair("stride"),
        padding: case.sides("pad"),
        count_include_pad: case.number::<u32>("count_pad") == 1,
    }
}

/// The field `kind`.
pub fn kind(case: &Case) -> PoolKind {
    match case.text("kind") {
        "max" => PoolKind::Max,
        "average" => PoolKind::Average,
        other => panic!("{case}: unknown kind {other}"),
    }
}
