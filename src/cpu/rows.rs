//! Rows of an image with its border made up and, if asked for, layer norm applied or another image's channels added: what a
//! convolution reads.

use pulp::{Arch, Simd, WithSimd};

use super::concat::join;
use super::lanes;
use super::layer_norm::Normalize;
use crate::ops::Border;
use crate::ops::layer_norm::LayerNorm;
use crate::tensor::{LANES, Shape};

/// Elements behind the last pixel that whole vectors may run over.
const SLACK: usize = 16;

/// Where rows come from.
pub(super) struct Source<'a> {
    pub(super) arch: Arch,
    pub(super) shape: Shape,
    pub(super) values: &'a [f32],
    pub(super) border: Border,
    /// The first column of a padded row, and the number of columns.
    pub(super) left: i64,
    pub(super) columns: usize,
    /// Layer norm with its packed weights. With it or `second` there are at least four channels.
    pub(super) norm: Option<(&'a LayerNorm, &'a [f32])>,
    /// An image of the same size that has the last channels of `shape`, and their number; `values` has the others.
    pub(super) second: Option<(&'a [f32], usize)>,
}

/// Copies elements. `memcpy` was seen to take three times as long on rows that are not in a cache.
struct Copy<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (to, to_rest) = S::as_mut_simd_f32s(self.to);
        let (from, from_rest) = S::as_simd_f32s(self.from);
        let (to, to_end) = to.as_chunks_mut::<4>();
        let (from, from_end) = from.as_chunks::<4>();
        for (to, from) in to.iter_mut().zip(from) {
            let [a, b, c, d] = *from;
            [to[0], to[1], to[2], to[3]] = [a, b, c, d];
        }
        to_end.iter_mut().zip(from_end).for_each(|(to, from)| *to = *from);
        to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
    }
}

/// The last few padded rows.
pub(super) struct Ring<'a> {
    source: &'a Source<'a>,
    rows: &'a mut [f32],
    /// The row that each place holds.
    held: Vec<Option<i64>>,
}

/// Elements of a pixel of `channels` channels in a padded row: without padding lanes if those would be most of it.
pub(super) fn pixel_elements(channels: usize) -> usize {
    if channels < LANES { channels } else { channels.next_multiple_of(LANES) }
}

impl Source<'_> {
    /// Elements of one pixel of a padded row.
    pub(super) fn pixel_elements(&self) -> usize {
        pixel_elements(self.shape.channels)
    }

    /// Elements of one padded row: whole cache lines, so that all rows begin with one.
    pub(super) fn row_elements(&self) -> usize {
        (self.columns * self.pixel_elements() + SLACK).next_multiple_of(SLACK)
    }

    fn fill(&self, row: i64, padded: &mut [f32]) {
        let lanes = self.pixel_elements();
        let (padded, slack) = padded.split_at_mut(self.columns * lanes);
        slack.fill(0.0);
        let Some(row) = self.border.resolve(row, self.shape.height) else {
            padded.fill(0.0);
            return;
        };
        // The columns that exist, in the source and in the padded row.
        let first = self.left.clamp(0, self.shape.width as i64);
        let last = (self.left + self.columns as i64).clamp(first, self.shape.width as i64);
        let at = ((first - self.left) as usize).min(self.columns);
        let count = (last - first) as usize;
        let pixel = row * self.shape.width;
        self.read(pixel + first as usize, &mut padded[at * lanes..][..count * lanes]);
        for column in (0..at).chain(at + count..self.columns) {
            let from = self.border.resolve(self.left + column as i64, self.shape.width);
            match from {
                Some(from) if (first..last).contains(&(from as i64)) => {
                    let from = (from as i64 - self.left) as usize * lanes;
                    padded.copy_within(from..from + lanes, column * lanes);
                }
                Some(from) => self.read(pixel + from, &mut padded[column * lanes..][..lanes]),
                None => padded[column * lanes..][..lanes].fill(0.0),
            }
        }
    }

    /// Copies whole pixels from pixel `first` on, as they shall be.
    fn read(&self, first: usize, to: &mut [f32]) {
        let elements = lanes(self.shape.channels);
        debug_assert!(elements == self.pixel_elements() || self.norm.is_none() && self.second.is_none());
        if let Some((second, second_channels)) = self.second {
            let channels = [self.shape.channels - second_channels, second_channels];
            let [left, right] = channels.map(|channels| lanes(channels) * first);
            return join(to, &self.values[left..], &second[right..], channels);
        }
        let from = &self.values[first * elements..];
        match (self.norm, self.shape.channels) {
            (Some((op, affine)), _) => {
                let input = &from[..to.len()];
                self.arch.dispatch(Normalize { op, affine, input, output: to });
            }
            (None, 2) => compact::<2>(from, to),
            (None, 3) => compact::<3>(from, to),
            (None, _) => self.arch.dispatch(Copy { from: &from[..to.len()], to }),
        }
    }
}

/// Copies the `N` channels of every pixel without the padding lanes.
fn compact<const N: usize>(from: &[f32], to: &mut [f32]) {
    let (from, _) = from.as_chunks::<LANES>();
    let (to, _) = to.as_chunks_mut::<N>();
    for (to, from) in to.iter_mut().zip(from) {
        to.copy_from_slice(&from[..N]);
    }
}

impl<'a> Ring<'a> {
    /// `rows` holds as many rows as are read together, at least.
    pub(super) fn new(source: &'a Source<'a>, rows: &'a mut [f32]) -> Self {
        let held = vec![None; rows.len() / source.row_elements()];
        Self { source, rows, held }
    }

    /// Makes sure that the ring holds `row`.
    pub(super) fn load(&mut self, row: i64) {
        let place = self.place(row);
        if self.held[place] != Some(row) {
            let elements = self.source.row_elements();
            self.source.fill(row, &mut self.rows[place * elements..][..elements]);
            self.held[place] = Some(row);
        }
    }

    /// A row that was loaded.
    pub(super) fn row(&self, row: i64) -> &[f32] {
        let elements = self.source.row_elements();
        &self.rows[self.place(row) * elements..][..elements]
    }

    fn place(&self, row: i64) -> usize {
        row.rem_euclid(self.held.len() as i64) as usize
    }
}
