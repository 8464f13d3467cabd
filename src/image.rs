//! Frames: a decoded picture that keeps everything needed to write it back.
//!
//! A [`Frame`] holds 8 or 16 bits per sample, grey or colour, with or without alpha, exactly as decoded. A one-channel
//! generator sees [`Frame::luma`] and gives its result back through [`Frame::with_luma`]; a three-channel one uses
//! [`Frame::rgb`] and [`Frame::with_rgb`].

mod blend;
mod codec;

pub use blend::{COLOUR_SPREAD, DIFFERENCE_GAIN, difference};
pub use codec::{DECODE_LIMIT_BYTES, Format, write_atomically};

use crate::error::{Error, Result};

/// The samples of one pixel, in the order they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Grey.
    Luma,
    /// Grey, alpha.
    LumaAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
}

impl Layout {
    /// Samples per pixel, 1 to 4, alpha included.
    pub const fn samples(self) -> usize {
        match self {
            Self::Luma => 1,
            Self::LumaAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// True if the last sample of a pixel is alpha.
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::LumaAlpha | Self::Rgba)
    }

    /// True if a pixel has red, green and blue.
    pub const fn has_colour(self) -> bool {
        matches!(self, Self::Rgb | Self::Rgba)
    }

    /// Samples per pixel without alpha: 1 or 3.
    pub const fn colours(self) -> usize {
        if self.has_colour() { 3 } else { 1 }
    }

    const fn without_alpha(self) -> Self {
        if self.has_colour() { Self::Rgb } else { Self::Luma }
    }
}

/// A picture's samples, row-major and interleaved: `[height, width, samples per pixel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Samples {
    /// 8 bits per sample, 0 to 255.
    U8(Vec<u8>),
    /// 16 bits per sample, 0 to 65535.
    U16(Vec<u16>),
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
        }
    }
}

/// A picture: its size, its samples as decoded, and its colour profile.
///
/// # Example
/// ```
/// use sonolume::image::{Format, Frame};
///
/// let frame = Frame::from_luma8(3, 2, vec![0, 10, 20, 30, 40, 50])?;
/// let unchanged = frame.with_luma(&frame.luma(), 1.0)?;
/// assert_eq!(unchanged, frame);
/// assert_eq!(Frame::decode(&frame.encode(Format::Png)?)?, frame);
/// # Ok::<(), sonolume::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    layout: Layout,
    samples: Samples,
    /// Only a profile that fits the layout ("GRAY" for grey, "RGB " for colour).
    icc_profile: Option<Vec<u8>>,
}

impl Frame {
    /// A frame from its parts; `samples` is `[height, width, layout.samples()]`.
    ///
    /// # Errors
    /// [`Error::Image`] if a side is zero or longer than `u32::MAX`, or the number of samples is another.
    pub fn new(width: usize, height: usize, layout: Layout, samples: Samples) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::image(format!("the picture is empty ({width}x{height} pixels)")));
        }
        if u32::try_from(width).is_err() || u32::try_from(height).is_err() {
            return Err(Error::image(format!("the picture's sides are too long ({width}x{height} pixels)")));
        }
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(layout.samples()));
        if expected != Some(samples.len()) {
            return Err(Error::image(format!(
                "a {width}x{height} picture with {} samples per pixel does not have {} samples",
                layout.samples(),
                samples.len()
            )));
        }
        Ok(Self { width, height, layout, samples, icc_profile: None })
    }

    /// An 8-bit grey frame; `samples` is `[height, width]`.
    ///
    /// # Errors
    /// As [`Frame::new`], like all constructors from buffers.
    pub fn from_luma8(width: usize, height: usize, samples: Vec<u8>) -> Result<Self> {
        Self::new(width, height, Layout::Luma, Samples::U8(samples))
    }

    /// A 16-bit grey frame; `samples` is `[height, width]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_luma16(width: usize, height: usize, samples: Vec<u16>) -> Result<Self> {
        Self::new(width, height, Layout::Luma, Samples::U16(samples))
    }

    /// An 8-bit colour frame; `samples` is `[height, width, 3]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_rgb8(width: usize, height: usize, samples: Vec<u8>) -> Result<Self> {
        Self::new(width, height, Layout::Rgb, Samples::U8(samples))
    }

    /// A 16-bit colour frame; `samples` is `[height, width, 3]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_rgb16(width: usize, height: usize, samples: Vec<u16>) -> Result<Self> {
        Self::new(width, height, Layout::Rgb, Samples::U16(samples))
    }

    /// An 8-bit colour frame with straight (not premultiplied) alpha; `samples` is `[height, width, 4]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_rgba8(width: usize, height: usize, samples: Vec<u8>) -> Result<Self> {
        Self::new(width, height, Layout::Rgba, Samples::U8(samples))
    }

    /// A 16-bit colour frame with straight (not premultiplied) alpha; `samples` is `[height, width, 4]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_rgba16(width: usize, height: usize, samples: Vec<u16>) -> Result<Self> {
        Self::new(width, height, Layout::Rgba, Samples::U16(samples))
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// What the samples of a pixel mean.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Bits per sample, 8 or 16.
    pub fn bits(&self) -> u32 {
        match self.samples {
            Samples::U8(_) => 8,
            Samples::U16(_) => 16,
        }
    }

    /// The samples, `[height, width, layout.samples()]`.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Gives the samples away.
    pub fn into_samples(self) -> Samples {
        self.samples
    }

    /// The samples of an 8-bit frame.
    pub fn as_u8(&self) -> Option<&[u8]> {
        match &self.samples {
            Samples::U8(samples) => Some(samples),
            Samples::U16(_) => None,
        }
    }

    /// The samples of a 16-bit frame.
    pub fn as_u16(&self) -> Option<&[u16]> {
        match &self.samples {
            Samples::U16(samples) => Some(samples),
            Samples::U8(_) => None,
        }
    }

    /// The ICC colour profile that came with the picture and is written back with it.
    pub fn icc_profile(&self) -> Option<&[u8]> {
        self.icc_profile.as_deref()
    }

    /// The same picture with 8 bits per sample, `round(value / 257)`; an 8-bit frame is returned as it is.
    #[must_use]
    pub fn to_8bit(&self) -> Self {
        let Samples::U16(samples) = &self.samples else { return self.clone() };
        let samples = samples.iter().map(|&value| ((u32::from(value) + 128) / 257) as u8).collect();
        Self { samples: Samples::U8(samples), ..self.clone_header() }
    }

    /// The samples as screens and canvases take them: 8-bit red, green, blue and straight alpha, `[height, width, 4]`.
    #[must_use]
    pub fn to_rgba8(&self) -> Vec<u8> {
        let narrow = self.to_8bit();
        let Samples::U8(samples) = narrow.samples else { return Vec::new() };
        match self.layout {
            Layout::Luma => samples.iter().flat_map(|&grey| [grey, grey, grey, u8::MAX]).collect(),
            Layout::LumaAlpha => samples.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect(),
            Layout::Rgb => samples.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], u8::MAX]).collect(),
            Layout::Rgba => samples,
        }
    }

    /// The same picture without its alpha samples; nothing is composited.
    #[must_use]
    pub fn without_alpha(&self) -> Self {
        fn strip<T: Copy>(samples: &[T], stride: usize) -> Vec<T> {
            samples.chunks_exact(stride).flat_map(|pixel| pixel[..stride - 1].iter().copied()).collect()
        }
        if !self.layout.has_alpha() {
            return self.clone();
        }
        let stride = self.layout.samples();
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(strip(samples, stride)),
            Samples::U16(samples) => Samples::U16(strip(samples, stride)),
        };
        Self { layout: self.layout.without_alpha(), samples, ..self.clone_header() }
    }

    /// True if no pixel is even slightly transparent.
    pub fn is_opaque(&self) -> bool {
        fn all_opaque<T: PartialEq>(samples: &[T], stride: usize, opaque: &T) -> bool {
            samples.chunks_exact(stride).all(|pixel| &pixel[stride - 1] == opaque)
        }
        let stride = self.layout.samples();
        !self.layout.has_alpha()
            || match &self.samples {
                Samples::U8(samples) => all_opaque(samples, stride, &u8::MAX),
                Samples::U16(samples) => all_opaque(samples, stride, &u16::MAX),
            }
    }

    /// Everything but the samples.
    fn clone_header(&self) -> Self {
        Self {
            width: self.width,
            height: self.height,
            layout: self.layout,
            samples: Samples::U8(Vec::new()),
            icc_profile: self.icc_profile.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_mismatched_buffers_are_errors() {
        assert!(matches!(Frame::from_luma8(0, 4, vec![]), Err(Error::Image { .. })));
        assert!(matches!(Frame::from_luma8(4, 0, vec![]), Err(Error::Image { .. })));
        assert!(matches!(Frame::from_rgba8(2, 3, vec![0; 23]), Err(Error::Image { .. })));
        assert!(matches!(Frame::from_luma16(usize::MAX, 2, vec![0; 3]), Err(Error::Image { .. })));
        assert!(Frame::from_rgb16(2, 3, vec![0; 18]).is_ok());
    }

    #[test]
    fn eight_bits_are_the_nearest_of_sixteen() {
        let frame = Frame::from_luma16(5, 1, vec![0, 128, 129, 65_406, 65_535]).unwrap();
        assert_eq!(frame.to_8bit().as_u8().unwrap(), [0, 0, 1, 254, 255]);
        let wide: Vec<u16> = (0..=255).map(|value: u16| value * 257).collect();
        let narrow: Vec<u8> = (0..=255).collect();
        assert_eq!(Frame::from_luma16(256, 1, wide).unwrap().to_8bit().as_u8().unwrap(), narrow);
    }

    #[test]
    fn screens_get_four_samples_a_pixel() {
        let grey = Frame::from_luma16(2, 1, vec![257, 65_535]).unwrap();
        assert_eq!(grey.to_rgba8(), [1, 1, 1, 255, 255, 255, 255, 255]);
        let veiled = Frame::new(1, 1, Layout::LumaAlpha, Samples::U8(vec![7, 9])).unwrap();
        assert_eq!(veiled.to_rgba8(), [7, 7, 7, 9]);
        assert_eq!(Frame::from_rgb8(1, 1, vec![1, 2, 3]).unwrap().to_rgba8(), [1, 2, 3, 255]);
        assert_eq!(Frame::from_rgba8(1, 1, vec![1, 2, 3, 4]).unwrap().to_rgba8(), [1, 2, 3, 4]);
    }

    #[test]
    fn alpha_is_dropped_and_recognised() {
        let frame = Frame::from_rgba8(2, 1, vec![1, 2, 3, 255, 4, 5, 6, 254]).unwrap();
        assert!(!frame.is_opaque());
        assert_eq!(frame.without_alpha().as_u8().unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(Frame::from_rgba8(1, 1, vec![1, 2, 3, 255]).unwrap().is_opaque());
    }
}
