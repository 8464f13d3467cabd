//! Reading and writing files: PNG, JPEG, TIFF, BMP and WebP.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::codecs::{bmp::BmpEncoder, jpeg::JpegEncoder, png::PngEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use super::{Frame, Layout, Samples};
use crate::error::{Error, Result};

/// The most memory that decoding one picture may take: room for 16384x16384 pixels of 16-bit RGBA, twice.
pub const DECODE_LIMIT_BYTES: u64 = 4 << 30;

/// JPEG is for people who ask for it; at this quality (of 100) its loss stays near one grey level.
const JPEG_QUALITY: u8 = 95;

/// A picture file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// PNG: lossless, 8 or 16 bits, alpha.
    Png,
    /// JPEG at quality 95 without chroma subsampling: 8 bits, no alpha.
    Jpeg,
    /// TIFF: lossless, 8 or 16 bits, alpha (grey with alpha is written as RGBA). The first page only.
    Tiff,
    /// Windows bitmap: 8 bits, alpha (grey with alpha is written as RGBA).
    Bmp,
    /// WebP, lossless: 8 bits, alpha, at most 16383 pixels a side. Grey is read back as RGB.
    WebP,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Png, Self::Jpeg, Self::Tiff, Self::Bmp, Self::WebP];

    /// The usual file name endings, without the dot, the most usual first.
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Self::Tiff => &["tif", "tiff"],
            Self::Bmp => &["bmp", "dib"],
            Self::WebP => &["webp"],
        }
    }

    /// The format's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
        }
    }

    /// The format that a file name ends in, upper or lower case.
    pub fn from_path(path: impl AsRef<Path>) -> Option<Self> {
        let ending = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.extensions().contains(&ending.as_str()))
    }

    /// The format that a file's first bytes show.
    pub fn guess(bytes: &[u8]) -> Option<Self> {
        match image::guess_format(bytes).ok()? {
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Tiff => Some(Self::Tiff),
            ImageFormat::Bmp => Some(Self::Bmp),
            ImageFormat::WebP => Some(Self::WebP),
            _ => None,
        }
    }

    const fn codec(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Tiff => ImageFormat::Tiff,
            Self::Bmp => ImageFormat::Bmp,
            Self::WebP => ImageFormat::WebP,
        }
    }
}

impl Frame {
    /// Decodes a PNG, JPEG, TIFF, BMP or WebP file held in memory; the format is recognised from its content.
    ///
    /// Palettes and 1, 2 and 4 bits per sample become 8 bits; 16 bits stay. An orientation in the metadata (EXIF) is
    /// applied: generators expect depth to run downwards, and the tag is not written back, so the picture
    /// looks the same in a viewer before and after. Of several pages or animation frames, the first is read.
    ///
    /// # Errors
    /// [`Error::Image`] if the format is none of these, the file is empty, truncated or damaged, a sample is not 8 or
    /// 16 bits, or the picture would take more than [`DECODE_LIMIT_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::image("the picture is empty (0 bytes)"));
        }
        let format = Format::guess(bytes).ok_or_else(|| Error::image(unknown(bytes)))?;
        let damaged = |source: image::ImageError| Error::Image {
            message: match &source {
                image::ImageError::Limits(_) => {
                    format!("the {} picture is larger than {} GiB in memory", format.name(), DECODE_LIMIT_BYTES >> 30)
                }
                _ => format!(
                    "the {} picture cannot be decoded (damaged, truncated, or of an unusual kind): {source}",
                    format.name()
                ),
            },
            source: Some(Box::new(source)),
        };
        if format == Format::Jpeg && !jpeg_is_complete(bytes) {
            return Err(Error::image("the JPEG picture is truncated (its end marker is missing)"));
        }

        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(DECODE_LIMIT_BYTES);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format.codec());
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(Error::image(format!("the {} picture is empty ({width}x{height} pixels)", format.name())));
        }
        if decoder.total_bytes() > DECODE_LIMIT_BYTES || isize::try_from(decoder.total_bytes()).is_err() {
            return Err(Error::image(format!(
                "the {} picture is too large ({width}x{height} pixels take {} MiB, at most {} MiB are allowed)",
                format.name(),
                decoder.total_bytes() >> 20,
                DECODE_LIMIT_BYTES >> 20
            )));
        }
        // A damaged profile or orientation is no reason to refuse the pixels.
        let icc_profile = decoder.icc_profile().ok().flatten();
        let orientation = decoder.orientation().ok();
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        if let Some(orientation) = orientation {
            decoded.apply_orientation(orientation);
        }

        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let (layout, samples) = match decoded {
            DynamicImage::ImageLuma8(buffer) => (Layout::Luma, Samples::U8(buffer.into_raw())),
            DynamicImage::ImageLumaA8(buffer) => (Layout::LumaAlpha, Samples::U8(buffer.into_raw())),
            DynamicImage::ImageRgb8(buffer) => (Layout::Rgb, Samples::U8(buffer.into_raw())),
            DynamicImage::ImageRgba8(buffer) => (Layout::Rgba, Samples::U8(buffer.into_raw())),
            DynamicImage::ImageLuma16(buffer) => (Layout::Luma, Samples::U16(buffer.into_raw())),
            DynamicImage::ImageLumaA16(buffer) => (Layout::LumaAlpha, Samples::U16(buffer.into_raw())),
            DynamicImage::ImageRgb16(buffer) => (Layout::Rgb, Samples::U16(buffer.into_raw())),
            DynamicImage::ImageRgba16(buffer) => (Layout::Rgba, Samples::U16(buffer.into_raw())),
            other => {
                return Err(Error::image(format!(
                    "{:?} samples are not supported: save the picture with 8 or 16 bits per sample",
                    other.color()
                )));
            }
        };
        let mut frame = Self::new(width, height, layout, samples)?;
        frame.icc_profile = icc_profile.filter(|profile| profile_fits(profile, layout));
        Ok(frame)
    }

    /// Reads and decodes a file, as [`Frame::decode`].
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Image`] (naming the file) if it cannot be decoded.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::file(path, source))?;
        Self::decode(&bytes).map_err(|error| match error {
            Error::Image { message, source } => {
                Error::Image { message: format!("{}: {message}", path.display()), source }
            }
            other => other,
        })
    }

    /// Encodes the picture.
    ///
    /// Nothing is lost silently, except that JPEG is lossy by nature. An alpha channel that is opaque everywhere is
    /// left out where the format has none.
    ///
    /// # Errors
    /// [`Error::Options`] if the format cannot hold 16 bits ([`Frame::to_8bit`] converts), a transparent pixel
    /// ([`Frame::without_alpha`] drops alpha) or a picture this large; the message names formats that can.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>> {
        self.check_format(format)?;
        if format == Format::Jpeg && self.layout.has_alpha() {
            return self.without_alpha().encode(format);
        }
        // The TIFF encoder has no grey with alpha, and the BMP encoder drops its alpha without a word.
        if matches!(format, Format::Tiff | Format::Bmp) && self.layout == Layout::LumaAlpha {
            return self.grey_to_rgba().encode(format);
        }

        let failed = |source: image::ImageError| Error::Image {
            message: format!("the picture cannot be written as {}: {source}", format.name()),
            source: Some(Box::new(source)),
        };
        let mut out = Cursor::new(Vec::new());
        match format {
            Format::Png => self.encode_with(PngEncoder::new(&mut out)),
            Format::Jpeg => self.encode_with(JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)),
            Format::Tiff => self.encode_with(TiffEncoder::new(&mut out)),
            Format::Bmp => self.encode_with(BmpEncoder::new(&mut out)),
            Format::WebP => self.encode_with(WebPEncoder::new_lossless(&mut out)),
        }
        .map_err(failed)?;
        Ok(out.into_inner())
    }

    /// Fails if the format cannot hold this picture's bits, transparency or size: what [`Frame::encode`] would say, before
    /// work is done for it.
    ///
    /// # Errors
    /// [`Error::Options`], as [`Frame::encode`].
    pub fn check_format(&self, format: Format) -> Result<()> {
        if self.bits() == 16 && !matches!(format, Format::Png | Format::Tiff) {
            return Err(Error::Options(format!(
                "{} holds 8 bits per sample and this picture has 16: write PNG or TIFF, or convert it to 8 bits first",
                format.name()
            )));
        }
        let side = match format {
            Format::WebP => 16_383,
            Format::Jpeg => 65_535,
            _ => u32::MAX as usize,
        };
        if self.width.max(self.height) > side {
            return Err(Error::Options(format!(
                "{} holds at most {side} pixels a side and this picture has {}x{}: write PNG or TIFF",
                format.name(),
                self.width,
                self.height
            )));
        }
        if format == Format::Jpeg && !self.is_opaque() {
            return Err(Error::Options(
                "JPEG cannot hold transparent pixels: write PNG, TIFF, BMP or WebP, or drop alpha first".into(),
            ));
        }
        Ok(())
    }

    /// Encodes the picture in the format that the file name ends in and writes it as [`write_atomically`] does.
    ///
    /// # Errors
    /// [`Error::Options`] if the name ends in no known format, or as [`Frame::encode`]; [`Error::File`] if it
    /// cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let format = Format::from_path(path).ok_or_else(|| {
            Error::Options(format!("{}: the file name must end in .png, .jpg, .tif, .bmp or .webp", path.display()))
        })?;
        write_atomically(path, &self.encode(format)?)
    }

    fn encode_with(&self, mut encoder: impl ImageEncoder) -> image::ImageResult<()> {
        if let Some(profile) = &self.icc_profile {
            // BMP has no place for one; the pixels are written all the same.
            let _ = encoder.set_icc_profile(profile.clone());
        }
        let (width, height) = (self.width as u32, self.height as u32);
        match &self.samples {
            Samples::U8(samples) => {
                let colour = match self.layout {
                    Layout::Luma => ExtendedColorType::L8,
                    Layout::LumaAlpha => ExtendedColorType::La8,
                    Layout::Rgb => ExtendedColorType::Rgb8,
                    Layout::Rgba => ExtendedColorType::Rgba8,
                };
                encoder.write_image(samples, width, height, colour)
            }
            Samples::U16(samples) => {
                let colour = match self.layout {
                    Layout::Luma => ExtendedColorType::L16,
                    Layout::LumaAlpha => ExtendedColorType::La16,
                    Layout::Rgb => ExtendedColorType::Rgb16,
                    Layout::Rgba => ExtendedColorType::Rgba16,
                };
                encoder.write_image(bytemuck::cast_slice(samples), width, height, colour)
            }
        }
    }

    fn grey_to_rgba(&self) -> Self {
        fn widen<T: Copy>(samples: &[T]) -> Vec<T> {
            samples.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect()
        }
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(widen(samples)),
            Samples::U16(samples) => Samples::U16(widen(samples)),
        };
        Self { width: self.width, height: self.height, layout: Layout::Rgba, samples, icc_profile: None }
    }
}

/// Writes a file so that nobody ever sees half of it: into a temporary file in the same folder, then renamed.
///
/// An existing file is replaced in one step and keeps its permissions, or stays as it was. A symbolic link is followed. What is not a plain file (a
/// pipe, `/dev/stdout`) is written directly, since a rename would replace it.
///
/// # Errors
/// [`Error::File`] naming `path`; the temporary file is removed.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    replace(path, bytes).map_err(|source| Error::file(path, source))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut permissions = None;
    let target = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "this is a folder, not a file"));
        }
        Ok(found) if !found.is_file() => {
            return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
        }
        Ok(found) if found.permissions().readonly() => {
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the file is read-only"));
        }
        Ok(found) => {
            permissions = Some(found.permissions());
            std::fs::canonicalize(path)?
        }
        Err(_) => end_of_links(path),
    };
    let temporary = temporary_beside(&target)?;
    let written = (|| {
        {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions)?;
            }
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        std::fs::rename(&temporary, &target)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Where a path leads that leads to nothing yet.
fn end_of_links(path: &Path) -> PathBuf {
    // As many as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&at) {
            Ok(to) => at = at.parent().map_or_else(|| to.clone(), |parent| parent.join(&to)),
            Err(_) => break,
        }
    }
    at
}

fn temporary_beside(target: &Path) -> std::io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    if target.file_name().is_none() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "this is not a file name"));
    }
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Short on purpose: derived from the target's name it could exceed the file system's limit.
    Ok(target.with_file_name(format!(".sonolume-{}-{count}.tmp", process_id())))
}

fn process_id() -> u32 {
    #[cfg(not(target_arch = "wasm32"))]
    return std::process::id();
    // `std::process::id` panics there, and there are no files to begin with.
    #[cfg(target_arch = "wasm32")]
    return 0;
}

/// True if an end marker follows the last start-of-scan marker.
///
/// The decoder fills what is missing with grey instead of reporting it. Entropy-coded data never holds either
/// marker: there, 0xFF is followed by zero or a restart marker.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    match (last(0xDA), last(0xD9)) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

/// A profile describes grey or RGB samples (ICC header, bytes 16 to 19); one of another kind (a CMYK JPEG's) would be
/// wrong for what was decoded.
fn profile_fits(profile: &[u8], layout: Layout) -> bool {
    let expected: &[u8] = if layout.has_colour() { b"RGB " } else { b"GRAY" };
    profile.get(16..20) == Some(expected)
}

/// What to say of a file that is none of ours.
fn unknown(bytes: &[u8]) -> &'static str {
    match bytes.get(128..132) {
        Some(b"DICM") => "DICOM files are not read: save the picture as a PNG with a DICOM viewer",
        _ => "the picture's format is not recognised: use PNG, JPEG, TIFF, BMP or WebP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let bytes = |n: usize| (0..n).map(|i| (i * 37 % 251) as u8).collect::<Vec<_>>();
        let words = |n: usize| (0..n).map(|i| (i * 7919 % 65_521) as u16).collect::<Vec<_>>();
        let mut frames = Vec::new();
        for layout in [Layout::Luma, Layout::LumaAlpha, Layout::Rgb, Layout::Rgba] {
            let n = 7 * 5 * layout.samples();
            frames.push(Frame::new(7, 5, layout, Samples::U8(bytes(n))).unwrap());
            frames.push(Frame::new(7, 5, layout, Samples::U16(words(n))).unwrap());
        }
        frames
    }

    #[test]
    fn dicom_files_are_called_by_their_name() {
        let mut file = vec![0; 128];
        file.extend(b"DICM and what follows");
        assert!(Frame::decode(&file).unwrap_err().to_string().contains("DICOM"));
        assert!(!Frame::decode(&file[..100]).unwrap_err().to_string().contains("DICOM"));
    }

    #[test]
    fn lossless_formats_give_back_every_sample_or_refuse() {
        for frame in frames() {
            for format in [Format::Png, Format::Tiff, Format::Bmp, Format::WebP] {
                let encoded = match frame.encode(format) {
                    Ok(encoded) => encoded,
                    Err(Error::Options(_)) if frame.bits() == 16 && format != Format::Png && format != Format::Tiff => {
                        continue;
                    }
                    Err(error) => panic!("{:?} {} {format:?}: {error}", frame.layout, frame.bits()),
                };
                assert_eq!(Format::guess(&encoded), Some(format));
                let back = Frame::decode(&encoded).unwrap();
                assert_eq!(back.bits(), frame.bits());
                assert_eq!(
                    (back.rgb(), back.is_opaque()),
                    (frame.rgb(), frame.is_opaque()),
                    "{:?} {format:?}",
                    frame.layout
                );
                if back.layout == frame.layout {
                    assert_eq!(back, frame);
                }
                assert!(frame.layout.has_alpha() == back.layout.has_alpha(), "{:?} {format:?}", frame.layout);
            }
        }
    }

    #[test]
    fn jpeg_is_close_and_refuses_what_it_cannot_hold() {
        let smooth: Vec<u8> = (0..64 * 48).map(|i| ((i % 64) * 2 + (i / 64) * 2) as u8).collect();
        let frame = Frame::from_luma8(64, 48, smooth).unwrap();
        let back = Frame::decode(&frame.encode(Format::Jpeg).unwrap()).unwrap();
        assert_eq!(back.layout, Layout::Luma);
        let worst = frame.as_u8().unwrap().iter().zip(back.as_u8().unwrap()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(3), "{worst:?}");
        assert!(matches!(Frame::from_luma16(1, 1, vec![1]).unwrap().encode(Format::Jpeg), Err(Error::Options(_))));
        assert!(matches!(Frame::from_rgba8(1, 1, vec![1; 4]).unwrap().encode(Format::Jpeg), Err(Error::Options(_))));
        assert!(Frame::from_rgba8(1, 1, vec![255; 4]).unwrap().encode(Format::Jpeg).is_ok());
        assert!(matches!(
            Frame::from_luma8(16_384, 1, vec![0; 16_384]).unwrap().encode(Format::WebP),
            Err(Error::Options(_))
        ));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let frame = Frame::from_rgb8(19, 13, (0..19 * 13 * 3).map(|i| (i * 31 % 256) as u8).collect()).unwrap();
        for format in Format::ALL {
            let encoded = frame.encode(format).unwrap();
            for cut in (0..encoded.len()).step_by(1 + encoded.len() / 60) {
                // What follows the last pixel (PNG's IEND, padding) may be lost without harm.
                match Frame::decode(&encoded[..cut]) {
                    Err(Error::Image { .. }) => {}
                    Ok(back) if cut + 16 > encoded.len() => assert_eq!(back.rgb(), frame.rgb(), "{format:?} {cut}"),
                    other => panic!("{format:?} cut to {cut} of {}: {other:?}", encoded.len()),
                }
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic() {
        let frame = Frame::from_luma16(11, 9, (0..99).map(|i| i * 600).collect()).unwrap();
        for format in Format::ALL {
            let encoded = frame.encode(format).or_else(|_| frame.to_8bit().encode(format)).unwrap();
            for bit in 0..encoded.len().min(400) * 8 {
                let mut damaged = encoded.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let _ = Frame::decode(&damaged);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let frame = Frame::from_luma8(1, 1, vec![0]).unwrap();
        let mut bomb = frame.encode(Format::Bmp).unwrap();
        bomb[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
        bomb[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
        assert!(matches!(Frame::decode(&bomb), Err(Error::Image { .. })));
        bomb[18..22].copy_from_slice(&0_u32.to_le_bytes());
        assert!(matches!(Frame::decode(&bomb), Err(Error::Image { .. })));
        assert!(matches!(Frame::decode(b"not a picture"), Err(Error::Image { .. })));
        assert!(matches!(Frame::decode(b""), Err(Error::Image { .. })));
    }

    // Written by Pillow: `Image.new("P" or "1", ...)`, saved with `bits=2` and as is.
    #[test]
    fn palettes_and_single_bits_decode() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let palette = Frame::decode(&hex(PALETTE_PNG)).unwrap();
        assert_eq!((palette.layout, palette.bits()), (Layout::Rgb, 8));
        assert_eq!(palette.as_u8().unwrap(), [0, 0, 0, 80, 80, 80, 255, 0, 0, 255, 0, 0, 80, 80, 80, 0, 0, 0]);
        let bits = Frame::decode(&hex(BITS_PNG)).unwrap();
        assert_eq!((bits.layout, bits.as_u8().unwrap()), (Layout::Luma, &[0, 255, 255, 255, 0, 255][..]));
    }

    #[test]
    fn saving_replaces_in_one_step_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let first = Frame::from_luma8(2, 1, vec![1, 2]).unwrap();
        let second = Frame::from_luma8(1, 1, vec![3]).unwrap();
        first.save(&path).unwrap();
        second.save(&path).unwrap();
        assert_eq!(Frame::open(&path).unwrap(), second);
        assert!(matches!(first.save(folder.path().join("none/picture.png")), Err(Error::File { .. })));
        assert!(matches!(first.save(folder.path().join("picture.txt")), Err(Error::Options(_))));
        std::fs::create_dir(folder.path().join("folder.png")).unwrap();
        assert!(matches!(first.save(folder.path().join("folder.png")), Err(Error::File { .. })));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(matches!(Frame::open(folder.path().join("missing.png")), Err(Error::File { .. })));
    }

    #[test]
    fn a_fitting_colour_profile_is_written_back() {
        let mut profile = vec![0; 132];
        profile[16..20].copy_from_slice(b"GRAY");
        let mut frame = Frame::from_luma8(1, 1, vec![9]).unwrap();
        frame.icc_profile = Some(profile.clone());
        assert_eq!(Frame::decode(&frame.encode(Format::Png).unwrap()).unwrap().icc_profile(), Some(&profile[..]));
        assert!(!profile_fits(&profile, Layout::Rgb) && !profile_fits(b"short", Layout::Luma));
    }

    const PALETTE_PNG: &str = "\
        89504e470d0a1a0a0000000d4948445200000003000000020203000000e01a8e890000000c504c5445000000505050ff0000\
        00ff0046a83a2f0000000c49444154789c63906098000000dc00a96ce7c0230000000049454e44ae426082";

    const BITS_PNG: &str = "\
        89504e470d0a1a0a0000000d4948445200000003000000020100000000b50f5bb70000000c49444154789c63486072000001\
        6800a3fed602ec0000000049454e44ae426082";
}
