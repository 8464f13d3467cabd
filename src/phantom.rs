//! A small B-mode simulator: any size, linear or fan geometry, a high- and a low-quality picture of one scene.
//!
//! A field of complex scatterers, weighted by the scene's echogenicity, is blurred by a Gaussian point-spread function
//! in beam space (rows are depth, columns scan lines); its magnitude is fully developed speckle. Log compression and scan conversion
//! make the picture. The low-quality picture is the same field with a wider lateral PSF, fewer scan lines,
//! attenuation with depth, a noise floor, a smaller dynamic range and a darker curve.
//!
//! The same options give the same bits on every platform: random numbers are integer hashes of the position, and every
//! transcendental function is `libm`'s. Memory is about 20 bytes per pixel.

mod field;
mod random;
mod scene;

use rayon::prelude::*;

pub use scene::{Cyst, Point, Scene};

use crate::error::{Error, Result};
use crate::image::Frame;
use crate::tensor::{HostTensor, Shape};
use field::Field;

/// How scan lines lie in the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Geometry {
    /// Parallel lines straight down, filling the picture (linear probe).
    Linear,
    /// Lines fanning out from a curved probe at the top; black outside the sector (curvilinear probe).
    Fan,
}

/// What separates the low-quality picture from the high-quality one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Degradation {
    /// Lateral PSF width over the high-quality one's, at least 1.
    pub lateral_blur: f32,
    /// Every how many scan lines one is kept; the others are interpolated.
    pub line_step: usize,
    /// Attenuation at the bottom, dB; proportional to depth.
    pub attenuation_db: f32,
    /// Noise floor relative to average tissue, dB; negative.
    pub noise_db: f32,
    /// Dynamic range shown, dB.
    pub dynamic_range_db: f32,
    /// Exponent applied to the grey levels; above 1 is darker.
    pub gamma: f32,
}

impl Default for Degradation {
    /// The middle of what was measured between handheld and cart images.
    fn default() -> Self {
        Self {
            lateral_blur: 1.4,
            line_step: 2,
            attenuation_db: 11.0,
            noise_db: -26.0,
            dynamic_range_db: 52.0,
            gamma: 1.2,
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct PhantomOptions {
    /// Columns of the picture, at least 16.
    pub width: usize,
    /// Rows of the picture, at least 16.
    pub height: usize,
    /// How scan lines lie.
    pub geometry: Geometry,
    /// What is looked at.
    pub scene: Scene,
    /// Chooses the scene's details and the speckle.
    pub seed: u64,
    /// Lateral speckle size at the focus of the high-quality picture, pixels (FWHM of the envelope's autocorrelation), 1 to 64.
    pub lateral_fwhm: f32,
    /// Axial speckle size, pixels, 1 to 64.
    pub axial_fwhm: f32,
    /// Dynamic range of the high-quality picture, dB.
    pub dynamic_range_db: f32,
    /// The low-quality picture.
    pub degradation: Degradation,
}

impl Default for PhantomOptions {
    fn default() -> Self {
        Self {
            width: 512,
            height: 384,
            geometry: Geometry::Linear,
            scene: Scene::Anatomy,
            seed: 1,
            lateral_fwhm: 5.0,
            axial_fwhm: 3.0,
            dynamic_range_db: 60.0,
            degradation: Degradation::default(),
        }
    }
}

/// Two pictures of the same scene, 8-bit grey, pixel-aligned.
#[derive(Clone, Debug, PartialEq)]
pub struct PhantomPair {
    /// As from a good device.
    pub high: Frame,
    /// As from a handheld device.
    pub low: Frame,
}

/// A simulated scene: its pictures, and the truth about them.
///
/// # Example
/// ```
/// use sonolume::phantom::{Phantom, PhantomOptions, Scene};
///
/// let options = PhantomOptions { width: 96, height: 80, scene: Scene::Targets, ..Default::default() };
/// let phantom = Phantom::new(options)?;
/// let pair = phantom.pair();
/// assert_eq!((pair.low.width(), pair.high.height()), (96, 80));
/// assert!(!phantom.cysts().is_empty() && !phantom.points().is_empty());
/// # Ok::<(), sonolume::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Phantom {
    options: PhantomOptions,
    beams: Beams,
    scene: scene::Built,
    cysts: Vec<Cyst>,
    points: Vec<Point>,
}

impl Phantom {
    /// Lays the scene out; the work is done by [`Phantom::pair`].
    ///
    /// # Errors
    /// [`Error::Options`] for a value outside its documented range.
    pub fn new(options: PhantomOptions) -> Result<Self> {
        let low = &options.degradation;
        let reals = [
            ("lateral_fwhm", options.lateral_fwhm, 1.0, 64.0),
            ("axial_fwhm", options.axial_fwhm, 1.0, 64.0),
            ("dynamic_range_db", options.dynamic_range_db, 20.0, 120.0),
            ("degradation.dynamic_range_db", low.dynamic_range_db, 20.0, 120.0),
            ("degradation.lateral_blur", low.lateral_blur, 1.0, 8.0),
            ("degradation.attenuation_db", low.attenuation_db, 0.0, 100.0),
            ("degradation.noise_db", low.noise_db, -200.0, 0.0),
            ("degradation.gamma", low.gamma, 0.2, 5.0),
        ];
        for (name, value, least, most) in reals {
            if !(least..=most).contains(&value) {
                return Err(Error::Options(format!("{name} must be between {least} and {most}, not {value}")));
            }
        }
        if !(1..=16).contains(&low.line_step) {
            return Err(Error::Options(format!(
                "degradation.line_step must be between 1 and 16, not {}",
                low.line_step
            )));
        }
        let (width, height) = (options.width, options.height);
        if width.min(height) < 16 || width.max(height) > 65_535 {
            return Err(Error::Options(format!("a phantom has 16 to 65535 pixels a side, not {width}x{height}")));
        }
        let beams = Beams::new(&options);
        let scene = scene::Built::new(options.scene, options.seed, &beams);
        let (cysts, points) = scene.truth(&beams);
        Ok(Self { options, beams, scene, cysts, points })
    }

    /// The options it was made from.
    pub fn options(&self) -> &PhantomOptions {
        &self.options
    }

    /// Simulates both pictures.
    pub fn pair(&self) -> PhantomPair {
        let options = &self.options;
        let mut field = self.scatter();
        let high = field.magnitude();
        let high = self.picture(high, options.dynamic_range_db, 1.0);
        let low = &options.degradation;
        field.blur_more(&self.beams, options.lateral_fwhm, low.lateral_blur);
        field.attenuate(low.attenuation_db);
        field.add_noise(libm::powf(10.0, low.noise_db / 20.0), options.seed);
        let mut envelope = field.magnitude();
        drop(field);
        field::keep_lines(&mut envelope, self.beams.lines, low.line_step);
        let low = self.picture(envelope, low.dynamic_range_db, low.gamma);
        PhantomPair { high, low }
    }

    /// The high-quality envelope before log compression and scan conversion, `[1, depth, lines]`, 1 in average tissue (root mean
    /// square).
    ///
    /// In linear geometry this is the picture's own grid. Fully developed speckle is Rayleigh there: mean over deviation 1.91.
    pub fn envelope(&self) -> HostTensor {
        let shape = Shape::new(1, self.beams.depth, self.beams.lines);
        HostTensor::new(shape, self.scatter().magnitude()).expect("one value per beam sample")
    }

    /// The anechoic cysts that lie wholly inside the picture.
    pub fn cysts(&self) -> &[Cyst] {
        &self.cysts
    }

    /// The point targets.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The scanned area, one `bool` per pixel, row-major. Everything else is 0 in both pictures.
    pub fn sector(&self) -> Vec<bool> {
        let (width, height) = (self.options.width, self.options.height);
        let inside = |i: usize| self.beams.locate((i % width) as f32, (i / width) as f32).is_some();
        (0..width * height).into_par_iter().map(inside).collect()
    }

    /// The pixels whose distance to a cyst's centre, over its radius, lies in `from..to`, within the scanned area.
    ///
    /// `0.0..0.8` is safely inside, `1.2..1.6` the tissue around it.
    pub fn cyst_mask(&self, cyst: &Cyst, from: f32, to: f32) -> Vec<bool> {
        let width = self.options.width;
        let mut mask = self.sector();
        for (i, inside) in mask.iter_mut().enumerate() {
            let (dx, dy) = ((i % width) as f32 - cyst.x, (i / width) as f32 - cyst.y);
            let distance = (dx * dx + dy * dy).sqrt() / cyst.radius;
            *inside &= distance >= from && distance < to;
        }
        mask
    }

    fn scatter(&self) -> Field {
        let mut field = Field::scatter(&self.scene, &self.beams, self.options.seed);
        field.blur(&self.beams, self.options.lateral_fwhm, self.options.axial_fwhm);
        field
    }

    /// Log compression and scan conversion. Average tissue lies at half of the range.
    fn picture(&self, mut envelope: Vec<f32>, dynamic_range_db: f32, gamma: f32) -> Frame {
        // Twenty times the decimal logarithm in terms of the natural one.
        let to_db = 20.0 / std::f32::consts::LN_10;
        envelope.par_iter_mut().for_each(|value| {
            let level = 0.5 + to_db * libm::logf(value.max(1e-12)) / dynamic_range_db;
            let level = level.clamp(0.0, 1.0);
            *value = if gamma == 1.0 { level } else { libm::powf(level, gamma) };
        });
        let (width, height, beams) = (self.options.width, self.options.height, &self.beams);
        let mut samples = vec![0_u8; width * height];
        samples.par_chunks_exact_mut(width).enumerate().for_each(|(y, row)| {
            for (x, out) in row.iter_mut().enumerate() {
                if let Some((line, depth)) = beams.locate(x as f32, y as f32) {
                    *out = (beams.sample(&envelope, line, depth) * 255.0 + 0.5) as u8;
                }
            }
        });
        Frame::from_luma8(width, height, samples).expect("one sample per pixel")
    }
}

/// The grid of scan lines and depth samples, and where it lies in the picture. Lengths are pixels.
#[derive(Clone, Debug)]
struct Beams {
    lines: usize,
    depth: usize,
    fan: Option<FanShape>,
}

#[derive(Clone, Debug)]
struct FanShape {
    /// The arcs' common centre, above the picture.
    apex: [f32; 2],
    /// Distance from the apex to the first sample.
    inner: f32,
    half_angle: f32,
}

/// Half the opening of the fan, radians (36 degrees).
const FAN_HALF_ANGLE: f32 = 0.628;
/// Radius of the probe's face over the greatest radius.
const FAN_INNER: f32 = 0.24;

impl Beams {
    fn new(options: &PhantomOptions) -> Self {
        let (width, height) = (options.width as f32, options.height as f32);
        if options.geometry == Geometry::Linear {
            return Self { lines: options.width, depth: options.height, fan: None };
        }
        let (sin, cos) = (libm::sinf(FAN_HALF_ANGLE), libm::cosf(FAN_HALF_ANGLE));
        // From the corners of the probe's face at the top to the deepest point at the bottom.
        let radius = ((height - 1.0) / (1.0 - FAN_INNER * cos)).min((width - 1.0) / (2.0 * sin));
        let inner = FAN_INNER * radius;
        let apex = [(width - 1.0) / 2.0, -inner * cos];
        // Lines one pixel apart three quarters of the way down.
        let lines = (2.0 * FAN_HALF_ANGLE * 0.75 * radius) as usize + 2;
        Self {
            lines,
            depth: (radius - inner) as usize + 1,
            fan: Some(FanShape { apex, inner, half_angle: FAN_HALF_ANGLE }),
        }
    }

    /// Line and depth index of a pixel, if it is scanned.
    fn locate(&self, x: f32, y: f32) -> Option<(f32, f32)> {
        let Some(fan) = &self.fan else { return Some((x, y)) };
        let (dx, dy) = (x - fan.apex[0], y - fan.apex[1]);
        let depth = (dx * dx + dy * dy).sqrt() - fan.inner;
        let turn = libm::atan2f(dx, dy) / fan.half_angle;
        let line = (turn + 1.0) / 2.0 * (self.lines - 1) as f32;
        let inside = depth >= 0.0 && depth <= (self.depth - 1) as f32 && (-1.0..=1.0).contains(&turn);
        inside.then_some((line, depth))
    }

    /// The pixel of a line and depth index.
    fn place(&self, line: f32, depth: f32) -> (f32, f32) {
        let Some(fan) = &self.fan else { return (line, depth) };
        let angle = (2.0 * line / (self.lines - 1) as f32 - 1.0) * fan.half_angle;
        let radius = depth + fan.inner;
        (fan.apex[0] + radius * libm::sinf(angle), fan.apex[1] + radius * libm::cosf(angle))
    }

    /// Bilinear interpolation; exact on the grid.
    fn sample(&self, values: &[f32], line: f32, depth: f32) -> f32 {
        let (l, d) = (line as usize, depth as usize);
        let (across, down) = (line - l as f32, depth - d as f32);
        let row = |d: usize| {
            let row = &values[d * self.lines..][..self.lines];
            row[l] + (row[(l + 1).min(self.lines - 1)] - row[l]) * across
        };
        let above = row(d);
        above + (row((d + 1).min(self.depth - 1)) - above) * down
    }
}
