//! What is looked at: echogenicity as a function of the place.

use super::Beams;
use super::random::{hash, smooth, uniform};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scene {
    /// Skin, fat, muscle and an organ with vessels, cysts, a lesion, a calcification and a deep interface; a few points.
    Anatomy,
    /// As a test phantom: uniform tissue with anechoic cysts, two grey targets and a grid of points.
    Targets,
    /// Uniform fully developed speckle and nothing else.
    Uniform,
}

/// An anechoic disc, in pixels of the picture; pixel centres lie at whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cyst {
    /// Column of the centre.
    pub x: f32,
    /// Row of the centre.
    pub y: f32,
    /// Radius.
    pub radius: f32,
}

/// A point target, in pixels of the picture; pixel centres lie at whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
}

const ANECHOIC_DB: f32 = -55.0;
/// Amplitude of a point target over that of average tissue's scatterers.
const POINT_AMPLITUDE: f32 = 70.0;

/// A disc of other echogenicity, with what it does to the echoes behind it.
#[derive(Clone, Debug)]
struct Disc {
    centre: [f32; 2],
    radius: f32,
    echo_db: f32,
    /// Irregularity of the outline, of the radius.
    rough: f32,
    /// Coherent amplitude of the wall where it faces the beam.
    wall: f32,
    behind_db: f32,
    line: f32,
    depth: f32,
    half_lines: f32,
    seed: u64,
}

/// A vessel cut lengthwise: a band around a wavy line.
#[derive(Clone, Debug)]
struct Tube {
    start: f32,
    slope: f32,
    half_width: f32,
}

/// A scene laid out for one beam grid.
#[derive(Clone, Debug)]
pub(super) struct Built {
    scene: Scene,
    seed: u64,
    discs: Vec<Disc>,
    tube: Option<Tube>,
    /// `[line, depth]` indices.
    points: Vec<[usize; 2]>,
    /// Depths of fat, muscle, organ and deep interface, 0..1.
    layers: [f32; 4],
}

impl Built {
    pub(super) fn new(scene: Scene, seed: u64, beams: &Beams) -> Self {
        let draw = |index: u64, from: f32, to: f32| from + (to - from) * uniform(seed ^ 0x5CE7E, index);
        let layers = [0.025, draw(1, 0.11, 0.18), draw(2, 0.24, 0.34), draw(3, 0.82, 0.92)];
        let mut built = Self { scene, seed, discs: Vec::new(), tube: None, points: Vec::new(), layers };
        match scene {
            Scene::Uniform => {}
            Scene::Targets => {
                for (i, (line, depth, radius)) in
                    [(0.28, 0.25, 0.05), (0.28, 0.5, 0.065), (0.28, 0.76, 0.08)].into_iter().enumerate()
                {
                    built.add_disc(beams, i as u64, line, depth, radius, ANECHOIC_DB, 0.0, 0.0, 3.0);
                }
                built.add_disc(beams, 8, 0.72, 0.4, 0.06, -8.0, 0.0, 0.0, 0.0);
                built.add_disc(beams, 9, 0.72, 0.68, 0.07, 7.0, 0.0, 0.0, 0.0);
                for row in 0..5 {
                    built.add_point(beams, 0.5, 0.14 + 0.18 * row as f32);
                }
                for column in [0.1, 0.3, 0.7, 0.9] {
                    built.add_point(beams, column, 0.14);
                    built.add_point(beams, column, 0.9);
                }
            }
            Scene::Anatomy => {
                let place = |i: u64| (draw(10 + i, 0.0, 1.0), draw(30 + i, 0.0, 1.0), draw(50 + i, 0.0, 1.0));
                // One object to a column, so that none covers another.
                let shift = hash(seed, 77) % 5;
                for i in 0..5 {
                    let (a, b, c) = place(i);
                    let line = ((i + shift) % 5) as f32 * 0.19 + 0.09 + 0.06 * a;
                    let depth = 0.56 + 0.22 * b;
                    match i {
                        0 => built.add_disc(beams, i, line, depth, 0.05 + 0.035 * c, ANECHOIC_DB, 0.0, 1.2, 5.0),
                        1 => built.add_disc(beams, i, line, depth, 0.03 + 0.02 * c, ANECHOIC_DB, 0.0, 1.0, 4.0),
                        2 => built.add_disc(beams, i, line, depth, 0.055 + 0.03 * c, -11.0, 0.3, 0.0, -3.0),
                        3 => built.add_disc(beams, i, line, depth, 0.012 + 0.006 * c, 16.0, 0.3, 3.0, -16.0),
                        _ => built.add_disc(beams, i, line, depth, 0.04 + 0.03 * c, 5.0, 0.2, 0.0, 0.0),
                    }
                }
                if draw(80, 0.0, 1.0) < 0.7 {
                    let slope = draw(81, -0.12, 0.12);
                    built.tube = Some(Tube { start: draw(82, 0.40, 0.46), slope, half_width: draw(83, 0.018, 0.035) });
                }
                for i in 0..3 {
                    built.add_point(beams, draw(90 + i, 0.1, 0.9), draw(94 + i, 0.38, 0.78));
                }
            }
        }
        built
    }

    /// `line` and `depth` are parts of the beam grid, `radius` a part of its depth.
    #[allow(clippy::too_many_arguments)]
    fn add_disc(
        &mut self,
        beams: &Beams,
        index: u64,
        line: f32,
        depth: f32,
        radius: f32,
        echo_db: f32,
        rough: f32,
        wall: f32,
        behind_db: f32,
    ) {
        let (line, depth) = (line * (beams.lines - 1) as f32, depth * (beams.depth - 1) as f32);
        let (x, y) = beams.place(line, depth);
        let (next_x, next_y) = beams.place(line + 1.0, depth);
        let pitch = ((next_x - x) * (next_x - x) + (next_y - y) * (next_y - y)).sqrt();
        // Narrow pictures: keep discs apart.
        let radius = radius * (beams.depth as f32).min(beams.lines as f32 * pitch * 1.2);
        self.discs.push(Disc {
            centre: [x, y],
            radius,
            echo_db,
            rough,
            wall,
            behind_db,
            line,
            depth,
            half_lines: radius / pitch,
            seed: self.seed ^ (index + 1).wrapping_mul(0x1234_5678_9ABC_DEF1),
        });
    }

    fn add_point(&mut self, beams: &Beams, line: f32, depth: f32) {
        let index = |part: f32, length: usize| (part * (length - 1) as f32 + 0.5) as usize;
        self.points.push([index(line, beams.lines), index(depth, beams.depth)]);
    }

    pub(super) fn truth(&self, beams: &Beams) -> (Vec<Cyst>, Vec<Point>) {
        let inside = |disc: &Disc| {
            let reach = disc.radius + 1.0;
            [(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)].iter().all(|(dx, dy)| {
                let at = beams.locate(disc.centre[0] + dx * reach, disc.centre[1] + dy * reach);
                at.is_some_and(|(line, depth)| {
                    (0.0..=(beams.lines - 1) as f32).contains(&line)
                        && (0.0..=(beams.depth - 1) as f32).contains(&depth)
                })
            })
        };
        let cysts = self.discs.iter().filter(|disc| disc.echo_db == ANECHOIC_DB && inside(disc));
        let cysts = cysts.map(|disc| Cyst { x: disc.centre[0], y: disc.centre[1], radius: disc.radius }).collect();
        let points = self.points.iter().map(|&[line, depth]| {
            let (x, y) = beams.place(line as f32, depth as f32);
            Point { x, y }
        });
        (cysts, points.collect())
    }

    /// `(line, depth, amplitude)` of the point targets.
    pub(super) fn bright_points(&self) -> impl Iterator<Item = (usize, usize, f32)> + '_ {
        self.points.iter().map(|&[line, depth]| (line, depth, POINT_AMPLITUDE))
    }

    /// Amplitudes of the random and of the coherent scatterers at a beam sample; 1 and 0 in average tissue.
    pub(super) fn amplitude(&self, line: usize, depth: usize, beams: &Beams) -> [f32; 2] {
        if self.scene == Scene::Uniform {
            return [1.0, 0.0];
        }
        let (x, y) = beams.place(line as f32, depth as f32);
        let unit = beams.depth as f32;
        let (u, v) = (x / unit, y / unit);
        let along = line as f32 / unit;
        let t = depth as f32 / unit;
        let (mut echo_db, mut coherent) = match self.scene {
            Scene::Anatomy => self.layered(along, t, u, v, unit),
            _ => (0.0, 0.0),
        };
        if let Some(tube) = &self.tube {
            let (tube_db, wall) = self.tube_at(tube, u, t, unit);
            if tube_db < 0.0 {
                (echo_db, coherent) = (tube_db, 0.0);
            }
            coherent += wall;
        }
        for disc in &self.discs {
            let (dx, dy) = (x - disc.centre[0], y - disc.centre[1]);
            let near = dx * dx + dy * dy;
            let reach = disc.radius * 1.6 + 4.0;
            if near < reach * reach {
                let distance = near.sqrt();
                let (nx, ny) = (dx / distance.max(1.0), dy / distance.max(1.0));
                let bump =
                    if disc.rough > 0.0 { disc.rough * smooth(disc.seed, nx * 1.7 + 9.0, ny * 1.7 + 9.0) } else { 0.0 };
                let radius = disc.radius * (1.0 + bump);
                if distance < radius {
                    // Anechoic stays so; other discs keep some of the tissue's variation.
                    (echo_db, coherent) = if disc.echo_db == ANECHOIC_DB {
                        (ANECHOIC_DB, 0.0)
                    } else {
                        (disc.echo_db + 0.4 * echo_db, 0.0)
                    };
                }
                if disc.wall > 0.0 && distance >= radius {
                    let away = (distance - radius - 1.0) / 1.2;
                    // Specular: only where the wall faces the beam.
                    coherent += disc.wall * ny * ny * ny * ny * libm::expf(-away * away);
                }
            }
            if disc.behind_db != 0.0 && depth as f32 > disc.depth {
                let aside = ((line as f32 - disc.line) / disc.half_lines).abs();
                let behind = ((depth as f32 - disc.depth) / disc.radius).min(1.0);
                echo_db += disc.behind_db * behind * (1.0 - (aside - 0.7) / 0.5).clamp(0.0, 1.0);
                if disc.behind_db < -10.0 && aside < 1.0 {
                    coherent *= if behind < 1.0 { 1.0 } else { 0.3 };
                }
            }
        }
        [libm::expf(echo_db * (std::f32::consts::LN_10 / 20.0)), coherent]
    }

    /// Echogenicity of the layers in dB and the coherent amplitude of their boundaries. `t` is depth along the beam.
    fn layered(&self, along: f32, t: f32, u: f32, v: f32, unit: f32) -> (f32, f32) {
        let seed = self.seed;
        let [skin, muscle, organ, deep] = self.layers;
        let wave =
            |index: u64, frequency: f32, height: f32| height * smooth(seed ^ index, along * frequency, index as f32);
        let (muscle, organ) = (muscle + wave(101, 3.0, 0.02), organ + wave(102, 2.5, 0.025) + wave(103, 9.0, 0.004));
        let deep = deep + wave(104, 1.6, 0.06) + wave(105, 8.0, 0.008);
        let line = |boundary: f32, thickness: f32, strength: f32, index: u64| {
            let away = (t - boundary) * unit / thickness;
            if away.abs() > 4.0 {
                return 0.0;
            }
            let broken = (0.5 + smooth(seed ^ index, along * 7.0, 0.5)).max(0.06);
            strength * broken * libm::expf(-away * away)
        };
        let mut coherent = line(skin, 1.2, 1.5, 111) + line(muscle, 1.2, 2.2, 112) + line(organ, 1.4, 2.0, 113);
        coherent += line(deep, 2.2, 2.5, 114);
        // Sheets of connective tissue: the zero contours of smooth noise, present where a second noise is high.
        let sheet = |index: u64, across: f32, down: f32, least: f32| {
            let height_at = |along: f32, t: f32| {
                let bend = 0.8 * smooth(seed ^ (index + 1), along * 3.0, t * 4.0);
                smooth(seed ^ index, along * across, t * down + bend)
            };
            let present = smooth(seed ^ (index + 2), along * across * 1.3, t * down * 0.6) - least;
            let height = height_at(along, t);
            if present < 0.0 || height.abs() > 0.2 {
                return 0.0;
            }
            // The slope tells the distance from the contour, and whether the sheet faces the beam.
            let step = 1.0 / unit;
            let (sideways, downward) = (height_at(along + step, t) - height, height_at(along, t + step) - height);
            let slope = (sideways * sideways + downward * downward).sqrt().max(1e-4);
            (1.0 - height.abs() / (1.4 * slope)).max(0.0) * (downward / slope).abs() * present * 3.0
        };
        // Contact and gain vary a little from line to line, and echoes fade with depth.
        let contact = 2.5 * smooth(seed ^ 115, along * 4.0, 0.5) - 9.0 * (t - 0.25).max(0.0);
        let echo_db = if t < skin {
            4.0
        } else if t < muscle {
            coherent += 1.3 * sheet(171, 2.5, 17.0, -0.15);
            let septa = smooth(seed ^ 121, along * 5.0, t * 55.0 + 2.0 * smooth(seed ^ 122, along * 4.0, t * 8.0));
            -9.0 + 4.0 * smooth(seed ^ 123, along * 7.0, t * 22.0) + (septa - 0.35).max(0.0) * 26.0
        } else if t < organ {
            coherent += 0.9 * sheet(174, 1.8, 30.0, -0.1);
            let fibres = smooth(seed ^ 131, along * 3.5 + t * 6.0, t * 85.0 + along * 5.0);
            -9.0 + 5.0 * fibres + (fibres - 0.3).max(0.0) * 25.0
        } else if t < deep {
            coherent += 1.2 * sheet(177, 3.0, 6.0, 0.25);
            let coarse = smooth(seed ^ 141, u * 4.0, v * 5.0);
            let fine = smooth(seed ^ 142, u * 15.0, v * 23.0);
            1.0 + 3.5 * coarse + 2.5 * fine
        } else {
            -9.0 - (t - deep) * 70.0 + 3.0 * smooth(seed ^ 151, along * 8.0, t * 30.0)
        };
        (echo_db + contact, coherent)
    }

    /// A negative echogenicity inside the vessel, else 0; and the coherent amplitude of its walls.
    fn tube_at(&self, tube: &Tube, u: f32, t: f32, unit: f32) -> (f32, f32) {
        let centre = tube.start + tube.slope * (u - 0.6) + 0.025 * smooth(self.seed ^ 161, u * 3.0, 0.5);
        // Leaves the plane of the picture here and there.
        let half_width = tube.half_width * (0.75 + 1.3 * smooth(self.seed ^ 162, u * 2.5, 0.5)).min(1.2);
        if half_width <= 0.0 {
            return (0.0, 0.0);
        }
        let away = (t - centre).abs() - half_width;
        if away < 0.0 {
            return (-42.0, 0.0);
        }
        let wall = (away * unit - 1.0) / 1.3;
        let wall = if wall < 4.0 {
            1.4 * (0.5 + smooth(self.seed ^ 163, u * 6.0, 0.5)).max(0.1) * libm::expf(-wall * wall)
        } else {
            0.0
        };
        (0.0, wall)
    }
}
