//! The metrics against scikit-image and SciPy (`goldens/make_metrics.py`) and against closed forms.

use sonolume::metrics::{cnr_db, equivalent_looks, gcnr, lncc, ms_ssim, psnr, speckle_size, speckle_snr, ssim};
use sonolume::{Error, HostTensor, Shape};

fn image(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> HostTensor {
    let data = (0..width * height).map(|i| value(i % width, i / width)).collect();
    HostTensor::new(Shape::new(1, height, width), data).unwrap()
}

/// As `picture` in `goldens/make_metrics.py`.
fn picture(width: usize, height: usize, seed: u64) -> HostTensor {
    image(width, height, |x, y| {
        if y < height / 3 && x < width / 4 {
            return 20.0 / 255.0;
        }
        let (x, y) = (x as u64, y as u64);
        let mixed = (x * 73_856_093 + y * 19_349_663 + seed * 83_492_791) & 0xFFFF_FFFF;
        let mixed = ((mixed ^ (mixed >> 13)) * 1_274_126_177) & 0xFFFF_FFFF;
        let noise = (mixed >> 16) % 64;
        let level = (x * 3 + y * 2 + 40 * ((x / 16 + y / 12) % 3)) % 192 + noise * (1 + seed % 2) / 2;
        level as f32 / 255.0
    })
}

/// Written so that NaN fails.
fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

#[test]
fn the_goldens_agree() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("goldens/metrics.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let (width, height) = (size("width"), size("height"));
        let (a, mut b) = (picture(width, height, 1), picture(width, height, 2));
        for y in 0..height / 6 {
            b.data_mut()[y * width..][..width / 8].fill(0.5);
        }
        let mask: Vec<bool> = (0..width * height).map(|i| (i % width + 2 * (i / width)) % 7 < 4).collect();
        let check = |key: &str, found: f64| {
            assert_close(found, case[key].as_f64().unwrap(), 1e-5, &format!("{width}x{height} {key}"));
        };
        check("psnr", psnr(&a, &b, 1.0, None).unwrap());
        check("psnr_masked", psnr(&a, &b, 1.0, Some(&mask)).unwrap());
        check("ssim", ssim(&a, &b, 1.0, None).unwrap());
        check("ssim_masked", ssim(&a, &b, 1.0, Some(&mask)).unwrap());
        check("lncc", lncc(&a, &b, None).unwrap());
        check("lncc_masked", lncc(&a, &b, Some(&mask)).unwrap());
        if width.min(height) >= 176 {
            check("ms_ssim", ms_ssim(&a, &b, 1.0).unwrap());
        } else {
            assert!(matches!(ms_ssim(&a, &b, 1.0), Err(Error::Shape(_))));
        }
    }
}

#[test]
fn equal_images_are_perfect() {
    let a = picture(180, 177, 1);
    assert_eq!(psnr(&a, &a, 1.0, None).unwrap(), f64::INFINITY);
    assert_close(ssim(&a, &a, 1.0, None).unwrap(), 1.0, 1e-12, "ssim");
    assert_close(ms_ssim(&a, &a, 1.0).unwrap(), 1.0, 1e-12, "ms_ssim");
    assert_close(lncc(&a, &a, None).unwrap(), 1.0, 1e-9, "lncc");
}

#[test]
fn closed_forms_hold() {
    let (zero, tenth) = (image(12, 15, |_, _| 0.0), image(12, 15, |_, _| 0.1));
    assert_close(psnr(&zero, &tenth, 1.0, None).unwrap(), 20.0, 1e-5, "psnr");
    let expected = 1e-4 / (0.01 + 1e-4);
    assert_close(ssim(&zero, &tenth, 1.0, None).unwrap(), expected, 1e-7, "ssim of constants");
    let a = picture(40, 30, 1);
    let negative = image(40, 30, |x, y| 1.0 - a.data()[y * 40 + x]);
    assert_close(lncc(&a, &negative, None).unwrap(), -1.0, 1e-4, "lncc of the negative");
    assert_close(lncc(&a, &image(40, 30, |_, _| 0.3), None).unwrap(), 0.0, 0.0, "lncc of a constant");
    assert!(lncc(&tenth, &tenth, None).unwrap().is_nan());
}

#[test]
fn regions_are_told_apart() {
    let halves = image(20, 10, |x, y| if x < 10 { 0.2 + 0.1 * (y % 2) as f32 } else { 0.6 + 0.1 * (y % 2) as f32 });
    let left: Vec<bool> = (0..200).map(|i| i % 20 < 10).collect();
    let right: Vec<bool> = left.iter().map(|inside| !inside).collect();
    assert_close(gcnr(&halves, &left, &right).unwrap(), 1.0, 1e-12, "gcnr apart");
    assert_close(gcnr(&halves, &left, &left).unwrap(), 0.0, 1e-12, "gcnr alike");
    // Means 0.25 and 0.65, deviations 0.05: |difference| / sigma = 8.
    assert_close(cnr_db(&halves, &left, &right).unwrap(), 20.0 * 8.0_f64.log10(), 1e-5, "cnr");
    assert_close(speckle_snr(&halves, &left).unwrap(), 5.0, 1e-5, "snr");
    assert_close(equivalent_looks(&halves, &left).unwrap(), 25.0, 1e-4, "enl");
    // A quarter of one region reaches into the other.
    let ramp = image(8, 1, |x, _| [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0][x]);
    let first: Vec<bool> = (0..8).map(|i| i < 4).collect();
    let second: Vec<bool> = (0..8).map(|i| i >= 4).collect();
    assert_close(gcnr(&ramp, &first, &second).unwrap(), 0.75, 1e-12, "gcnr overlap");
}

#[test]
fn speckle_size_is_that_of_a_known_correlation() {
    // Period 24 across and 16 down: the correlation is cos(2 pi lag / period), one half at a sixth of it.
    let turn = |i: usize, period: f64| (std::f64::consts::TAU * i as f64 / period).cos();
    let waves = image(24 * 40, 16 * 30, |x, y| (turn(x, 24.0) * turn(y, 16.0)) as f32);
    let size = speckle_size(&waves, &vec![true; 24 * 40 * 16 * 30]).unwrap();
    assert_close(size.lateral, 8.0, 0.05, "lateral");
    assert_close(size.axial, 16.0 / 3.0, 0.1, "axial");
}

#[test]
fn misuse_is_an_error_and_nan_comes_through() {
    let (a, b) = (picture(20, 30, 1), picture(30, 20, 1));
    assert!(matches!(psnr(&a, &b, 1.0, None), Err(Error::Shape(_))));
    assert!(matches!(psnr(&a, &a, 0.0, None), Err(Error::Options(_))));
    assert!(matches!(ssim(&a, &a, 1.0, Some(&[true])), Err(Error::Shape(_))));
    assert!(matches!(lncc(&a, &a, Some(&[false; 600])), Err(Error::Options(_))));
    let small = image(10, 300, |_, _| 0.5);
    assert!(matches!(ssim(&small, &small, 1.0, None), Err(Error::Shape(_))));
    let empty = HostTensor::zeros(Shape::new(1, 0, 5)).unwrap();
    assert!(matches!(psnr(&empty, &empty, 1.0, None), Err(Error::Shape(_))));
    let mut bad = picture(200, 190, 1);
    let good = bad.clone();
    bad.data_mut()[100 * 200 + 77] = f32::NAN;
    assert!(psnr(&good, &bad, 1.0, None).unwrap().is_nan());
    assert!(ssim(&good, &bad, 1.0, None).unwrap().is_nan());
    assert!(ms_ssim(&good, &bad, 1.0).unwrap().is_nan());
    assert!(lncc(&good, &bad, None).unwrap().is_nan());
}
