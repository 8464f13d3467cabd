//! Image quality metrics, each with its definition.
//!
//! Images are [`HostTensor`]s, `[channels, height, width]`; with several channels the metrics of two images average over them.
//! A mask holds one `bool` per pixel, row-major. All sums are f64.
//!
//! # Accuracy
//! PSNR and SSIM agree with scikit-image 0.26 to 1e-5, MS-SSIM and LNCC with the same formulas in SciPy (`tests/metrics.rs`).

use crate::error::{Error, Result};
use crate::tensor::HostTensor;

/// Taps of SSIM's Gaussian window.
const SSIM_TAPS: usize = 11;
const SSIM_SIGMA: f64 = 1.5;
/// Side of LNCC's window.
const LNCC_TAPS: usize = 9;
/// A window with less variance than this is constant: below one level of 16 bits, above f64's rounding. For 0..=1 images.
const LNCC_MIN_VARIANCE: f64 = 1e-12;
/// Wang, Simoncelli and Bovik 2003, finest scale first.
const MS_SSIM_WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Bins of [`gcnr`]'s histograms.
pub const GCNR_BINS: usize = 256;

/// Peak signal-to-noise ratio in dB, `10 log10(data_range^2 / MSE)`; infinite for equal images.
///
/// With a mask only the pixels inside it count: a black background inflates the figure.
///
/// # Errors
/// [`Error::Shape`] if the images or the mask differ in size, [`Error::Options`] for a range that is not positive or an
/// empty mask; so in all metrics here.
pub fn psnr(a: &HostTensor, b: &HostTensor, data_range: f64, mask: Option<&[bool]>) -> Result<f64> {
    let pixels = check(a, b, mask)?;
    check_range(data_range)?;
    let squares = a.data().iter().zip(b.data()).enumerate();
    let (mut sum, mut count) = (0.0, 0_usize);
    for (i, (&a, &b)) in squares {
        if mask.is_none_or(|mask| mask[i % pixels]) {
            sum += (f64::from(a) - f64::from(b)).powi(2);
            count += 1;
        }
    }
    Ok(10.0 * (data_range * data_range * count as f64 / sum).log10())
}

/// Structural similarity, -1 to 1 (Wang et al. 2004): Gaussian 11x11 window, sigma 1.5, population covariance, K1 0.01, K2 0.03.
///
/// The mean over the windows that lie wholly inside the image, as scikit-image with `gaussian_weights=True,
/// sigma=1.5, use_sample_covariance=False` (its default is a 7x7 box). A mask selects window centres;
/// centres nearer than 5 pixels to the border never count.
///
/// # Errors
/// As [`psnr`]; [`Error::Shape`] if a side is shorter than 11.
pub fn ssim(a: &HostTensor, b: &HostTensor, data_range: f64, mask: Option<&[bool]>) -> Result<f64> {
    let pixels = check(a, b, mask)?;
    check_range(data_range)?;
    check_side(a, SSIM_TAPS, "SSIM")?;
    let shape = a.shape();
    let mut total = Mean::default();
    for (a, b) in a.data().chunks_exact(pixels).zip(b.data().chunks_exact(pixels)) {
        let maps = ssim_maps(&Plane::new(a, shape.width), &Plane::new(b, shape.width), data_range);
        total.add_masked(&maps.ssim, maps.width, SSIM_TAPS / 2, shape.width, mask);
    }
    total.finish("no window lies inside both the mask and the image")
}

/// Multi-scale structural similarity, 0 to 1 (Wang, Simoncelli and Bovik 2003): five scales, weights 0.0448, 0.2856, 0.3001,
/// 0.2363, 0.1333.
///
/// The contrast-structure mean of the first four scales and the SSIM of the fifth, each with [`ssim`]'s window and raised to
/// its weight; negative means count as 0. Between scales 2x2 pixels are averaged; an odd last row or column is left out.
///
/// # Errors
/// As [`psnr`]; [`Error::Shape`] if a side is shorter than 176: the fifth scale needs 11 pixels, and fewer scales would give
/// a number that cannot be compared.
pub fn ms_ssim(a: &HostTensor, b: &HostTensor, data_range: f64) -> Result<f64> {
    let pixels = check(a, b, None)?;
    check_range(data_range)?;
    check_side(a, SSIM_TAPS << (MS_SSIM_WEIGHTS.len() - 1), "MS-SSIM")?;
    let shape = a.shape();
    let mut total = 0.0;
    for (a, b) in a.data().chunks_exact(pixels).zip(b.data().chunks_exact(pixels)) {
        let (mut a, mut b) = (Plane::new(a, shape.width), Plane::new(b, shape.width));
        let mut product = 1.0;
        for (scale, weight) in MS_SSIM_WEIGHTS.into_iter().enumerate() {
            let maps = ssim_maps(&a, &b, data_range);
            let last = scale + 1 == MS_SSIM_WEIGHTS.len();
            let map = if last { &maps.ssim } else { &maps.contrast };
            let mean = map.iter().sum::<f64>() / map.len() as f64;
            // NaN must come through: `max` would turn it into 0.
            product *= if mean < 0.0 { 0.0 } else { mean.powf(weight) };
            if !last {
                (a, b) = (a.halved(), b.halved());
            }
        }
        total += product;
    }
    Ok(total / shape.channels as f64)
}

/// Local normalised cross-correlation, -1 to 1: the centred correlation of 9x9 windows, averaged.
///
/// Windows lie wholly inside the image; a mask selects their centres. A window that is constant in both images does not
/// count, one that is constant in one of them counts as 0. NaN if no window counts.
///
/// # Errors
/// As [`psnr`]; [`Error::Shape`] if a side is shorter than 9.
pub fn lncc(a: &HostTensor, b: &HostTensor, mask: Option<&[bool]>) -> Result<f64> {
    let pixels = check(a, b, mask)?;
    check_side(a, LNCC_TAPS, "LNCC")?;
    let shape = a.shape();
    let taps = [1.0 / LNCC_TAPS as f64; LNCC_TAPS];
    let (mut sum, mut count) = (0.0, 0_usize);
    for (a, b) in a.data().chunks_exact(pixels).zip(b.data().chunks_exact(pixels)) {
        let moments = Moments::new(&Plane::new(a, shape.width), &Plane::new(b, shape.width), &taps);
        for (i, [va, vb, covariance]) in moments.centred().enumerate() {
            let centre = (i / moments.width + LNCC_TAPS / 2) * shape.width + i % moments.width + LNCC_TAPS / 2;
            if !mask.is_none_or(|mask| mask[centre]) || (va <= LNCC_MIN_VARIANCE && vb <= LNCC_MIN_VARIANCE) {
                continue;
            }
            count += 1;
            if !(va <= LNCC_MIN_VARIANCE || vb <= LNCC_MIN_VARIANCE) {
                sum += covariance / (va * vb).sqrt();
            }
        }
    }
    Ok(sum / count as f64)
}

/// Generalised contrast-to-noise ratio of two regions, 0 (alike) to 1 (told apart by a threshold): 1 minus the overlap of their
/// histograms, with 256 bins from the smallest to the largest value of both.
///
/// Rodriguez-Molares et al. 2020. Hardly changed by log compression, so prefer it to [`cnr_db`]. 0 if both regions are one
/// constant.
///
/// # Errors
/// As [`psnr`]; [`Error::Shape`] unless the image has one channel.
pub fn gcnr(image: &HostTensor, first: &[bool], second: &[bool]) -> Result<f64> {
    let (first, second) = (region(image, first)?, region(image, second)?);
    let (low, high) = first
        .iter()
        .chain(&second)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    if high <= low {
        return Ok(0.0);
    }
    let histogram = |values: &[f64]| {
        let mut bins = vec![0.0; GCNR_BINS];
        for value in values {
            let bin = (value - low) / (high - low) * GCNR_BINS as f64;
            bins[(bin as usize).min(GCNR_BINS - 1)] += 1.0 / values.len() as f64;
        }
        bins
    };
    let overlap: f64 = histogram(&first).iter().zip(histogram(&second)).map(|(a, b)| a.min(b)).sum();
    Ok(1.0 - overlap)
}

/// Contrast-to-noise ratio of two regions in dB, `20 log10(|m1 - m2| / sqrt((s1^2 + s2^2) / 2))`, in the image's own domain.
///
/// # Errors
/// As [`gcnr`].
pub fn cnr_db(image: &HostTensor, first: &[bool], second: &[bool]) -> Result<f64> {
    let (m1, v1) = mean_and_variance(&region(image, first)?);
    let (m2, v2) = mean_and_variance(&region(image, second)?);
    Ok(20.0 * ((m1 - m2).abs() / ((v1 + v2) / 2.0).sqrt()).log10())
}

/// Speckle signal-to-noise ratio of a region, mean over (population) standard deviation.
///
/// The domain matters: fully developed speckle has 1.91 in the envelope, and more after log compression.
///
/// # Errors
/// As [`gcnr`].
pub fn speckle_snr(image: &HostTensor, mask: &[bool]) -> Result<f64> {
    let (mean, variance) = mean_and_variance(&region(image, mask)?);
    Ok(mean / variance.sqrt())
}

/// Equivalent number of looks of a region, [`speckle_snr`] squared.
///
/// # Errors
/// As [`gcnr`].
pub fn equivalent_looks(image: &HostTensor, mask: &[bool]) -> Result<f64> {
    Ok(speckle_snr(image, mask)?.powi(2))
}

/// Full widths at half maximum of a region's autocorrelation, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeckleSize {
    /// Along rows. NaN if the correlation never falls to one half.
    pub lateral: f64,
    /// Along columns. NaN if the correlation never falls to one half.
    pub axial: f64,
}

/// The size of speckle: where the region's autocorrelation, mean removed, falls to one half, doubled.
///
/// At every lag the products of pixel pairs with both ends in the mask are averaged and divided by the variance; the crossing
/// is interpolated linearly between whole lags. Mask the background, and structure larger than speckle.
///
/// # Errors
/// As [`gcnr`].
pub fn speckle_size(image: &HostTensor, mask: &[bool]) -> Result<SpeckleSize> {
    let (mean, variance) = mean_and_variance(&region(image, mask)?);
    let (width, height) = (image.shape().width, image.shape().height);
    let width_at = |length: usize, dx: usize, dy: usize| {
        let mut previous = 1.0;
        for lag in 1..length {
            let (dx, dy) = (dx * lag, dy * lag);
            let (mut sum, mut count) = (0.0, 0_usize);
            for y in 0..height - dy {
                for x in 0..width - dx {
                    let (near, far) = (y * width + x, (y + dy) * width + x + dx);
                    if mask[near] && mask[far] {
                        sum += (f64::from(image.data()[near]) - mean) * (f64::from(image.data()[far]) - mean);
                        count += 1;
                    }
                }
            }
            let correlation = sum / count as f64 / variance;
            if correlation.is_nan() {
                break;
            }
            if correlation <= 0.5 {
                return 2.0 * ((lag - 1) as f64 + (previous - 0.5) / (previous - correlation));
            }
            previous = correlation;
        }
        f64::NAN
    };
    Ok(SpeckleSize { lateral: width_at(width, 1, 0), axial: width_at(height, 0, 1) })
}

fn check(a: &HostTensor, b: &HostTensor, mask: Option<&[bool]>) -> Result<usize> {
    if a.shape() != b.shape() {
        return Err(Error::shape(format!("images of {} and {} cannot be compared", a.shape(), b.shape())));
    }
    check_mask(a, mask)
}

fn check_mask(image: &HostTensor, mask: Option<&[bool]>) -> Result<usize> {
    let pixels = image.shape().pixels()?;
    if image.data().is_empty() {
        return Err(Error::shape(format!("an image of {} has no pixels to measure", image.shape())));
    }
    if let Some(mask) = mask {
        if mask.len() != pixels {
            return Err(Error::shape(format!("a mask of {} does not cover {}", mask.len(), image.shape())));
        }
        if !mask.contains(&true) {
            return Err(Error::Options("the mask is empty".into()));
        }
    }
    Ok(pixels)
}

fn check_range(data_range: f64) -> Result<()> {
    if data_range.is_finite() && data_range > 0.0 {
        return Ok(());
    }
    Err(Error::Options(format!("the data range must be positive, not {data_range}")))
}

fn check_side(image: &HostTensor, least: usize, metric: &str) -> Result<()> {
    let shape = image.shape();
    if shape.width.min(shape.height) < least {
        return Err(Error::shape(format!("{metric} needs at least {least}x{least} pixels, not {shape}")));
    }
    Ok(())
}

fn region(image: &HostTensor, mask: &[bool]) -> Result<Vec<f64>> {
    if image.shape().channels != 1 {
        return Err(Error::shape(format!("region metrics need one channel, not {}", image.shape())));
    }
    check_mask(image, Some(mask))?;
    Ok(image.data().iter().zip(mask).filter(|(_, inside)| **inside).map(|(&value, _)| f64::from(value)).collect())
}

/// Population variance.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Adds a map whose element `[y, x]` belongs to the image's pixel `[y + margin, x + margin]`.
    fn add_masked(&mut self, map: &[f64], width: usize, margin: usize, image_width: usize, mask: Option<&[bool]>) {
        for (i, value) in map.iter().enumerate() {
            if mask.is_none_or(|mask| mask[(i / width + margin) * image_width + i % width + margin]) {
                self.sum += value;
                self.count += 1;
            }
        }
    }

    fn finish(self, otherwise: &str) -> Result<f64> {
        if self.count == 0 {
            return Err(Error::Options(otherwise.into()));
        }
        Ok(self.sum / self.count as f64)
    }
}

struct Plane {
    data: Vec<f64>,
    width: usize,
}

impl Plane {
    fn new(data: &[f32], width: usize) -> Self {
        Self { data: data.iter().map(|&value| f64::from(value)).collect(), width }
    }

    /// Means of 2x2 pixels.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.data.len() / self.width / 2);
        let mean = |i: usize| {
            let at = 2 * (i / width) * self.width + 2 * (i % width);
            let row = |at: usize| self.data[at] + self.data[at + 1];
            (row(at) + row(at + self.width)) / 4.0
        };
        Self { data: (0..width * height).map(mean).collect(), width }
    }
}

/// Weighted means of `a`, `b`, `a^2`, `b^2`, `ab` over every window that lies inside the images.
struct Moments {
    means: [Vec<f64>; 5],
    width: usize,
}

impl Moments {
    fn new(a: &Plane, b: &Plane, taps: &[f64]) -> Self {
        let pairs = || a.data.iter().zip(&b.data);
        let filter = |values: Vec<f64>| filter_valid(&values, a.width, taps);
        let means = [
            filter(a.data.clone()),
            filter(b.data.clone()),
            filter(pairs().map(|(a, _)| a * a).collect()),
            filter(pairs().map(|(_, b)| b * b).collect()),
            filter(pairs().map(|(a, b)| a * b).collect()),
        ];
        Self { means, width: a.width + 1 - taps.len() }
    }

    /// `[variance of a, variance of b, covariance]` of every window.
    fn centred(&self) -> impl Iterator<Item = [f64; 3]> + '_ {
        let [a, b, aa, bb, ab] = &self.means;
        (0..a.len()).map(|i| [aa[i] - a[i] * a[i], bb[i] - b[i] * b[i], ab[i] - a[i] * b[i]])
    }
}

struct SsimMaps {
    ssim: Vec<f64>,
    contrast: Vec<f64>,
    width: usize,
}

fn ssim_maps(a: &Plane, b: &Plane, data_range: f64) -> SsimMaps {
    let mut taps: Vec<f64> =
        (0..SSIM_TAPS).map(|i| (-0.5 * ((i as f64 - (SSIM_TAPS / 2) as f64) / SSIM_SIGMA).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    let (c1, c2) = ((0.01 * data_range).powi(2), (0.03 * data_range).powi(2));
    let moments = Moments::new(a, b, &taps);
    let contrast: Vec<f64> =
        moments.centred().map(|[va, vb, covariance]| (2.0 * covariance + c2) / (va + vb + c2)).collect();
    let means = moments.means[0].iter().zip(&moments.means[1]);
    let ssim = means.zip(&contrast).map(|((a, b), cs)| (2.0 * a * b + c1) / (a * a + b * b + c1) * cs).collect();
    SsimMaps { ssim, contrast, width: moments.width }
}

/// Separable correlation with `taps` along both axes, windows inside the image only.
fn filter_valid(values: &[f64], width: usize, taps: &[f64]) -> Vec<f64> {
    let (height, out_width) = (values.len() / width, width + 1 - taps.len());
    let mut rows = vec![0.0; height * out_width];
    for (row, out) in values.chunks_exact(width).zip(rows.chunks_exact_mut(out_width)) {
        for (x, out) in out.iter_mut().enumerate() {
            *out = row[x..].iter().zip(taps).map(|(value, tap)| value * tap).sum();
        }
    }
    let mut out = vec![0.0; (height + 1 - taps.len()) * out_width];
    for (y, out) in out.chunks_exact_mut(out_width).enumerate() {
        for (k, tap) in taps.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&rows[(y + k) * out_width..]) {
                *out += value * tap;
            }
        }
    }
    out
}
