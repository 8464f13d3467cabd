//! Intervals and scales on one image axis.

/// One axis of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Rows, from top to bottom; index 0 of a `[vertical, horizontal]` pair.
    Vertical = 0,
    /// Columns, from left to right; index 1 of such a pair.
    Horizontal = 1,
}

impl Axis {
    /// Both axes, in the order of a `[vertical, horizontal]` pair.
    pub const BOTH: [Self; 2] = [Self::Vertical, Self::Horizontal];
}

/// The pixels `start..end` of one axis; they may lie outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First pixel.
    pub start: i64,
    /// One past the last pixel.
    pub end: i64,
}

impl Span {
    /// The pixels `start..end`.
    pub const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// All pixels of a line of `size`.
    pub const fn all(size: usize) -> Self {
        Self { start: 0, end: size as i64 }
    }

    /// Number of pixels.
    pub const fn len(&self) -> i64 {
        self.end - self.start
    }

    /// True if it holds no pixel.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// The smallest span that holds both.
    pub fn union(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self::new(self.start.min(other.start), self.end.max(other.end)),
        }
    }

    /// The part inside a line of `size` pixels.
    pub fn clip(self, size: usize) -> Self {
        Self::new(self.start.clamp(0, size as i64), self.end.clamp(0, size as i64))
    }

    /// Both ends moved outwards to multiples of `step`.
    pub fn align(self, step: usize) -> Self {
        let step = step as i64;
        Self::new(self.start.div_euclid(step) * step, (self.end + step - 1).div_euclid(step) * step)
    }

    /// `before` more pixels at the start, `after` more at the end.
    pub const fn grow(self, before: i64, after: i64) -> Self {
        Self::new(self.start - before, self.end + after)
    }
}

/// Output pixels for each input pixel, as a reduced fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// Output pixels ...
    pub up: usize,
    /// ... for this many input pixels.
    pub down: usize,
}

impl Scale {
    /// The size stays.
    pub const ONE: Self = Self { up: 1, down: 1 };

    /// `up` output pixels for `down` input pixels.
    pub const fn new(up: usize, down: usize) -> Self {
        let divisor = gcd(up, down);
        Self { up: up / divisor, down: down / divisor }
    }

    /// This scale followed by `next`.
    pub const fn then(self, next: Self) -> Self {
        Self::new(self.up * next.up, self.down * next.down)
    }

    /// Where the input's pixel `position` stands in the output, if at a whole pixel.
    pub const fn apply(self, position: usize) -> Option<usize> {
        let scaled = position * self.up;
        if scaled.is_multiple_of(self.down) { Some(scaled / self.down) } else { None }
    }
}

/// Greatest common divisor.
pub const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Least common multiple.
pub const fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}
