use sonolume::ops::row_coordinate::RowCoordinate;

use crate::harness::Case;

pub fn op(case: &Case) -> RowCoordinate {
    RowCoordinate { factor: case.number("factor") }
}
