//! Tile geometry: which tiles cover an image, and how a tile splits when it is too large for the device.

use std::collections::VecDeque;
use std::ops::Range;

/// The pixels that one tile alone is responsible for, in input pixels; what it reads around them is derived elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl Tile {
    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.rows.len(), self.columns.len()]
    }

    /// Two halves along the longer side that can be cut at a multiple of `alignment`; `None` if neither can.
    pub fn split(&self, alignment: [usize; 2]) -> Option<[Self; 2]> {
        let middle = |range: &Range<usize>, step: usize| {
            let at = (range.start + range.len() / 2).next_multiple_of(step);
            // The rounding may reach the end of a short range: try the multiple before.
            [at, at.saturating_sub(step)].into_iter().find(|at| range.start < *at && *at < range.end)
        };
        let by_rows = middle(&self.rows, alignment[0]);
        let by_columns = middle(&self.columns, alignment[1]);
        match (by_rows, by_columns) {
            (Some(at), other) if self.rows.len() >= self.columns.len() || other.is_none() => {
                let [upper, lower] = [self.rows.start..at, at..self.rows.end];
                Some([Self { rows: upper, ..self.clone() }, Self { rows: lower, ..self.clone() }])
            }
            (_, Some(at)) => {
                let [left, right] = [self.columns.start..at, at..self.columns.end];
                Some([Self { columns: left, ..self.clone() }, Self { columns: right, ..self.clone() }])
            }
            _ => None,
        }
    }
}

/// Covers an image of `size`, `[height, width]`, with tiles of `core`, row by row; the last ones may be smaller.
pub fn cover(size: [usize; 2], core: [usize; 2]) -> VecDeque<Tile> {
    let cuts = |axis: usize| {
        let step = core[axis].max(1);
        (0..size[axis]).step_by(step).map(move |start| start..(start + step).min(size[axis]))
    };
    cuts(0).flat_map(|rows| cuts(1).map(move |columns| Tile { rows: rows.clone(), columns })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(size: [usize; 2], tiles: &[Tile]) -> Vec<u32> {
        let mut owners = vec![0; size[0] * size[1]];
        for tile in tiles {
            for y in tile.rows.clone() {
                for x in tile.columns.clone() {
                    owners[y * size[1] + x] += 1;
                }
            }
        }
        owners
    }

    #[test]
    fn every_pixel_belongs_to_exactly_one_tile() {
        for (size, core) in [([1, 1], [1, 1]), ([7, 9], [3, 4]), ([8, 5], [4, 100]), ([3, 17], [1, 16])] {
            let tiles: Vec<Tile> = cover(size, core).into();
            assert!(owners(size, &tiles).iter().all(|&count| count == 1), "{size:?} in {core:?}");
        }
    }

    #[test]
    fn splitting_keeps_the_pixels_and_the_grid_and_ends() {
        let whole = Tile { rows: 0..50, columns: 0..71 };
        let mut waiting = vec![whole];
        let mut small = Vec::new();
        while let Some(tile) = waiting.pop() {
            match tile.split([16, 8]) {
                Some(halves) => waiting.extend(halves),
                None => small.push(tile),
            }
        }
        assert!(owners([50, 71], &small).iter().all(|&count| count == 1));
        for tile in &small {
            assert!(tile.rows.start % 16 == 0 && tile.columns.start % 8 == 0, "{tile:?}");
            assert!(tile.rows.len() <= 16 && tile.columns.len() <= 8, "{tile:?}");
        }
    }
}
