//! The complex field in beam space: scattering, blurring, attenuation, noise.

use rayon::prelude::*;

use super::Beams;
use super::random::scatterer;
use super::scene::Built;

/// `[depth, lines]`, row-major.
pub(super) struct Field {
    real: Vec<f32>,
    imaginary: Vec<f32>,
    lines: usize,
}

/// Width of an envelope's autocorrelation over the standard deviation of its amplitude PSF: the field's is a
/// Gaussian of variance `2 sigma^2`, the envelope's nearly that squared.
const FWHM_PER_SIGMA: f32 = 2.354_82;
/// Depth of the lateral focus, of the whole depth, and how the beam widens away from it.
const FOCUS: f32 = 0.45;
const DEFOCUS: f32 = 1.6;
/// Columns blurred together: wide enough for whole cache lines, narrow enough that a strip stays in the cache.
const STRIP: usize = 32;

/// Lateral PSF width at a depth (0..1), 1 at the focus.
fn defocus(depth: f32) -> f32 {
    let away = (depth - FOCUS) * DEFOCUS;
    (1.0 + away * away).sqrt()
}

impl Field {
    pub(super) fn scatter(scene: &Built, beams: &Beams, seed: u64) -> Self {
        let lines = beams.lines;
        let mut real = vec![0.0; lines * beams.depth];
        let mut imaginary = real.clone();
        let rows = real.par_chunks_exact_mut(lines).zip(imaginary.par_chunks_exact_mut(lines)).enumerate();
        rows.for_each(|(d, (real, imaginary))| {
            for l in 0..lines {
                let [diffuse, coherent] = scene.amplitude(l, d, beams);
                let [re, im] = scatterer(seed, ((d as u64) << 32) | l as u64);
                (real[l], imaginary[l]) = (diffuse * re + coherent, diffuse * im);
            }
        });
        let mut field = Self { real, imaginary, lines };
        for (line, depth, strength) in scene.bright_points() {
            field.real[depth * lines + line] += strength;
        }
        field
    }

    /// Blurs by the high-quality PSF, which keeps the mean energy of uncorrelated scatterers.
    pub(super) fn blur(&mut self, beams: &Beams, lateral_fwhm: f32, axial_fwhm: f32) {
        let depth = beams.depth;
        let lines = self.lines;
        let taps = energy_taps(axial_fwhm / FWHM_PER_SIGMA);
        for plane in [&mut self.real, &mut self.imaginary] {
            blur_rows(plane, lines, energy_inside, |d| {
                energy_taps(lateral_fwhm / FWHM_PER_SIGMA * defocus(d as f32 / depth as f32))
            });
            blur_columns(plane, lines, &taps);
        }
    }

    /// Widens the lateral PSF by a factor: what the difference of the variances asks for.
    pub(super) fn blur_more(&mut self, beams: &Beams, lateral_fwhm: f32, factor: f32) {
        if factor <= 1.0 {
            return;
        }
        let (depth, lines) = (beams.depth, self.lines);
        for plane in [&mut self.real, &mut self.imaginary] {
            blur_rows(plane, lines, sum_inside, |d| {
                let sigma = lateral_fwhm / FWHM_PER_SIGMA * defocus(d as f32 / depth as f32);
                let mut taps = energy_taps(sigma * (factor * factor - 1.0).sqrt());
                // Speckle's amplitude falls by the square root of the factor when its spectrum is cut; restore it.
                let sum: f32 = taps.iter().sum();
                taps.iter_mut().for_each(|tap| *tap *= factor.sqrt() / sum);
                taps
            });
        }
    }

    pub(super) fn attenuate(&mut self, bottom_db: f32) {
        let depth = self.real.len() / self.lines;
        for plane in [&mut self.real, &mut self.imaginary] {
            plane.par_chunks_exact_mut(self.lines).enumerate().for_each(|(d, row)| {
                let gain = libm::powf(10.0, -bottom_db / 20.0 * d as f32 / depth as f32);
                row.iter_mut().for_each(|value| *value *= gain);
            });
        }
    }

    /// Adds receiver noise of a root mean square amplitude, uncorrelated from line to line.
    pub(super) fn add_noise(&mut self, amplitude: f32, seed: u64) {
        let lines = self.lines;
        let rows = self.real.par_chunks_exact_mut(lines).zip(self.imaginary.par_chunks_exact_mut(lines)).enumerate();
        rows.for_each(|(d, (real, imaginary))| {
            for l in 0..lines {
                // Two samples half a step apart in depth: the receive filter's short memory.
                let at = |d: usize| scatterer(!seed, ((d as u64) << 32) | l as u64);
                let ([r0, i0], [r1, i1]) = (at(d), at(d + 1));
                real[l] += amplitude * std::f32::consts::FRAC_1_SQRT_2 * (r0 + r1);
                imaginary[l] += amplitude * std::f32::consts::FRAC_1_SQRT_2 * (i0 + i1);
            }
        });
    }

    pub(super) fn magnitude(&self) -> Vec<f32> {
        self.real.par_iter().zip(&self.imaginary).map(|(re, im)| (re * re + im * im).sqrt()).collect()
    }
}

/// Keeps every `step`-th scan line of an envelope and interpolates the others.
pub(super) fn keep_lines(envelope: &mut [f32], lines: usize, step: usize) {
    if step == 1 {
        return;
    }
    envelope.par_chunks_exact_mut(lines).for_each(|row| {
        for l in 0..lines {
            let (left, offset) = (l / step * step, l % step);
            // The last kept line stands for those beyond it.
            if offset > 0 {
                let right = if left + step < lines { row[left + step] } else { row[left] };
                row[l] = row[left] + (right - row[left]) * (offset as f32 / step as f32);
            }
        }
    });
}

/// A Gaussian whose squares sum to 1, odd length, cut at 3.5 sigma.
fn energy_taps(sigma: f32) -> Vec<f32> {
    let reach = (3.5 * sigma).ceil() as usize;
    let mut taps: Vec<f32> = (0..=2 * reach)
        .map(|i| {
            let t = (i as f32 - reach as f32) / sigma.max(1e-3);
            libm::expf(-0.5 * t * t)
        })
        .collect();
    let norm = taps.iter().map(|tap| tap * tap).sum::<f32>().sqrt();
    taps.iter_mut().for_each(|tap| *tap /= norm);
    taps
}

/// The part of a kernel's effect that is left when only the taps in `inside` meet samples: root of the energy, for
/// uncorrelated samples.
fn energy_inside(taps: &[f32], inside: std::ops::Range<usize>) -> f32 {
    let energy = |taps: &[f32]| taps.iter().map(|tap| tap * tap).sum::<f32>();
    (energy(&taps[inside]) / energy(taps)).sqrt()
}

/// As [`energy_inside`] for samples that hardly differ: the sum.
fn sum_inside(taps: &[f32], inside: std::ops::Range<usize>) -> f32 {
    taps[inside].iter().sum::<f32>() / taps.iter().sum::<f32>()
}

/// The taps that meet samples when a kernel is centred on `at`.
fn inside(at: usize, length: usize, taps: usize) -> std::ops::Range<usize> {
    let reach = taps / 2;
    reach.saturating_sub(at)..taps.min(length + reach - at)
}

/// Blurs every row; beyond the border is nothing, and what is missing is made up for by `left` of the kernel. (Reflection
/// would double the energy of speckle at the border.)
fn blur_rows(
    plane: &mut [f32],
    lines: usize,
    left: impl Fn(&[f32], std::ops::Range<usize>) -> f32 + Sync,
    taps_of: impl Fn(usize) -> Vec<f32> + Sync,
) {
    plane.par_chunks_exact_mut(lines).enumerate().for_each_init(Vec::new, |padded, (d, row)| {
        let taps = taps_of(d);
        let reach = taps.len() / 2;
        padded.clear();
        padded.resize(lines + 2 * reach, 0.0);
        padded[reach..][..lines].copy_from_slice(row);
        row.fill(0.0);
        for (k, tap) in taps.iter().enumerate() {
            for (out, value) in row.iter_mut().zip(&padded[k..]) {
                *out += tap * value;
            }
        }
        for (l, out) in row.iter_mut().enumerate() {
            if l < reach || l + reach >= lines {
                *out /= left(&taps, inside(l, lines, taps.len()));
            }
        }
    });
}

fn blur_columns(plane: &mut [f32], lines: usize, taps: &[f32]) {
    let depth = plane.len() / lines;
    let reach = taps.len() / 2;
    let strips: Vec<usize> = (0..lines).step_by(STRIP).collect();
    // Strips of columns interleave in memory, so they are blurred into copies, a few at a time, and written back.
    for group in strips.chunks(rayon::current_num_threads().max(1)) {
        let source = &*plane;
        let blurred: Vec<Vec<f32>> = group
            .par_iter()
            .map(|&first| {
                let width = STRIP.min(lines - first);
                let mut out = vec![0.0; depth * width];
                for (d, out) in out.chunks_exact_mut(width).enumerate() {
                    let rows = inside(d, depth, taps.len());
                    let gain = 1.0 / energy_inside(taps, rows.clone());
                    for k in rows {
                        let tap = gain * taps[k];
                        let row = d + k - reach;
                        for (out, value) in out.iter_mut().zip(&source[row * lines + first..]) {
                            *out += tap * value;
                        }
                    }
                }
                out
            })
            .collect();
        for (&first, strip) in group.iter().zip(blurred) {
            let width = STRIP.min(lines - first);
            for (d, row) in strip.chunks_exact(width).enumerate() {
                plane[d * lines + first..][..width].copy_from_slice(row);
            }
        }
    }
}
