//! Memory that suits vector instructions.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vectors.
const LINE: usize = 64;

/// Values that begin with a cache line: a vector at a multiple of its own size then never lies across two lines, which would take
/// two reads.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    values: Vec<f32>,
    /// The first value in use.
    start: usize,
}

impl Buffer {
    pub(super) fn zeroed(elements: usize) -> Self {
        let mut values = vec![0.0; elements + LINE / size_of::<f32>()];
        // The vector is never moved to other memory, as it never grows.
        let start = values.as_ptr().align_offset(LINE).min(values.len() - elements);
        values.truncate(start + elements);
        Self { values, start }
    }

    /// Makes it hold `elements` or more, of any finite value.
    pub(super) fn grow(&mut self, elements: usize) {
        if self.len() < elements {
            *self = Self::default();
            *self = Self::zeroed(elements);
        }
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        let mut buffer = Self::zeroed(values.len());
        buffer.copy_from_slice(&values);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..]
    }
}
