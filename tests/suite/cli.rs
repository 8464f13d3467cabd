//! The `sonolume` command: every exit code, what goes to which stream, and that nothing is ever half written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::Value;
use sonolume::image::{Format, Frame};
use tempfile::TempDir;

use crate::harness::Golden;

/// What a run of the command left behind.
struct Run {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Run {
    /// The lines of stdout, each an object.
    fn records(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }

    /// The only line of stdout.
    fn record(&self) -> Value {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sonolume"));
    command.current_dir(folder).args(arguments).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command in `folder` with `input` on stdin.
fn feed(folder: &Path, arguments: &[&str], input: &[u8]) -> Run {
    let mut child = command(folder, arguments).spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed: {stderr}"));
    assert!(!stderr.contains("panicked") && code != 101, "{arguments:?}: {stderr}");
    assert!(!stderr.contains(['\r', '\x1b']), "a bar where no terminal is: {stderr:?}");
    for name in files(folder).keys() {
        assert!(!name.contains(".sonolume-"), "{arguments:?} left {name}");
    }
    Run { code, stdout: output.stdout, stderr }
}

fn sonolume(folder: &Path, arguments: &[&str]) -> Run {
    feed(folder, arguments, b"")
}

/// As `sonolume`, with the exit code expected; everything it says on the way is in the message of a failure.
fn expect(code: i32, folder: &Path, arguments: &[&str]) -> Run {
    let run = sonolume(folder, arguments);
    assert_eq!(run.code, code, "{arguments:?}: {}{}", run.stderr, String::from_utf8_lossy(&run.stdout));
    assert!(code == 0 || !run.stderr.is_empty(), "{arguments:?} failed without a word");
    run
}

/// All files below a folder with their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A folder with the small generator `g.safetensors` and the pictures `name:WIDTHxHEIGHT`.
fn folder(pictures: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models/sonolume.safetensors");
    fs::copy(model, folder.path().join("g.safetensors")).unwrap();
    for picture in pictures {
        let (name, size) = picture.split_once(':').unwrap();
        let (width, height) = size.split_once('x').unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        grey(width.parse().unwrap(), height.parse().unwrap()).save(path).unwrap();
    }
    folder
}

fn grey(width: usize, height: usize) -> Frame {
    let sample = |i: usize| ((i % width) * 5 + (i / width) * 3 + i * i % 17) as u8;
    Frame::from_luma8(width, height, (0..width * height).map(sample).collect()).unwrap()
}

const CPU: [&str; 4] = ["-m", "g.safetensors", "--device", "cpu"];

/// `enhance` on the CPU with the small generator.
fn enhance<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    ["enhance"].into_iter().chain(CPU).chain(arguments.iter().copied()).collect()
}

#[test]
fn a_picture_becomes_a_file_and_the_original_stays() {
    let folder = folder(&["a.png:37x23"]);
    let at = folder.path();
    let before = files(at);
    let run = expect(0, at, &enhance(&["a.png", "-o", "out.png", "--diff", "diff.tif"]));
    assert!(run.stdout.is_empty() && run.stderr.contains("a.png -> out.png"), "{}", run.stderr);
    let mut after = files(at);
    let (out, diff) = (after.remove("out.png").unwrap(), after.remove("diff.tif").unwrap());
    assert_eq!(after, before);
    let (out, diff) = (Frame::decode(&out).unwrap(), Frame::decode(&diff).unwrap());
    assert_eq!((out.width(), out.height(), diff.width()), (37, 23, 37));
    assert_ne!(out, grey(37, 23));

    // A file that is named is replaced; strength 0 is the identity; --skip-existing keeps it.
    expect(0, at, &enhance(&["a.png", "-o", "out.png", "--strength", "0", "-q"]));
    assert_eq!(Frame::open(at.join("out.png")).unwrap(), grey(37, 23));
    let run = expect(0, at, &enhance(&["a.png", "-o", "out.png", "--skip-existing"]));
    assert!(run.stderr.contains("skipped"), "{}", run.stderr);
    assert_eq!(Frame::open(at.join("out.png")).unwrap(), grey(37, 23));
}

#[test]
fn the_built_in_generator_is_the_default() {
    let folder = folder(&["a.png:40x24"]);
    let run = expect(0, folder.path(), &["enhance", "a.png", "-o", "b.png", "--device", "cpu", "--json", "--quiet"]);
    assert_eq!(run.record()["model"], "sonolume-s");
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}

#[test]
fn the_report_says_what_was_done() {
    let folder = folder(&["a.png:37x23"]);
    let run =
        expect(0, folder.path(), &enhance(&["a.png", "-o", "b.png", "--json", "--tile", "16", "--strength", "0.5"]));
    let record = run.record();
    for (key, expected) in
        [("input", "a.png"), ("output", "b.png"), ("status", "done"), ("model", "g"), ("precision", "f32")]
    {
        assert_eq!(record[key], expected, "{record}");
    }
    assert_eq!(record["device"]["name"], "cpu");
    assert!(record["device_fallback"].is_null(), "{record}");
    assert_eq!(record["model_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(record["strength"], 0.5);
    assert_eq!((&record["input_size"]["width"], &record["output_size"]["height"]), (&37.into(), &23.into()));
    assert!(record["tiles"].as_u64().unwrap() > 1, "{record}");
    assert!(record["seconds"].as_f64().unwrap() > 0.0 && record["tile_size"]["width"].is_u64());
    assert_eq!(record["warnings"], serde_json::json!([]));
}

#[test]
fn tiles_never_change_the_file() {
    let folder = folder(&["a.png:70x45"]);
    let at = folder.path();
    for tile in ["auto", "1", "16", "33", "4000000000"] {
        expect(0, at, &enhance(&["a.png", "-o", &format!("{tile}.png"), "--tile", tile]));
        assert_eq!(fs::read(at.join(format!("{tile}.png"))).unwrap(), fs::read(at.join("auto.png")).unwrap(), "{tile}");
    }
    expect(0, at, &enhance(&["a.png", "-o", "little.png", "--memory-limit", "1"]));
    assert_eq!(fs::read(at.join("little.png")).unwrap(), fs::read(at.join("auto.png")).unwrap());
}

#[test]
fn pictures_pass_through_the_standard_streams() {
    let folder = folder(&["a.png:37x23"]);
    let at = folder.path();
    expect(0, at, &enhance(&["a.png", "-o", "b.png"]));
    let picture = fs::read(at.join("a.png")).unwrap();
    let run = feed(at, &enhance(&["-", "-o", "-"]), &picture);
    assert_eq!((run.code, Format::guess(&run.stdout)), (0, Some(Format::Png)), "{}", run.stderr);
    assert_eq!(Frame::decode(&run.stdout).unwrap(), Frame::open(at.join("b.png")).unwrap());
    let run = feed(at, &enhance(&["-", "-o", "-", "--format", "tiff"]), &picture);
    assert_eq!(Format::guess(&run.stdout), Some(Format::Tiff));
    let run = feed(at, &enhance(&["-", "-o", "-"]), &picture[..picture.len() / 2]);
    assert_eq!((run.code, run.stdout.len()), (5, 0));
    assert!(run.stderr.starts_with("sonolume: stdin: "), "{}", run.stderr);
    let run = feed(at, &enhance(&["-", "-o", "c.png", "--json"]), &picture);
    assert_eq!((run.code, &run.record()["input"]), (0, &"-".into()));
}

#[test]
fn folders_keep_names_and_continue_where_they_stopped() {
    let folder = folder(&["in/a.png:20x17", "in/b.jpg:20x17", "in/c.bmp:20x17", "in/deep/d.png:9x8"]);
    let at = folder.path();
    fs::write(at.join("in/notes.txt"), "not a picture").unwrap();
    fs::write(at.join("in/.hidden.png"), "not a picture").unwrap();
    let run = expect(0, at, &enhance(&["in", "-o", "out", "--json"]));
    let outputs: Vec<Value> = run.records().iter().map(|record| record["output"].clone()).collect();
    assert_eq!(outputs, ["out/a.png", "out/b.png", "out/c.bmp"]);
    let first = files(&at.join("out"));
    assert_eq!(first.len(), 3);

    // What is there stays; what is missing is made.
    fs::write(at.join("out/a.png"), "mine").unwrap();
    fs::remove_file(at.join("out/c.bmp")).unwrap();
    let run = expect(0, at, &enhance(&["in", "-o", "out", "--json"]));
    let states: Vec<Value> = run.records().iter().map(|record| record["status"].clone()).collect();
    assert_eq!(states, ["skipped", "skipped", "done"]);
    assert!(run.stderr.contains("--overwrite"), "{}", run.stderr);
    assert_eq!(fs::read(at.join("out/a.png")).unwrap(), b"mine");
    expect(0, at, &enhance(&["in", "-o", "out", "--overwrite"]));
    assert_eq!(files(&at.join("out")), first);

    // Results inside the folder are no originals the next time.
    for _ in 0..2 {
        expect(0, at, &enhance(&["in", "-o", "in/out", "--recursive", "--diff", "diff/"]));
        let names: Vec<String> = files(&at.join("in/out")).into_keys().collect();
        assert_eq!(names, ["a.png", "b.png", "c.bmp", "deep/d.png"]);
        assert_eq!(files(&at.join("diff")).len(), 4);
    }
}

#[test]
fn a_batch_goes_on_after_a_failure() {
    let folder = folder(&["a.png:20x17", "c.png:20x17"]);
    let at = folder.path();
    fs::write(at.join("b.png"), "not a picture").unwrap();
    let run = expect(3, at, &enhance(&["a.png", "b.png", "c.png", "missing.png", "-o", "out", "--json"]));
    let states: Vec<Value> = run.records().iter().map(|record| record["status"].clone()).collect();
    assert_eq!(states, ["done", "failed", "done", "failed"]);
    assert_eq!(run.records()[1]["error"]["code"], 5);
    assert!(run.stderr.contains("sonolume: b.png: "), "{}", run.stderr);
    assert_eq!(files(&at.join("out")).len(), 2);
    // All alike, all in different ways, and one alone.
    expect(5, at, &enhance(&["b.png", "-o", "x.png"]));
    fs::write(at.join("e.png"), "nor this").unwrap();
    expect(5, at, &enhance(&["b.png", "e.png", "-o", "new"]));
    expect(1, at, &enhance(&["b.png", "missing.png", "-o", "new"]));
    expect(1, at, &enhance(&["missing.png", "-o", "x.png"]));
    assert!(!at.join("new").exists() && !at.join("x.png").exists());
    fs::create_dir(at.join("empty")).unwrap();
    expect(5, at, &enhance(&["empty", "-o", "new"]));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let folder = folder(&["a.png:20x17", "d/a.png:20x17"]);
    let at = folder.path();
    let before = files(at);
    let wrong: &[&[&str]] = &[
        &["a.png"],
        &["-o", "b.png"],
        &["a.png", "-o", "b.png", "--no-such-option"],
        &["a.png", "-o", "b.png", "--strength", "1.5"],
        &["a.png", "-o", "b.png", "--strength", "-0.1"],
        &["a.png", "-o", "b.png", "--strength", "NaN"],
        &["a.png", "-o", "b.png", "--tile", "0"],
        &["a.png", "-o", "b.png", "--tile", "many"],
        &["a.png", "-o", "b.png", "--precision", "f8"],
        &["a.png", "-o", "b.png", "--memory-limit", "0"],
        &["a.png", "-o", "b.png", "--overwrite", "--skip-existing"],
        &["a.png", "-o", "b.txt"],
        &["a.png", "-o", "b"],
        &["a.png", "-o", "b.jpg", "--format", "png"],
        &["a.png", "-o", "b.png", "--diff", "c"],
        &["a.png", "-o", "b.png", "--diff", "-"],
        &["a.png", "-o", "b.png", "--diff", "b.png"],
        &["a.png", "-o", "b.png", "--diff", "./b.png"],
        &["a.png", "-o", "-", "--json"],
        &["a.png", "d/a.png", "-o", "out"],
        &["a.png", "d/a.png", "-o", "g.safetensors"],
        &["a.png", "d/a.png", "-o", "-"],
        &["-", "-", "-o", "out"],
        &["-", "-o", "out/"],
    ];
    for arguments in wrong {
        expect(2, at, &enhance(arguments));
    }
    expect(2, at, &["enhance", "a.png", "-o", "b.png", "--device", ""]);
    expect(2, at, &[]);
    expect(2, at, &["improve"]);
    expect(2, at, &["models", "--size", "10"]);
    expect(2, at, &["phantom", "-o", "p.png", "--size", "8x8"]);
    expect(2, at, &["phantom", "-o", "p.png", "--low-output", "p.png"]);
    expect(2, at, &["compare", "a.png", "d"]);
    let record = expect(2, at, &["enhance", "--json", "--tile", "0"]).record();
    assert_eq!((&record["status"], &record["error"]["code"]), (&"failed".into(), &2.into()));
    assert_eq!(files(at), before);
    expect(0, at, &["--help"]);
    expect(0, at, &["enhance", "--help"]);
    assert!(expect(0, at, &["--version"]).stdout.starts_with(b"sonolume "));
}

#[test]
fn originals_are_never_replaced() {
    let folder = folder(&["a.png:20x17", "in/a.png:20x17", "in/b.jpg:20x17", "in/b.png:20x17"]);
    let at = folder.path();
    #[cfg(unix)]
    std::os::unix::fs::symlink("a.png", at.join("link.png")).unwrap();
    let before = files(at);
    let mut ways: Vec<Vec<&str>> = vec![
        vec!["a.png", "-o", "a.png", "--overwrite"],
        vec!["a.png", "-o", "./in/../a.png"],
        vec!["a.png", "-o", "."],
        vec!["in", "-o", "in", "--overwrite"],
        // b.jpg would become b.png.
        vec!["in/b.jpg", "in/b.png", "-o", "out"],
        vec!["a.png", "-o", "b.png", "--diff", "a.png"],
        vec!["a.png", "-o", "g.safetensors", "--format", "png"],
    ];
    if cfg!(unix) {
        ways.push(vec!["a.png", "-o", "link.png"]);
        ways.push(vec!["link.png", "-o", "a.png"]);
    }
    for way in ways {
        let run = expect(2, at, &enhance(&way));
        assert!(run.stderr.contains("original") || run.stderr.contains("two results"), "{}", run.stderr);
    }
    let tensor = ["tensor", "--input", "g.safetensors", "--output", "g.safetensors", "-m", "g.safetensors"];
    expect(2, at, &tensor);
    assert_eq!(files(at), before);
}

#[test]
fn a_device_that_is_not_there_is_its_own_exit_code() {
    let folder = folder(&["a.png:20x17"]);
    let named = ["enhance", "a.png", "-o", "b.png", "-m", "g.safetensors", "--device", "no such device", "--json"];
    let run = expect(4, folder.path(), &named);
    assert!(run.stderr.contains("no such device") && run.stderr.contains("`cpu`"), "{}", run.stderr);
    assert_eq!(run.record()["error"]["kind"], "no-device");
    assert!(!folder.path().join("b.png").exists());
}

#[test]
fn falling_back_to_the_cpu_is_said_once() {
    let folder = folder(&["a.png:20x17", "b.png:20x17"]);
    let at = folder.path();
    let devices = expect(0, at, &["devices", "--json"]).records();
    assert_eq!(devices.last().unwrap()["name"], "cpu");
    let automatic: Vec<&Value> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert_eq!(automatic.len(), 1);
    assert_ne!(automatic[0]["kind"], "software");
    let run = expect(0, at, &["enhance", "a.png", "b.png", "-o", "out", "-m", "g.safetensors", "--json"]);
    let fell_back = automatic[0]["kind"] == "cpu";
    assert_eq!(run.stderr.matches("there is no GPU").count(), usize::from(fell_back), "{}", run.stderr);
    for record in run.records() {
        assert_eq!(record["device"]["name"], automatic[0]["name"]);
        assert_eq!(record["device_fallback"].is_string(), fell_back);
    }
    let text = String::from_utf8(expect(0, at, &["devices"]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("* ")).count(), 1);
}

/// The generator with `change` applied to its tensors.
fn damaged(at: &Path, change: impl Fn(&str, &mut [f32])) -> Vec<u8> {
    let bytes = fs::read(at.join("g.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let mut values: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            change(&name, &mut values);
            (name, view.shape().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views =
        changed.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    serialize(views, None).unwrap()
}

#[test]
fn damaged_weights_are_told_apart_from_damaged_results() {
    let folder = folder(&["a.png:20x17"]);
    let at = folder.path();
    let good = fs::read(at.join("g.safetensors")).unwrap();
    let run = |expected: i32, bytes: &[u8]| {
        fs::write(at.join("bad.safetensors"), bytes).unwrap();
        let run = expect(
            expected,
            at,
            &["enhance", "a.png", "-o", "b.png", "-m", "bad.safetensors", "--device", "cpu", "--json"],
        );
        assert!(!at.join("b.png").exists() || expected == 0);
        run
    };
    for length in [0, 1, 7, 8, 100, good.len() / 2, good.len() - 1] {
        let run = run(5, &good[..length]);
        assert!(run.stderr.contains("bad.safetensors"), "{}", run.stderr);
        assert_eq!(run.record()["error"]["kind"], "weights");
    }
    let nan = damaged(at, |name, values| {
        if name == "stem.weight" {
            values[3] = f32::NAN
        }
    });
    assert!(run(5, &nan).stderr.contains("`stem.weight`"));
    let stranger = serialize([("stranger", TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap())], None).unwrap();
    assert!(run(5, &stranger).stderr.contains("closest"));
    // Finite weights whose result is not.
    let huge = damaged(at, |_, values| values.iter_mut().for_each(|value| *value *= 1e30));
    let failed = run(1, &huge);
    assert!(failed.stderr.contains("not finite"), "{}", failed.stderr);

    for step in 0..24 {
        let mut flipped = good.clone();
        let bit = step * good.len() * 8 / 24 / if step < 12 { 10 } else { 1 } + step;
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(at.join("bad.safetensors"), flipped).unwrap();
        let run = sonolume(at, &["enhance", "a.png", "-o", "flip.png", "-m", "bad.safetensors", "--device", "cpu"]);
        assert!([0, 1, 5].contains(&run.code), "bit {bit}: {} {}", run.code, run.stderr);
        assert_eq!(at.join("flip.png").exists(), run.code == 0, "bit {bit}");
        let _ = fs::remove_file(at.join("flip.png"));
    }
    let run = expect(1, at, &["enhance", "a.png", "-o", "b.png", "-m", "no-such-model", "--device", "cpu"]);
    assert!(run.stderr.contains("no such file") && run.stderr.contains("sonolume-s"), "{}", run.stderr);
}

#[test]
fn odd_pictures_are_enhanced_and_broken_ones_refused() {
    let folder = folder(&["one.png:1x1", "flat.png:5000x1", "thin.png:1x5000", "two.png:2x3"]);
    let at = folder.path();
    for name in ["one.png", "flat.png", "thin.png", "two.png"] {
        expect(0, at, &enhance(&[name, "-o", &format!("out-{name}")]));
        let (before, after) =
            (Frame::open(at.join(name)).unwrap(), Frame::open(at.join(format!("out-{name}"))).unwrap());
        assert_eq!((before.width(), before.height()), (after.width(), after.height()));
        let mimicknet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models/mimicknet.safetensors");
        let run = sonolume(at, &["enhance", name, "-o", "m.png", "-m", mimicknet.to_str().unwrap(), "--device", "cpu"]);
        // Some generators need more pixels than there are; then they say so.
        assert!([0, 5].contains(&run.code), "{name}: {}", run.stderr);
    }
    let mut bitmap = grey(4, 3).encode(Format::Bmp).unwrap();
    bitmap[18..22].copy_from_slice(&0_u32.to_le_bytes());
    fs::write(at.join("zero.bmp"), &bitmap).unwrap();
    bitmap[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    bitmap[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
    fs::write(at.join("bomb.bmp"), &bitmap).unwrap();
    fs::write(at.join("empty.png"), "").unwrap();
    let good = grey(30, 20).encode(Format::Png).unwrap();
    fs::write(at.join("short.png"), &good[..good.len() / 2]).unwrap();
    fs::write(at.join("text.png"), "no picture at all").unwrap();
    for name in ["zero.bmp", "bomb.bmp", "empty.png", "short.png", "text.png", "g.safetensors"] {
        let run = expect(5, at, &enhance(&[name, "-o", "x.png"]));
        assert!(run.stderr.starts_with(&format!("sonolume: {name}: ")), "{}", run.stderr);
        assert!(!at.join("x.png").exists());
    }
}

#[test]
fn what_cannot_be_written_is_found_before_the_work() {
    // On the CPU this picture would take far longer than the test may.
    let folder = folder(&["a.png:20x17", "large.png:6000x6000"]);
    let at = folder.path();
    let run = expect(1, at, &enhance(&["large.png", "-o", "missing/b.png"]));
    assert!(run.stderr.contains("create it first"), "{}", run.stderr);
    expect(1, at, &enhance(&["large.png", "-o", "b.png", "--diff", "missing/b.png"]));
    expect(1, at, &enhance(&["large.png", "-o", "a.png/b.png"]));
    expect(1, at, &enhance(&["large.png", "a.png", "-o", "a.png/b/c"]));
    fs::create_dir(at.join("folder.png")).unwrap();
    expect(1, at, &enhance(&["large.png", "-o", "b.png", "--diff", "folder.png/large.png/x.png"]));
    expect(1, at, &["phantom", "-o", "missing/p.png"]);
    if cfg!(target_os = "linux") {
        expect(1, at, &enhance(&["large.png", "-o", "/proc/b.png"]));
        let run = expect(1, at, &enhance(&["a.png", "-o", "/dev/full"]));
        assert!(run.stderr.contains("/dev/full"), "{}", run.stderr);
        expect(0, at, &enhance(&["a.png", "-o", "/dev/null"]));
    }
    // 16 bits do not fit a JPEG; that too is known before.
    Frame::from_luma16(4000, 4000, vec![7; 16_000_000]).unwrap().save(at.join("deep.png")).unwrap();
    let run = expect(2, at, &enhance(&["deep.png", "-o", "b.jpg"]));
    assert!(run.stderr.contains("PNG or TIFF"), "{}", run.stderr);
    assert!(!at.join("b.png").exists() && !at.join("b.jpg").exists());
}

#[cfg(unix)]
#[test]
fn interrupted_work_leaves_nothing() {
    use std::io::{BufRead, BufReader};
    let folder = folder(&["a.png:20x17", "b.png:900x900"]);
    let at = folder.path();
    let arguments = enhance(&["a.png", "b.png", "-o", "out", "--tile", "1", "--json"]);
    let mut child = command(at, &arguments).env("RUST_LOG", "sonolume=info").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("width=900")), "the second picture was never begun");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    let names: Vec<String> = files(&at.join("out")).into_keys().collect();
    assert_eq!(names, ["a.png"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = folder(&["a.png:20x17"]);
    for arguments in
        [vec!["models", "--json"], vec!["devices"], vec!["--help"], enhance(&["a.png", "-o", "b.png", "--json"])]
    {
        let mut child = command(folder.path(), &arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    assert!(folder.path().join("b.png").exists());
}

#[test]
fn colour_and_alpha_pass_unchanged_and_are_reported() {
    let folder = folder(&[]);
    let at = folder.path();
    let red = Frame::from_rgb8(20, 17, [200, 10, 10].repeat(340)).unwrap();
    red.save(at.join("red.png")).unwrap();
    let record = expect(0, at, &enhance(&["red.png", "-o", "out.png", "--json"])).record();
    assert!(record["warnings"][0].as_str().unwrap().contains("colour"), "{record}");
    assert_eq!(Frame::open(at.join("out.png")).unwrap(), red);
    let wide = Frame::from_luma16(20, 17, (0..340).map(|i| i * 190).collect()).unwrap();
    wide.save(at.join("wide.png")).unwrap();
    expect(0, at, &enhance(&["wide.png", "-o", "out.tif"]));
    assert_eq!(Frame::open(at.join("out.tif")).unwrap().bits(), 16);
}

/// The values and the shape of the tensor `output`.
fn output(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("output").unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    (view.shape().to_vec(), view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    serialize([(name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())], None).unwrap()
}

#[test]
fn tensors_are_what_pytorch_says() {
    let folder = folder(&[]);
    let at = folder.path();
    let golden = Golden::open("models/sonolume.reference");
    let ((shape, input), (_, expected)) = (golden.find("input").unwrap(), golden.find("output").unwrap());
    // Two images: the second one is the first one dimmed, so it differs.
    let dimmed: Vec<f32> = input.iter().map(|value| value * 0.5).collect();
    let bytes: Vec<u8> = input.iter().chain(&dimmed).flat_map(|value| value.to_le_bytes()).collect();
    let two = [2, shape[1], shape[2], shape[3]];
    fs::write(at.join("x.safetensors"), tensor("input", Dtype::F32, &two, &bytes)).unwrap();
    let base = ["tensor", "-m", "g.safetensors", "--device", "cpu", "--output", "y.safetensors", "--input"];
    let with = |name: &'static str| [&base[..], &[name]].concat();
    let run = expect(0, at, &with("x.safetensors"));
    assert!(run.stdout.is_empty());
    let (found, values) = output(&at.join("y.safetensors"));
    assert_eq!(found, two);
    let range = expected.iter().fold(0.0f32, |range, value| range.max(value.abs()));
    let half = expected.len();
    for (value, expected) in values[..half].iter().zip(&expected) {
        assert!((value - expected).abs() <= 2e-5 * range, "{value} {expected}");
    }
    assert_ne!(values[..half], values[half..]);

    // Tiles change no bit; doubles are the same values.
    expect(0, at, &[&with("x.safetensors")[..], &["--tile", "16", "--json"]].concat());
    assert_eq!(output(&at.join("y.safetensors")).1, values);
    let doubles: Vec<u8> = input.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
    fs::write(at.join("x64.safetensors"), tensor("input", Dtype::F64, &shape, &doubles)).unwrap();
    expect(0, at, &with("x64.safetensors"));
    assert_eq!(output(&at.join("y.safetensors")).1, values[..half]);

    fs::remove_file(at.join("y.safetensors")).unwrap();
    let one = 1.0f32.to_le_bytes();
    let wrong = [
        ("name", tensor("image", Dtype::F32, &[1, 1, 1, 1], &one)),
        ("rank", tensor("input", Dtype::F32, &[1, 1, 1], &one)),
        ("kind", tensor("input", Dtype::I32, &[1, 1, 1, 1], &one)),
        ("channels", tensor("input", Dtype::F32, &[1, 2, 1, 1], &[one, one].concat())),
        ("empty", tensor("input", Dtype::F32, &[1, 1, 0, 4], &[])),
        ("nan", tensor("input", Dtype::F32, &[1, 1, 1, 1], &f32::NAN.to_le_bytes())),
        ("short", tensor("input", Dtype::F32, &[1, 1, 1, 1], &one)[..20].to_vec()),
    ];
    for (what, bytes) in wrong {
        fs::write(at.join("wrong.safetensors"), bytes).unwrap();
        let run = expect(5, at, &with("wrong.safetensors"));
        assert!(run.stderr.contains("wrong.safetensors"), "{what}: {}", run.stderr);
        assert!(!at.join("y.safetensors").exists(), "{what}");
    }
    expect(1, at, &with("missing.safetensors"));
}

#[test]
fn models_are_described_before_they_run() {
    let folder = folder(&[]);
    let at = folder.path();
    let records = expect(0, at, &["models", "--json"]).records();
    assert_eq!(records[0]["name"], "sonolume-s");
    let known = records[1]["architectures"].as_array().unwrap();
    assert!(known.contains(&"sonolume".into()) && known.contains(&"MimickNet".into()), "{known:?}");
    let record = expect(0, at, &["models", "g.safetensors", "--size", "71x45", "--json"]).record();
    assert_eq!((&record["in_channels"], &record["size"]["width"]), (&1.into(), &71.into()));
    for key in ["gflop", "gmac", "parameters"] {
        assert!(record[key].as_f64().unwrap() > 0.0, "{key}: {record}");
    }
    assert!(
        record["reach"]["vertical"].as_u64().unwrap() > 0 && record["alignment"]["horizontal"].as_u64().unwrap() > 1
    );
    for key in ["traffic_bytes", "peak_activation_bytes", "weight_bytes"] {
        assert_eq!(record[key]["f32"].as_u64().unwrap(), 2 * record[key]["f16"].as_u64().unwrap(), "{key}");
    }
    let text = String::from_utf8(expect(0, at, &["models"]).stdout).unwrap();
    assert!(text.contains("GFLOP") && text.contains("Architectures"), "{text}");
    fs::write(at.join("bad.safetensors"), "bad").unwrap();
    expect(5, at, &["models", "bad.safetensors"]);
    expect(3, at, &["models", "bad.safetensors", "g.safetensors"]);
}

#[test]
fn a_device_is_measured_after_its_answer_was_checked() {
    let folder = folder(&[]);
    let at = folder.path();
    let sizes = ["--size", "48x32", "--size", "33x70", "-r", "3", "--device", "cpu"];
    let with = |first: &[&'static str]| -> Vec<&str> { first.iter().chain(&sizes).copied().collect() };
    let records = expect(0, at, &with(&["bench", "g.safetensors", "--json"])).records();
    assert_eq!(records.len(), 2);
    for (record, width) in records.iter().zip([48, 33]) {
        assert_eq!((&record["size"]["width"], &record["device"]["kind"]), (&width.into(), &"cpu".into()));
        assert_eq!((&record["model"], &record["precision"]), (&"g".into(), &"f32".into()));
        for key in ["frames_per_second", "ms_per_megapixel", "gflop", "gflops", "activation_bytes", "weight_bytes"] {
            assert!(record[key].as_f64().unwrap() > 0.0, "{key}: {record}");
        }
        for key in ["open_ms", "first_ms"] {
            assert!(record[key].as_f64().unwrap() > 0.0, "{key}: {record}");
        }
        let [min, median, max] = ["min", "median", "max"].map(|key| record["ms"][key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{record}");
        // In tiles and whole, the CPU's answer is the same bits.
        assert_eq!(record["error"], 0.0);
    }
    let text = String::from_utf8(expect(0, at, &with(&["bench", "g.safetensors"])).stdout).unwrap();
    assert!(text.starts_with("cpu, f32\n") && text.lines().count() == 4, "{text}");

    fs::write(at.join("bad.safetensors"), "bad").unwrap();
    expect(3, at, &with(&["bench", "bad.safetensors", "g.safetensors"]));
    expect(5, at, &with(&["bench", "bad.safetensors"]));
    expect(1, at, &with(&["bench", "missing.safetensors"]));
    expect(2, at, &["bench", "--size", "10"]);
    expect(2, at, &["bench", "--repetitions", "0"]);
    expect(4, at, &["bench", "g.safetensors", "--device", "no such device"]);
}

#[test]
fn phantoms_are_repeatable_and_can_be_compared() {
    let folder = folder(&[]);
    let at = folder.path();
    expect(0, at, &["phantom", "-o", "high.png", "--low-output", "low.png", "--size", "208x192", "--seed", "3"]);
    expect(0, at, &["phantom", "-o", "again.png", "--size", "208x192", "--seed", "3"]);
    assert_eq!(fs::read(at.join("low.png")).unwrap(), fs::read(at.join("again.png")).unwrap());
    let run = expect(0, at, &["phantom", "-o", "-", "--quality", "high", "--size", "208x192", "--seed", "3"]);
    assert_eq!(run.stdout, fs::read(at.join("high.png")).unwrap());
    let truth =
        expect(0, at, &["phantom", "-o", "t.png", "--scene", "targets", "--geometry", "fan", "--json"]).record();
    assert!(truth["cysts"][0]["radius"].as_f64().unwrap() > 0.0, "{truth}");

    let record = expect(0, at, &["compare", "high.png", "low.png", "--json"]).record();
    assert_eq!(record["identical"], false);
    for key in ["psnr_db", "ssim", "ms_ssim", "lncc", "largest_difference_levels"] {
        assert!(record[key].is_f64(), "{key}: {record}");
    }
    assert!(
        record["speckle_fwhm_pixels"]["b"]["lateral"].as_f64() > record["speckle_fwhm_pixels"]["a"]["lateral"].as_f64()
    );
    let record = expect(0, at, &["compare", "low.png", "again.png", "--json"]).record();
    assert_eq!((&record["identical"], &record["psnr_db"]), (&true.into(), &Value::Null));
    let text = String::from_utf8(expect(0, at, &["compare", "low.png", "again.png"]).stdout).unwrap();
    assert!(text.contains("infinite"), "{text}");
    grey(10, 9).save(at.join("small.png")).unwrap();
    let record = expect(0, at, &["compare", "small.png", "small.png", "--json"]).record();
    assert!(record["ssim"].is_null() && record["ms_ssim"].is_null(), "{record}");
    expect(5, at, &["compare", "small.png", "low.png"]);
    expect(5, at, &["compare", "high.png", "low.png", "--mask", "small.png"]);
}

#[test]
fn folders_are_compared_by_name() {
    let folder =
        folder(&["a/one.png:30x20", "a/two.png:30x20", "a/lonely.png:30x20", "b/one.bmp:30x20", "b/two.png:30x20"]);
    let at = folder.path();
    let mask = Frame::from_luma8(30, 20, (0..600).map(|i| if i % 30 < 15 { 255 } else { 0 }).collect()).unwrap();
    mask.save(at.join("mask.png")).unwrap();
    let run = expect(0, at, &["compare", "a", "b", "--mask", "mask.png", "--json"]);
    let records = run.records();
    assert_eq!((records.len(), &records[2]["pairs"]), (3, &2.into()));
    assert!(run.stderr.contains("lonely.png"), "{}", run.stderr);
    fs::write(at.join("b/one.bmp"), "broken").unwrap();
    expect(3, at, &["compare", "a", "b"]);
    fs::remove_file(at.join("b/two.png")).unwrap();
    expect(5, at, &["compare", "a", "b"]);
}

#[cfg(unix)]
#[test]
fn a_replaced_file_keeps_its_permissions_and_a_link_its_end() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = folder(&["a.png:9x8", "b.png:9x8"]);
    let at = folder.path();
    fs::set_permissions(at.join("b.png"), fs::Permissions::from_mode(0o600)).unwrap();
    let far = tempfile::tempdir().unwrap();
    let [link, next, end] = ["link.png", "deep/next.png", "deep/end.png"].map(|name| far.path().join(name));
    fs::create_dir(next.parent().unwrap()).unwrap();
    symlink("deep/next.png", &link).unwrap();
    symlink("end.png", &next).unwrap();
    expect(0, at, &enhance(&["a.png", "-o", "b.png"]));
    expect(0, at, &enhance(&["a.png", "-o", link.to_str().unwrap()]));
    assert_eq!(fs::metadata(at.join("b.png")).unwrap().permissions().mode() & 0o777, 0o600);
    for link in [&link, &next] {
        assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "{} was replaced", link.display());
    }
    assert_eq!(fs::read(end).unwrap(), fs::read(at.join("b.png")).unwrap());
}

#[test]
fn sizes_beyond_all_bounds_are_refused() {
    let folder = folder(&[]);
    for size in ["4294967295x4294967295", "10000000x10000000"] {
        let run = expect(2, folder.path(), &["bench", "g.safetensors", "--device", "cpu", "--size", size]);
        assert!(run.stderr.contains(size), "{}", run.stderr);
    }
    expect(2, folder.path(), &["models", "sonolume-s", "--size", "1000000000x1000000"]);
}
