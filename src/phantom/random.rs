//! Random numbers that depend on a seed and a position alone, so that rows can be made in any order.

/// SplitMix64's finaliser (Steele, Lea and Flood 2014) over a seed and a position.
pub(super) fn hash(seed: u64, position: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xD134_2543_DE82_EF95)
        .wrapping_add(position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in 0..1.
pub(super) fn uniform(seed: u64, position: u64) -> f32 {
    (hash(seed, position) >> 40) as f32 / (1 << 24) as f32
}

/// A complex number with independent parts of mean 0 and variance 1/2, each the sum of two uniform ones.
///
/// The point-spread function adds dozens of them, which makes the field Gaussian; drawing true Gaussians would cost
/// four transcendental functions a sample.
pub(super) fn scatterer(seed: u64, position: u64) -> [f32; 2] {
    let bits = hash(seed, position);
    let part = |shift: u32| ((bits >> shift) & 0xFFFF) as f32 / 65_535.0;
    // The sum of two uniforms has variance 1/6.
    let scale = 1.732_050_8;
    [(part(0) + part(16) - 1.0) * scale, (part(32) + part(48) - 1.0) * scale]
}

/// Smooth noise in -1..=1: random values on the whole numbers, blended by a cubic.
pub(super) fn smooth(seed: u64, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let at = |dx: f32, dy: f32| {
        let (column, row) = ((left + dx) as i32 as u32, (top + dy) as i32 as u32);
        uniform(seed, u64::from(column) << 32 | u64::from(row)) * 2.0 - 1.0
    };
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (across, down) = (ease(x - left), ease(y - top));
    let above = at(0.0, 0.0) + (at(1.0, 0.0) - at(0.0, 0.0)) * across;
    let below = at(0.0, 1.0) + (at(1.0, 1.0) - at(0.0, 1.0)) * across;
    above + (below - above) * down
}
