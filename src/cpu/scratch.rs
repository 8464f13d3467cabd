//! Working memory of each thread, kept from one use to the next.

use std::cell::RefCell;

use super::buffer::Buffer;

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

/// Calls `work` with as many buffers as `sizes` has entries, each with so many elements of any finite value.
///
/// `work` must not call it again.
pub(super) fn with<const N: usize, R>(sizes: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    // Whole cache lines, so that buffers do not share one.
    let sizes = sizes.map(|size| (size, size.next_multiple_of(16)));
    let total: usize = sizes.iter().map(|(_, padded)| padded).sum();
    // Taken, not borrowed: a nested call would find an empty buffer instead of a panic.
    let mut buffer = BUFFER.take();
    buffer.grow(total);
    let mut rest = &mut buffer[..];
    let parts = sizes.map(|(size, padded)| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(padded);
        rest = behind;
        &mut part[..size]
    });
    let result = work(parts);
    BUFFER.set(buffer);
    result
}
