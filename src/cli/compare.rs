//! `sonolume compare`: how far two pictures are apart.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use sonolume::metrics::{self, SpeckleSize};
use sonolume::{Frame, HostTensor};

use super::console::Console;
use super::failure::{Failure, Kind, Result, outcome};
use super::files::{self, Listed};

/// Pixels darker than this (of 255) are background: their speckle is not measured.
const BACKGROUND: f32 = 8.0;

/// Compare two pictures, or the pictures of two folders that have the same name (endings aside).
///
/// PSNR, SSIM (Wang 2004), MS-SSIM (pictures of 176 pixels a side at least), LNCC (9x9) and the largest difference, all of the luma;
/// and the size of speckle in each, lateral by axial, where neither is black. Several pairs are followed by their mean.
#[derive(Args)]
pub struct Options {
    /// A picture or a folder; `-` for stdin.
    a: PathBuf,

    /// Another.
    b: PathBuf,

    /// A picture of the same size: only pixels that are white in it count. MS-SSIM has no mask.
    #[arg(long, value_name = "PATH")]
    mask: Option<PathBuf>,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let mask = options.mask.as_deref().map(files::read_picture).transpose()?;
    let is_folder = |path: &Path| !files::is_stream(path) && path.is_dir();
    let pairs = match (is_folder(&options.a), is_folder(&options.b)) {
        (false, false) if files::is_stream(&options.a) && files::is_stream(&options.b) => {
            return Err(Failure::usage("stdin (`-`) can be read only once"));
        }
        (false, false) => vec![(options.a.clone(), options.b.clone())],
        (true, true) => pairs(options, console)?,
        _ => return Err(Failure::usage("a picture and a folder cannot be compared: name two of a kind")),
    };
    let mut measured = Vec::new();
    let mut failures = Vec::new();
    for (a, b) in &pairs {
        match Comparison::of(a, b, mask.as_ref()) {
            Ok(comparison) => {
                if console.json() {
                    console.record(&comparison.record(a, b))?;
                } else {
                    console.text(&comparison.text(&format!("{} against {}", files::name(a), files::name(b))))?;
                }
                measured.push(comparison);
            }
            Err(failure) => {
                console.fail(&failure);
                failures.push(failure.kind);
            }
        }
    }
    if is_folder(&options.a) && !measured.is_empty() {
        let mean = Comparison::mean(&measured);
        if console.json() {
            console.record(&json!({ "pairs": measured.len(), "mean": mean.values() }))?;
        } else {
            console.text(&mean.text(&format!("mean of {} pairs", measured.len())))?;
        }
    }
    Ok(outcome(measured.len(), &failures))
}

/// The pictures of the two folders that share a name, in alphabetical order.
fn pairs(options: &Options, console: &Console) -> Result<Vec<(PathBuf, PathBuf)>> {
    let by_stem = |folder: &Path| -> Result<BTreeMap<PathBuf, PathBuf>> {
        let mut found = BTreeMap::new();
        for Listed { path, relative } in files::list(folder, false, None)? {
            if let Some(other) = found.insert(relative.with_extension(""), path) {
                let message = "there is another picture of this name with another ending: keep one of them";
                return Err(Failure::new(Kind::Input, message).at(&other));
            }
        }
        Ok(found)
    };
    let (a, mut b) = (by_stem(&options.a)?, by_stem(&options.b)?);
    let mut pairs = Vec::new();
    for (stem, path) in a {
        match b.remove(&stem) {
            Some(other) => pairs.push((path, other)),
            None => {
                console.note(format_args!("{}: no picture of this name in {}", path.display(), options.b.display()))
            }
        }
    }
    for path in b.values() {
        console.note(format_args!("{}: no picture of this name in {}", path.display(), options.a.display()));
    }
    if pairs.is_empty() {
        let message = format!("no picture has the name of one in {}", options.b.display());
        return Err(Failure::new(Kind::Input, message).at(&options.a));
    }
    Ok(pairs)
}

/// What was measured; `None` where a picture is too small, NaN where there is nothing to measure.
struct Comparison {
    psnr_db: f64,
    ssim: Option<f64>,
    ms_ssim: Option<f64>,
    lncc: Option<f64>,
    /// Grey levels, of 255.
    largest_difference: f64,
    /// Of both pictures.
    speckle: [Option<SpeckleSize>; 2],
}

impl Comparison {
    fn of(a: &Path, b: &Path, mask: Option<&Frame>) -> Result<Self> {
        let (first, second) = (files::read_picture(a)?.luma(), files::read_picture(b)?.luma());
        let mask = mask.map(|mask| inside(&mask.luma(), &first)).transpose()?;
        let mask = mask.as_deref();
        let refused = |error: sonolume::Error| Failure::new(Kind::Input, error.to_string()).at(b);
        let psnr_db = metrics::psnr(&first, &second, 1.0, mask).map_err(refused)?;
        let differences = first.data().iter().zip(second.data()).map(|(a, b)| f64::from((a - b).abs()));
        let counted = differences.enumerate().filter(|(pixel, _)| mask.is_none_or(|mask| mask[*pixel]));
        let tissue: Vec<bool> = (0..first.data().len())
            .map(|pixel| {
                let darkest = first.data()[pixel].min(second.data()[pixel]);
                mask.is_none_or(|mask| mask[pixel]) && darkest * 255.0 >= BACKGROUND
            })
            .collect();
        // What these refuse is a picture too small, or a mask without a whole window.
        Ok(Self {
            psnr_db,
            ssim: metrics::ssim(&first, &second, 1.0, mask).ok(),
            ms_ssim: metrics::ms_ssim(&first, &second, 1.0).ok(),
            lncc: metrics::lncc(&first, &second, mask).ok(),
            largest_difference: counted.map(|(_, difference)| difference).fold(0.0, f64::max) * 255.0,
            speckle: [&first, &second].map(|image| metrics::speckle_size(image, &tissue).ok()),
        })
    }

    /// The mean of every figure over the pairs that have it; of infinite PSNRs, infinite.
    fn mean(all: &[Self]) -> Self {
        let mean = |figure: &dyn Fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = all.iter().filter_map(figure).filter(|value| !value.is_nan()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let speckle = |which: usize| {
            Some(SpeckleSize {
                lateral: mean(&|one| one.speckle[which].map(|size| size.lateral))?,
                axial: mean(&|one| one.speckle[which].map(|size| size.axial))?,
            })
        };
        Self {
            psnr_db: mean(&|one| Some(one.psnr_db)).unwrap_or(f64::NAN),
            ssim: mean(&|one| one.ssim),
            ms_ssim: mean(&|one| one.ms_ssim),
            lncc: mean(&|one| one.lncc),
            largest_difference: mean(&|one| Some(one.largest_difference)).unwrap_or(f64::NAN),
            speckle: [speckle(0), speckle(1)],
        }
    }

    /// The figures; what is not a finite number is null.
    fn values(&self) -> Value {
        let speckle = self
            .speckle
            .map(|size| json!({ "lateral": size.map(|size| size.lateral), "axial": size.map(|size| size.axial) }));
        let [a, b] = speckle;
        json!({
            "identical": self.largest_difference == 0.0,
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "ms_ssim": self.ms_ssim,
            "lncc": self.lncc,
            "largest_difference_levels": self.largest_difference,
            "speckle_fwhm_pixels": { "a": a, "b": b },
        })
    }

    fn record(&self, a: &Path, b: &Path) -> Value {
        let mut record = self.values();
        if let Value::Object(record) = &mut record {
            record.insert("a".into(), a.to_string_lossy().into());
            record.insert("b".into(), b.to_string_lossy().into());
        }
        record
    }

    fn text(&self, title: &str) -> String {
        let ratio = |value: Option<f64>| value.filter(|v| v.is_finite()).map_or("-".to_owned(), |v| format!("{v:.4}"));
        let pixels = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() };
        let speckle = |size: Option<SpeckleSize>| {
            size.map_or("-".to_owned(), |size| format!("{} x {}", pixels(size.lateral), pixels(size.axial)))
        };
        let psnr = if self.psnr_db.is_finite() { format!("{:.2} dB", self.psnr_db) } else { "infinite".to_owned() };
        let lines = [
            ("PSNR", psnr),
            ("SSIM", ratio(self.ssim)),
            ("MS-SSIM", ratio(self.ms_ssim)),
            ("LNCC", ratio(self.lncc)),
            ("largest difference", format!("{:.1} of 255 levels", self.largest_difference)),
            ("speckle, pixels", format!("{} and {}", speckle(self.speckle[0]), speckle(self.speckle[1]))),
        ];
        let mut text = format!("{title}\n");
        for (label, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {label:<19} {value}");
        }
        text
    }
}

/// The pixels that are white in the mask.
fn inside(mask: &HostTensor, image: &HostTensor) -> Result<Vec<bool>> {
    if mask.shape() != image.shape() {
        let message =
            format!("the mask is {} and the picture {}: use one of the same size", mask.shape(), image.shape());
        return Err(Failure::new(Kind::Input, message));
    }
    Ok(mask.data().iter().map(|&value| value > 0.5).collect())
}
