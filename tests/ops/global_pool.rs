use sonolume::ops::global_pool::GlobalPool;

use super::pool2d;
use crate::harness::Case;

pub fn op(case: &Case) -> GlobalPool {
    GlobalPool { kind: pool2d::kind(case) }
}
