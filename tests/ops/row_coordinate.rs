use sonolume::ops::row_coordinate::RowCoordinate;

use crate::harness::Case;

pub fn op(_: &Case) -> RowCoordinate {
    RowCoordinate
}
