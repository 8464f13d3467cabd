//! From a frame to the generator's input, and from its output back to a frame.

use rayon::prelude::*;

use super::{Frame, Layout, Samples};
use crate::error::{Error, Result};
use crate::tensor::{HostTensor, Shape};

/// A pixel carries colour if its largest and smallest channel differ by more than this, of 255 (16 bits: times 257).
///
/// Grey stored as RGB has a spread of zero, also after a JPEG. A JPEG that holds grey beside colour rings into the grey, and
/// some devices tint their greys: both stay below. Doppler colours and graphics are far above.
pub const COLOUR_SPREAD: u16 = 16;

/// Grey levels that [`difference`] shows per grey level (of 255) of change.
pub const DIFFERENCE_GAIN: f64 = 2.0;

/// Rec. 601 weights in 1/65536, which sum to 65536: the luma of `r = g = b` is exactly that value.
const LUMA_WEIGHTS: [u32; 3] = [19_595, 38_470, 7_471];

trait Sample: Copy + Send + Sync + Default + Into<u32> {
    const MAX: f64;
    const COLOUR_SPREAD: u32;
    /// The nearest sample, halves away from zero, ends clamped. `value` is finite.
    fn from_level(value: f64) -> Self;
    /// The sample as a number.
    fn level(self) -> f32;
}

/// Pixels that one thread takes at a time.
const RUN: usize = 1 << 14;

/// Fills a plane from interleaved samples, `stride` a pixel, in runs: side by side.
fn planes<T: Sync>(samples: &[T], stride: usize, out: &mut [f32], fill: impl Fn(&[T], &mut [f32]) + Sync) {
    out.par_chunks_mut(RUN).zip(samples.par_chunks(RUN * stride)).for_each(|(out, samples)| fill(samples, out));
}

impl Sample for u8 {
    const MAX: f64 = 255.0;
    const COLOUR_SPREAD: u32 = COLOUR_SPREAD as u32;
    fn from_level(value: f64) -> Self {
        (value + 0.5) as Self
    }
    fn level(self) -> f32 {
        f32::from(self)
    }
}

impl Sample for u16 {
    const MAX: f64 = 65_535.0;
    const COLOUR_SPREAD: u32 = COLOUR_SPREAD as u32 * 257;
    fn from_level(value: f64) -> Self {
        (value + 0.5) as Self
    }
    fn level(self) -> f32 {
        f32::from(self)
    }
}

/// The luma of one pixel in levels, 0 to `T::MAX`.
fn luma_level<T: Sample>(pixel: &[T], layout: Layout) -> f64 {
    if !layout.has_colour() {
        return f64::from(pixel[0].into());
    }
    // 65536 times the largest sample fits.
    let sum: u32 = LUMA_WEIGHTS.iter().zip(pixel).map(|(weight, &value)| weight * value.into()).sum();
    f64::from(sum) / 65_536.0
}

/// Gives a pixel of luma `own` the luma `target`, both in levels; its channels keep their distances.
fn shift_luma<T: Sample>(pixel: &mut [T], layout: Layout, own: f64, target: f64) {
    for channel in &mut pixel[..layout.colours()] {
        *channel = T::from_level((f64::from((*channel).into()) - own) + target);
    }
}

/// A generator's result, clamped to what pictures hold.
fn unit(result: f32) -> f64 {
    f64::from(result.clamp(0.0, 1.0))
}

fn carries_colour<T: Sample>(pixel: &[T], layout: Layout) -> bool {
    if !layout.has_colour() {
        return false;
    }
    let [r, g, b]: [u32; 3] = [pixel[0].into(), pixel[1].into(), pixel[2].into()];
    r.max(g).max(b) - r.min(g).min(b) > T::COLOUR_SPREAD
}

fn is_transparent<T: Sample>(pixel: &[T], layout: Layout) -> bool {
    layout.has_alpha() && pixel[layout.samples() - 1].into() == 0
}

/// Where an output coordinate of a `scale` times enlarged axis lies: two source indices and the second one's weight.
///
/// Pixel centres, border replicated, as `torch.nn.functional.interpolate` with `align_corners=False`.
fn bilinear_taps(position: usize, scale: usize, length: usize) -> (usize, usize, f64) {
    if scale == 1 {
        return (position, position, 0.0);
    }
    let centre = ((position as f64 + 0.5) / scale as f64 - 0.5).max(0.0);
    let first = centre as usize;
    (first, (first + 1).min(length - 1), centre - first as f64)
}

/// An enlarged view of one plane: `at(row, column)` gives its level.
fn bilinear(y: usize, x: usize, scale: usize, height: usize, width: usize, at: impl Fn(usize, usize) -> f64) -> f64 {
    if scale == 1 {
        return at(y, x);
    }
    let (top, bottom, down) = bilinear_taps(y, scale, height);
    let (left, right, across) = bilinear_taps(x, scale, width);
    let above = at(top, left) * (1.0 - across) + at(top, right) * across;
    let below = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
    above * (1.0 - down) + below * down
}

impl Frame {
    /// The picture's luma, `[1, height, width]` in 0..=1: grey as it is, colour by Rec. 601.
    pub fn luma(&self) -> HostTensor {
        fn fill<T: Sample>(samples: &[T], layout: Layout, out: &mut [f32]) {
            match layout {
                // Without a step between samples, which the compiler makes vectors of. The quotient is the same number.
                Layout::Luma => planes(samples, 1, out, |samples, out| {
                    for (value, &sample) in out.iter_mut().zip(samples) {
                        *value = sample.level() / T::MAX as f32;
                    }
                }),
                _ => planes(samples, layout.samples(), out, |samples, out| {
                    for (value, pixel) in out.iter_mut().zip(samples.chunks_exact(layout.samples())) {
                        *value = (luma_level(pixel, layout) / T::MAX) as f32;
                    }
                }),
            }
        }
        let mut data = vec![0.0; self.width * self.height];
        match &self.samples {
            Samples::U8(samples) => fill(samples, self.layout, &mut data),
            Samples::U16(samples) => fill(samples, self.layout, &mut data),
        }
        HostTensor::new(Shape::new(1, self.height, self.width), data).expect("one luma value per pixel")
    }

    /// The picture's colours, `[3, height, width]` in 0..=1; grey is repeated, alpha is left out.
    pub fn rgb(&self) -> HostTensor {
        fn fill<T: Sample>(samples: &[T], layout: Layout, channel: usize, out: &mut [f32]) {
            let channel = if layout.has_colour() { channel } else { 0 };
            planes(samples, layout.samples(), out, |samples, out| {
                for (value, pixel) in out.iter_mut().zip(samples.chunks_exact(layout.samples())) {
                    *value = pixel[channel].level() / T::MAX as f32;
                }
            });
        }
        let pixels = self.width * self.height;
        let mut data = vec![0.0; 3 * pixels];
        for (channel, out) in data.chunks_exact_mut(pixels).enumerate() {
            match &self.samples {
                Samples::U8(samples) => fill(samples, self.layout, channel, out),
                Samples::U16(samples) => fill(samples, self.layout, channel, out),
            }
        }
        HostTensor::new(Shape::new(3, self.height, self.width), data).expect("three values per pixel")
    }

    /// How many pixels carry colour (see [`COLOUR_SPREAD`]) and so pass through [`Frame::with_luma`] unchanged.
    pub fn coloured_pixels(&self) -> usize {
        fn count<T: Sample>(samples: &[T], layout: Layout) -> usize {
            samples.par_chunks_exact(layout.samples()).filter(|p| carries_colour(p, layout)).count()
        }
        match &self.samples {
            Samples::U8(samples) => count(samples, self.layout),
            Samples::U16(samples) => count(samples, self.layout),
        }
    }

    /// The picture with its luma replaced by `enhanced`, `[1, k * height, k * width]` in 0..=1 (clamped), for a whole `k`.
    ///
    /// With the pixel's luma `y` and the result `e`, both in levels, every channel `c` of a grey pixel becomes
    /// `round((c - y) + (1 - strength) * y + strength * e)`, in f64, halves up, clamped: the full result
    /// at `strength` 1, and the picture itself, bit for bit, at 0. Depth, layout and profile stay.
    ///
    /// Pixels that carry colour ([`COLOUR_SPREAD`]: Doppler, graphics), fully transparent pixels, and all
    /// alpha pass unchanged. For `k` above 1 these are enlarged by repetition, and `y` bilinearly (pixel centres, border
    /// replicated), so that strength 0 is a plain enlargement.
    ///
    /// # Errors
    /// [`Error::Options`] if `strength` is not in 0..=1, [`Error::Shape`] if `enhanced` has another shape,
    /// [`Error::NonFinite`] if it holds NaN or infinity.
    pub fn with_luma(&self, enhanced: &HostTensor, strength: f32) -> Result<Self> {
        let scale = self.check_result(enhanced, 1, strength)?;
        self.rewrite(enhanced, scale, strength)
    }

    /// The picture with its colours replaced by `enhanced`, `[3, k * height, k * width]` in 0..=1 (clamped), for a whole `k`.
    ///
    /// Every channel is blended as [`Frame::with_luma`] blends grey; a grey frame stays grey, with the luma of `enhanced`.
    /// Fully transparent pixels and all alpha pass unchanged, enlarged by repetition.
    ///
    /// # Errors
    /// As [`Frame::with_luma`].
    pub fn with_rgb(&self, enhanced: &HostTensor, strength: f32) -> Result<Self> {
        let scale = self.check_result(enhanced, 3, strength)?;
        self.rewrite(enhanced, scale, strength)
    }

    /// An 8-bit frame of a result of its own: grey from `[1, height, width]`, RGB from `[3, height, width]`, 0..=1 (clamped).
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels, [`Error::Image`] for an empty tensor, [`Error::NonFinite`] if it holds
    /// NaN or infinity.
    pub fn from_tensor(tensor: &HostTensor) -> Result<Self> {
        let Shape { channels, height, width } = tensor.shape();
        let layout = match channels {
            1 => Layout::Luma,
            3 => Layout::Rgb,
            _ => return Err(Error::shape(format!("a picture has 1 or 3 channels, not {channels}"))),
        };
        check_finite(tensor)?;
        let pixels = height * width;
        let level = |i: usize| f64::from(tensor.data()[(i % channels) * pixels + i / channels].clamp(0.0, 1.0)) * 255.0;
        let samples = (0..pixels * channels).into_par_iter().map(|i| u8::from_level(level(i))).collect();
        Self::new(width, height, layout, Samples::U8(samples))
    }

    /// The scale factor of a result, once it is known to be usable.
    fn check_result(&self, enhanced: &HostTensor, channels: usize, strength: f32) -> Result<usize> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::Options(format!("the strength must be between 0 and 1, not {strength}")));
        }
        let shape = enhanced.shape();
        let scale = shape.width / self.width;
        let fits = scale > 0
            && shape.channels == channels
            && Some(shape.width) == self.width.checked_mul(scale)
            && Some(shape.height) == self.height.checked_mul(scale);
        if !fits {
            return Err(Error::shape(format!(
                "a result of {shape} does not belong to a picture of {}x{} pixels: expected [{channels}, k * {}, k * {}]",
                self.width, self.height, self.height, self.width
            )));
        }
        check_finite(enhanced)?;
        Ok(scale)
    }

    fn rewrite(&self, enhanced: &HostTensor, scale: usize, strength: f32) -> Result<Self> {
        if scale == 1 && strength == 0.0 {
            return Ok(self.clone());
        }
        let blend = Blend { frame: self, enhanced, scale, strength: f64::from(strength) };
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(blend.samples(samples)),
            Samples::U16(samples) => Samples::U16(blend.samples(samples)),
        };
        let mut frame = Self::new(self.width * scale, self.height * scale, self.layout, samples)?;
        frame.icc_profile.clone_from(&self.icc_profile);
        Ok(frame)
    }
}

/// A checked result on its way into a frame.
struct Blend<'a> {
    frame: &'a Frame,
    enhanced: &'a HostTensor,
    scale: usize,
    strength: f64,
}

impl Blend<'_> {
    fn samples<T: Sample>(&self, source: &[T]) -> Vec<T> {
        let stride = self.frame.layout.samples();
        let (width, height) = (self.frame.width * self.scale, self.frame.height * self.scale);
        if self.scale == 1 && self.enhanced.shape().channels == 1 {
            let mut out = source.to_vec();
            out.par_chunks_exact_mut(width * stride).enumerate().for_each(|(y, row)| self.luma_row(y, row));
            return out;
        }
        let mut out = vec![T::default(); width * height * stride];
        out.par_chunks_exact_mut(width * stride).enumerate().for_each(|(y, row)| {
            for (x, to) in row.chunks_exact_mut(stride).enumerate() {
                self.pixel(source, y, x, to);
            }
        });
        out
    }

    /// The mean of a level and a result from 0 to 1, weighted by the strength, as a level.
    fn mix<T: Sample>(&self, plain: f64, result: f64) -> f64 {
        (1.0 - self.strength) * plain + self.strength * (result * T::MAX)
    }

    /// A row of the size of the picture's, whose samples `row` holds: the case of every frame of a stream.
    fn luma_row<T: Sample>(&self, y: usize, row: &mut [T]) {
        let (layout, width) = (self.frame.layout, self.frame.width);
        let results = &self.enhanced.data()[y * width..][..width];
        match layout {
            Layout::Luma => {
                for (sample, &result) in row.iter_mut().zip(results) {
                    *sample = T::from_level(self.mix::<T>(f64::from(sample.level()), unit(result)));
                }
            }
            Layout::LumaAlpha => {
                for (pixel, &result) in row.as_chunks_mut::<2>().0.iter_mut().zip(results) {
                    self.luma_pixel(pixel, result);
                }
            }
            Layout::Rgb => self.colour_row::<T, 3>(row, results),
            Layout::Rgba => self.colour_row::<T, 4>(row, results),
        }
    }

    /// The same of pixels of red, green and blue. Grey stored so, as most pictures of a scanner's screen are, takes one result
    /// for all three, the same as that of [`Blend::luma_pixel`].
    fn colour_row<T: Sample, const N: usize>(&self, row: &mut [T], results: &[f32]) {
        for (pixel, &result) in row.as_chunks_mut::<N>().0.iter_mut().zip(results) {
            let [red, green, blue]: [u32; 3] = [pixel[0].into(), pixel[1].into(), pixel[2].into()];
            if red == green && green == blue && !is_transparent(pixel, self.frame.layout) {
                pixel[..3].fill(T::from_level(self.mix::<T>(f64::from(red), unit(result))));
            } else {
                self.luma_pixel(pixel, result);
            }
        }
    }

    fn luma_pixel<T: Sample>(&self, pixel: &mut [T], result: f32) {
        let layout = self.frame.layout;
        if !is_transparent(pixel, layout) && !carries_colour(pixel, layout) {
            let own = luma_level(pixel, layout);
            shift_luma(pixel, layout, own, self.mix::<T>(own, unit(result)));
        }
    }

    fn pixel<T: Sample>(&self, source: &[T], y: usize, x: usize, out: &mut [T]) {
        let (layout, width, height, scale) = (self.frame.layout, self.frame.width, self.frame.height, self.scale);
        let stride = layout.samples();
        let pixel_at = |row: usize, column: usize| &source[(row * width + column) * stride..][..stride];
        let pixel = pixel_at(y / scale, x / scale);
        out.copy_from_slice(pixel);
        if is_transparent(pixel, layout) {
            return;
        }
        let plane = width * height * scale * scale;
        let at = y * width * scale + x;
        let result = |channel: usize| unit(self.enhanced.data()[channel * plane + at]);
        let plain_luma = || bilinear(y, x, scale, height, width, |row, col| luma_level(pixel_at(row, col), layout));
        if self.enhanced.shape().channels == 1 {
            if !carries_colour(pixel, layout) {
                shift_luma(out, layout, luma_level(pixel, layout), self.mix::<T>(plain_luma(), result(0)));
            }
        } else if layout.has_colour() {
            for (channel, to) in out[..3].iter_mut().enumerate() {
                let level = |row, col| f64::from(pixel_at(row, col)[channel].into());
                *to = T::from_level(self.mix::<T>(bilinear(y, x, scale, height, width, level), result(channel)));
            }
        } else {
            let luma = (0..3).map(|channel| f64::from(LUMA_WEIGHTS[channel]) * result(channel)).sum::<f64>() / 65_536.0;
            out[0] = T::from_level(self.mix::<T>(plain_luma(), luma));
        }
    }
}

fn check_finite(tensor: &HostTensor) -> Result<()> {
    if tensor.is_finite() {
        return Ok(());
    }
    match tensor.data().iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NonFinite(format!("{} at element {at} of {}", tensor.data()[at], tensor.shape()))),
    }
}

/// A signed map of what changed from `before` to `after`: 8-bit grey, 128 where the luma is the same, brighter where `after`
/// is brighter, [`DIFFERENCE_GAIN`] levels per level (of 255), clamped.
///
/// The map has the size of `after`; if that is `k` times the size of `before`, `before` is enlarged bilinearly.
///
/// # Errors
/// [`Error::Shape`] if neither holds.
pub fn difference(before: &Frame, after: &Frame) -> Result<Frame> {
    let (old, new) = (before.luma(), after.luma());
    let scale = before.check_result(&new, 1, 1.0)?;
    let samples = (0..new.data().len())
        .into_par_iter()
        .map(|i| {
            let level = |row: usize, col: usize| f64::from(old.data()[row * before.width + col]);
            let plain = bilinear(i / after.width, i % after.width, scale, before.height, before.width, level);
            u8::from_level(128.0 + DIFFERENCE_GAIN * 255.0 * (f64::from(new.data()[i]) - plain))
        })
        .collect();
    Frame::from_luma8(after.width, after.height, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(channels: usize, height: usize, width: usize, value: impl Fn(usize) -> f32) -> HostTensor {
        let shape = Shape::new(channels, height, width);
        HostTensor::new(shape, (0..shape.elements().unwrap()).map(value).collect()).unwrap()
    }

    #[test]
    fn every_level_survives_luma_and_back() {
        let narrow = Frame::from_luma8(256, 1, (0..=255).collect()).unwrap();
        assert_eq!(narrow.with_luma(&narrow.luma(), 1.0).unwrap(), narrow);
        let wide = Frame::from_luma16(65_536, 1, (0..=65_535).collect()).unwrap();
        assert_eq!(wide.with_luma(&wide.luma(), 1.0).unwrap(), wide);
        let rgb: Vec<u8> = (0..=255).flat_map(|v| [v, v, v]).collect();
        let rgb = Frame::from_rgb8(256, 1, rgb).unwrap();
        assert_eq!(rgb.luma(), narrow.luma());
        assert_eq!(rgb.with_rgb(&rgb.rgb(), 1.0).unwrap(), rgb);
    }

    #[test]
    fn grey_is_blended_alike_in_every_layout() {
        let (width, height) = (256, 3);
        let results = tensor(1, height, width, |i| (i * 7919 % 1301) as f32 / 1250.0 - 0.02);
        let grey: Vec<u16> = (0..width * height).map(|i| (i * 257 % 65_536) as u16).collect();
        let narrow: Vec<u8> = grey.iter().map(|&level| (level >> 8) as u8).collect();
        let frames = |layout: Layout| {
            let colours = layout.colours();
            let spread = |level: usize, opaque: usize| {
                (0..layout.samples()).map(move |i| if i < colours { level } else { opaque })
            };
            let wide = grey.iter().flat_map(|&v| spread(v.into(), 65_535)).map(|v| v as u16).collect();
            let eight = narrow.iter().flat_map(|&v| spread(v.into(), 255)).map(|v| v as u8).collect();
            [Samples::U16(wide), Samples::U8(eight)].map(|samples| Frame::new(width, height, layout, samples).unwrap())
        };
        let firsts = |frame: &Frame| -> Vec<u32> {
            let stride = frame.layout().samples();
            match frame.samples() {
                Samples::U8(samples) => samples.iter().step_by(stride).map(|&v| v.into()).collect(),
                Samples::U16(samples) => samples.iter().step_by(stride).map(|&v| v.into()).collect(),
            }
        };
        for strength in [0.3, 1.0] {
            for (at, plain) in frames(Layout::Luma).iter().enumerate() {
                let expected = plain.with_luma(&results, strength).unwrap();
                assert_ne!(firsts(&expected), firsts(plain));
                for layout in [Layout::LumaAlpha, Layout::Rgb, Layout::Rgba] {
                    let frame = &frames(layout)[at];
                    assert_eq!(frame.luma(), plain.luma(), "{layout:?}");
                    assert_eq!(frame.rgb(), plain.rgb(), "{layout:?}");
                    let blended = frame.with_luma(&results, strength).unwrap();
                    assert_eq!(firsts(&blended), firsts(&expected), "{layout:?}");
                    assert_eq!(blended.rgb(), expected.rgb(), "{layout:?}: grey stays grey");
                }
            }
        }
    }

    #[test]
    fn strength_zero_is_the_identity_and_one_the_result() {
        let frame = Frame::from_rgba8(2, 1, vec![7, 7, 7, 9, 12, 10, 11, 255]).unwrap();
        let white = tensor(1, 1, 2, |_| 1.0);
        assert_eq!(frame.with_luma(&white, 0.0).unwrap(), frame);
        let full = frame.with_luma(&white, 1.0).unwrap();
        assert_eq!(full.as_u8().unwrap()[..4], [255, 255, 255, 9]);
        let half = Frame::from_luma8(2, 1, vec![100, 101]).unwrap().with_luma(&tensor(1, 1, 2, |_| 0.0), 0.5).unwrap();
        assert_eq!(half.as_u8().unwrap(), [50, 51]);
    }

    #[test]
    fn colour_alpha_and_transparent_pixels_pass_unchanged() {
        let samples = vec![200, 20, 20, 255, 90, 90, 90, 128, 90, 90, 90, 0, 100, 104, 96, 255];
        let frame = Frame::from_rgba8(4, 1, samples).unwrap();
        let changed = frame.with_luma(&tensor(1, 1, 4, |_| 0.8), 1.0).unwrap();
        let out = changed.as_u8().unwrap();
        assert_eq!(out[..4], [200, 20, 20, 255]);
        assert_eq!(out[4..8], [204, 204, 204, 128]);
        assert_eq!(out[8..12], [90, 90, 90, 0]);
        assert_eq!((out[13] - out[12], out[12] - out[14], out[15]), (4, 4, 255));
        assert_eq!(frame.coloured_pixels(), 1);
        let spread = COLOUR_SPREAD as u8;
        assert!(!carries_colour(&[spread, 0, 0], Layout::Rgb) && carries_colour(&[spread + 1, 0, 0], Layout::Rgb));
    }

    #[test]
    fn strength_zero_of_a_larger_result_is_a_plain_enlargement() {
        let frame = Frame::from_luma8(3, 2, vec![0, 40, 80, 40, 80, 120]).unwrap();
        let big = frame.with_luma(&tensor(1, 4, 6, |_| 1.0), 0.0).unwrap();
        assert_eq!((big.width(), big.height()), (6, 4));
        assert_eq!(big.as_u8().unwrap()[..6], [0, 10, 30, 50, 70, 80]);
        assert_eq!(big.as_u8().unwrap()[6..12], [10, 20, 40, 60, 80, 90]);
        let colour = Frame::from_rgba8(1, 1, vec![250, 0, 0, 77]).unwrap();
        let big = colour.with_luma(&tensor(1, 4, 4, |_| 1.0), 1.0).unwrap();
        assert_eq!(big.as_u8().unwrap(), [250, 0, 0, 77].repeat(16));
        let rgb = Frame::from_rgb8(1, 1, vec![1, 2, 3]).unwrap().with_rgb(&tensor(3, 2, 2, |i| i as f32), 1.0).unwrap();
        assert_eq!(rgb.as_u8().unwrap()[..6], [0, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn unusable_results_are_errors() {
        let frame = Frame::from_luma8(3, 2, vec![0; 6]).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bad = tensor(1, 2, 3, |i| if i == 5 { value } else { 0.0 });
            assert!(matches!(frame.with_luma(&bad, 0.0), Err(Error::NonFinite(_))));
            assert!(matches!(Frame::from_tensor(&bad), Err(Error::NonFinite(_))));
        }
        let good = frame.luma();
        for strength in [-0.1, 1.1, f32::NAN] {
            assert!(matches!(frame.with_luma(&good, strength), Err(Error::Options(_))));
        }
        for (c, h, w) in [(1, 3, 2), (3, 2, 3), (1, 4, 3), (1, 1, 1), (1, 0, 0)] {
            assert!(matches!(frame.with_luma(&tensor(c, h, w, |_| 0.0), 1.0), Err(Error::Shape(_))), "{c}x{h}x{w}");
        }
    }

    #[test]
    fn the_difference_map_is_grey_where_nothing_changed() {
        let before = Frame::from_luma8(3, 1, vec![100, 100, 100]).unwrap();
        let after = Frame::from_luma8(3, 1, vec![100, 110, 10]).unwrap();
        assert_eq!(difference(&before, &after).unwrap().as_u8().unwrap(), [128, 148, 0]);
        let wide = Frame::from_luma16(3, 1, vec![25_700; 3]).unwrap();
        assert_eq!(difference(&wide, &before).unwrap().as_u8().unwrap(), [128, 128, 128]);
    }
}
