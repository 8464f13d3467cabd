//! How the rows of an image are shared between threads.

use std::ops::Range;

/// Bands for each thread: enough to even out their speed, few enough that what bands compute twice stays small.
const BANDS: usize = 4;
/// A smaller band does not pay for handing it to a thread.
const LEAST_ELEMENTS: usize = 4096;

/// Rows of a band, for an operator that takes `elements` for each row.
pub(super) fn rows(height: usize, elements: usize) -> usize {
    let by_threads = height.div_ceil(BANDS * rayon::current_num_threads());
    by_threads.max(LEAST_ELEMENTS / elements.max(1)).max(1)
}

/// Cuts `output` into parts of so many elements as `lengths` says, and numbers them.
pub(super) fn split(
    output: &mut [f32],
    lengths: impl IntoIterator<Item = (Range<usize>, usize)>,
) -> Vec<(Range<usize>, &mut [f32])> {
    let mut rest = output;
    let parts = lengths.into_iter().map(|(range, length)| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        (range, part)
    });
    parts.collect()
}
