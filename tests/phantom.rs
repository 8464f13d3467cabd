//! The simulator's claims: speckle statistics, geometry, truth and repeatability.

use sonolume::image::Frame;
use sonolume::metrics::{gcnr, psnr, speckle_size, speckle_snr};
use sonolume::phantom::{Geometry, Phantom, PhantomOptions, Scene};
use sonolume::{Error, HostTensor};

fn options(width: usize, height: usize, geometry: Geometry, scene: Scene) -> PhantomOptions {
    PhantomOptions { width, height, geometry, scene, seed: 7, ..Default::default() }
}

fn mean(values: &[u8]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

fn samples(frame: &Frame) -> &[u8] {
    frame.as_u8().unwrap()
}

#[test]
fn uniform_speckle_is_rayleigh() {
    let phantom = Phantom::new(options(411, 387, Geometry::Linear, Scene::Uniform)).unwrap();
    let envelope = phantom.envelope();
    let all = vec![true; envelope.data().len()];
    let snr = speckle_snr(&envelope, &all).unwrap();
    assert!((snr - 1.913).abs() < 0.05, "{snr}");
    let power = envelope.data().iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / all.len() as f64;
    assert!((power - 1.0).abs() < 0.05, "{power}");
}

#[test]
fn borders_have_the_statistics_of_the_interior() {
    let (width, height) = (400, 360);
    let (mut edge, mut inner) = ([0.0; 4], 0.0);
    for seed in 0..12 {
        let options = PhantomOptions { seed, ..options(width, height, Geometry::Linear, Scene::Uniform) };
        let envelope = Phantom::new(options).unwrap().envelope();
        let power = |x: usize, y: usize| f64::from(envelope.data()[y * width + x]).powi(2);
        edge[0] += (0..height).map(|y| power(0, y)).sum::<f64>() / height as f64;
        edge[1] += (0..height).map(|y| power(width - 1, y)).sum::<f64>() / height as f64;
        edge[2] += (0..width).map(|x| power(x, 0)).sum::<f64>() / width as f64;
        edge[3] += (0..width).map(|x| power(x, height - 1)).sum::<f64>() / width as f64;
        inner += (0..height).map(|y| power(width / 2, y)).sum::<f64>() / height as f64;
    }
    for side in edge {
        assert!((side / inner - 1.0).abs() < 0.15, "{edge:?} {inner}");
    }
}

#[test]
fn speckle_has_the_size_asked_for() {
    let mut options = options(600, 420, Geometry::Linear, Scene::Uniform);
    (options.lateral_fwhm, options.axial_fwhm) = (6.0, 3.5);
    let phantom = Phantom::new(options).unwrap();
    let envelope = phantom.envelope();
    // Around the focus.
    let mask: Vec<bool> = (0..600 * 420).map(|i| (150..230).contains(&(i / 600))).collect();
    let size = speckle_size(&envelope, &mask).unwrap();
    assert!((size.lateral / 6.0 - 1.0).abs() < 0.12, "{size:?}");
    assert!((size.axial / 3.5 - 1.0).abs() < 0.12, "{size:?}");
    let pair = phantom.pair();
    let (high, low) = (speckle_size(&pair.high.luma(), &mask).unwrap(), speckle_size(&pair.low.luma(), &mask).unwrap());
    assert!((1.1..1.9).contains(&(low.lateral / high.lateral)), "{high:?} {low:?}");
    assert!((0.85..1.15).contains(&(low.axial / high.axial)), "{high:?} {low:?}");
}

#[test]
fn the_low_quality_picture_is_worse_and_darker_with_depth() {
    for geometry in [Geometry::Linear, Geometry::Fan] {
        let phantom = Phantom::new(options(320, 240, geometry, Scene::Anatomy)).unwrap();
        let pair = phantom.pair();
        let deep = |frame: &Frame| mean(&samples(frame)[160 * 320..200 * 320]);
        assert!(deep(&pair.low) < 0.8 * deep(&pair.high), "{geometry:?}");
        let distance = psnr(&pair.high.luma(), &pair.low.luma(), 1.0, None).unwrap();
        assert!((10.0..28.0).contains(&distance), "{geometry:?} {distance}");
    }
}

#[test]
fn cysts_are_where_the_truth_says() {
    for geometry in [Geometry::Linear, Geometry::Fan] {
        let phantom = Phantom::new(options(430, 377, geometry, Scene::Targets)).unwrap();
        let pair = phantom.pair();
        assert_eq!(phantom.cysts().len(), 3, "{geometry:?}");
        for cyst in phantom.cysts() {
            let (inside, around) = (phantom.cyst_mask(cyst, 0.0, 0.7), phantom.cyst_mask(cyst, 1.3, 1.7));
            let high = gcnr(&pair.high.luma(), &inside, &around).unwrap();
            let low = gcnr(&pair.low.luma(), &inside, &around).unwrap();
            assert!(high > 0.95, "{geometry:?} {cyst:?} {high}");
            assert!(low < high + 0.01 && low > 0.3, "{geometry:?} {cyst:?} {low} {high}");
        }
    }
}

/// Centre of mass of the envelope (60 dB undone) around a pixel.
fn centre(image: &HostTensor, x: f32, y: f32) -> (f32, f32) {
    let (width, near) = (image.shape().width as isize, 7);
    let (mut sum_x, mut sum_y, mut total) = (0.0, 0.0, 0.0);
    for y in y.round() as isize - near..=y.round() as isize + near {
        for x in x.round() as isize - near..=x.round() as isize + near {
            let power = 10.0_f32.powf(6.0 * image.data()[(y * width + x) as usize]);
            (sum_x, sum_y, total) = (sum_x + x as f32 * power, sum_y + y as f32 * power, total + power);
        }
    }
    (sum_x / total, sum_y / total)
}

#[test]
fn points_are_where_the_truth_says() {
    for geometry in [Geometry::Linear, Geometry::Fan] {
        let phantom = Phantom::new(options(430, 377, geometry, Scene::Targets)).unwrap();
        let high = phantom.pair().high.luma();
        let points = phantom.points();
        assert!(points.len() >= 9);
        let (mut mean_x, mut mean_y) = (0.0, 0.0);
        for point in points {
            let (x, y) = centre(&high, point.x, point.y);
            let (dx, dy) = (x - point.x, y - point.y);
            // Speckle around a point pulls its centre of mass.
            assert!((dx * dx + dy * dy).sqrt() < 0.7, "{geometry:?} {point:?} found at {x} {y}");
            (mean_x, mean_y) = (mean_x + dx / points.len() as f32, mean_y + dy / points.len() as f32);
        }
        println!("{geometry:?}: mean displacement {mean_x} {mean_y}");
        assert!(mean_x.abs() < 0.15 && mean_y.abs() < 0.15, "{geometry:?}: {mean_x} {mean_y}");
    }
}

#[test]
fn outside_the_sector_is_black() {
    let phantom = Phantom::new(options(301, 240, Geometry::Fan, Scene::Anatomy)).unwrap();
    let pair = phantom.pair();
    let sector = phantom.sector();
    let share = sector.iter().filter(|inside| **inside).count() as f64 / sector.len() as f64;
    assert!((0.4..0.75).contains(&share), "{share}");
    for (i, inside) in sector.iter().enumerate() {
        assert!(*inside || (samples(&pair.high)[i] == 0 && samples(&pair.low)[i] == 0));
    }
}

#[test]
fn the_same_options_give_the_same_bits_everywhere() {
    let make =
        |seed| Phantom::new(PhantomOptions { seed, ..options(97, 64, Geometry::Fan, Scene::Anatomy) }).unwrap().pair();
    assert_eq!(make(3), make(3));
    assert_ne!(make(3).high, make(4).high);
    // FNV-1a of both pictures, to be the same on every platform.
    let pair = make(3);
    let hash = samples(&pair.high)
        .iter()
        .chain(samples(&pair.low))
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    assert_eq!(hash, 0xd600_e018_a2f7_7cad, "{hash:#x}");
}

#[test]
fn any_size_works_and_bad_options_are_errors() {
    for (width, height) in [(16, 16), (16, 500), (500, 16), (129, 257)] {
        for geometry in [Geometry::Linear, Geometry::Fan] {
            for scene in [Scene::Anatomy, Scene::Targets, Scene::Uniform] {
                let pair = Phantom::new(options(width, height, geometry, scene)).unwrap().pair();
                assert_eq!((pair.high.width(), pair.low.height()), (width, height));
            }
        }
    }
    let bad = |change: fn(&mut PhantomOptions)| {
        let mut options = PhantomOptions::default();
        change(&mut options);
        assert!(matches!(Phantom::new(options), Err(Error::Options(_))));
    };
    bad(|options| options.width = 0);
    bad(|options| options.lateral_fwhm = f32::NAN);
    bad(|options| options.degradation.line_step = 0);
    bad(|options| options.degradation.lateral_blur = 0.5);
}
