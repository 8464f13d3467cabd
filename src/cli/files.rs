//! Files: reading and writing with `-` for the standard streams, listing folders, and checks that come before the work.

use std::collections::BTreeSet;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use sonolume::Frame;
use sonolume::image::{Format, write_atomically};

use super::failure::{Failure, Kind, Result};

/// True for `-`, a standard stream.
pub fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What messages call an input.
pub fn name(path: &Path) -> String {
    if is_stream(path) { "stdin".into() } else { path.display().to_string() }
}

/// Reads a file, or stdin.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    if !is_stream(path) {
        return fs::read(path).map_err(|error| Failure::file(path, &error));
    }
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage("`-` reads the picture from stdin, which is a terminal: redirect a file into it"));
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|error| Failure::file(path, &error))?;
    Ok(bytes)
}

/// Reads a picture from a file, or stdin.
pub fn read_picture(path: &Path) -> Result<Frame> {
    Frame::decode(&read(path)?).map_err(|error| Failure::from(error).at(path))
}

/// Writes a file in one step, its folder included; or to stdout.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_stream(path) {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        return written.map_err(|error| Failure::file(Path::new("stdout"), &error));
    }
    if let Some(folder) = folder_of(path) {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    }
    Ok(write_atomically(path, bytes)?)
}

/// Fails if `path` could not be written, before any work is done for it.
///
/// With `create`, missing folders above it will be made, else they are a failure.
pub fn check_writable(path: &Path, create: bool) -> Result<()> {
    if is_stream(path) {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("`-` writes the file to stdout, which is a terminal: redirect it into a file"));
        }
        return Ok(());
    }
    let unusable = |message: &str| Err(Failure::new(Kind::File, message).at(path));
    let target = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return unusable("this is a folder: name a file"),
        Ok(found) if !found.is_file() => return Ok(()),
        Ok(found) if found.permissions().readonly() => {
            return unusable("the file is read-only: change its permissions, or write to another");
        }
        // The file that a link names is what will be replaced.
        Ok(_) => fs::canonicalize(path).map_err(|error| Failure::file(path, &error))?,
        Err(_) => path.to_owned(),
    };
    if target.file_name().is_none() {
        return unusable("this is not a file name");
    }
    let mut folder = folder_of(&target).unwrap_or(Path::new("."));
    while create && fs::symlink_metadata(folder).is_err() {
        folder = folder_of(folder).unwrap_or(Path::new("."));
    }
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Failure::new(Kind::File, "this is a file, and a folder is needed").at(folder)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return unusable(&format!("the folder {} does not exist: create it first", folder.display()));
        }
        Err(error) => return Err(Failure::file(folder, &error)),
    }
    // Permission bits do not tell: roots, access lists, read-only disks.
    let probe = folder.join(format!(".sonolume-{}.probe", std::process::id()));
    match fs::OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            let _ = fs::remove_file(&probe);
            Ok(())
        }
        Err(error) => Err(Failure::file(path, &error)),
    }
}

/// The folder that a path names a file in; `None` for the current one.
fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// True if the path is, or can only be, a folder.
pub fn names_a_folder(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(std::path::is_separator)
}

/// One picture to read, and its path below a folder of results.
#[derive(Clone, Debug)]
pub struct Listed {
    pub path: PathBuf,
    pub relative: PathBuf,
}

/// The pictures that `path` stands for: itself, or those in the folder, in alphabetical order.
///
/// In folders, names that end in no picture format and hidden files are left out; so is the folder `results`, whose pictures
/// would be taken for originals the next time.
///
/// # Errors
/// A folder that cannot be read or holds no pictures.
pub fn list(path: &Path, recursive: bool, results: Option<&Path>) -> Result<Vec<Listed>> {
    if is_stream(path) || !path.is_dir() {
        let relative = path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
        return Ok(vec![Listed { path: path.to_owned(), relative }]);
    }
    let results = results.and_then(|results| fs::canonicalize(results).ok());
    let mut found = Vec::new();
    walk(path, Path::new(""), recursive, results.as_deref(), &mut found)?;
    found.sort_by(|a, b| a.relative.cmp(&b.relative));
    if found.is_empty() {
        let endings: Vec<&str> = Format::ALL.iter().map(|format| format.extensions()[0]).collect();
        let deeper = if recursive { "" } else { "; --recursive looks into the folders in it, too" };
        let message = format!("the folder holds no pictures ({}){deeper}", endings.join(", "));
        return Err(Failure::new(Kind::Input, message).at(path));
    }
    Ok(found)
}

fn walk(
    folder: &Path,
    relative: &Path,
    recursive: bool,
    results: Option<&Path>,
    found: &mut Vec<Listed>,
) -> Result<()> {
    let failed = |error: std::io::Error| Failure::file(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, relative) = (entry.path(), relative.join(entry.file_name()));
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Linked folders are not entered: they may lead in a circle.
        if entry.file_type().map_err(failed)?.is_dir() {
            if recursive && (results.is_none() || fs::canonicalize(&path).ok().as_deref() != results) {
                walk(&path, &relative, recursive, results, found)?;
            }
        } else if Format::from_path(&path).is_some() && path.is_file() {
            found.push(Listed { path, relative });
        }
    }
    Ok(())
}

/// Fails if an output is one of the inputs, or two outputs are the same file.
pub fn check_distinct<'a>(inputs: impl IntoIterator<Item = &'a Path>, outputs: &[&Path]) -> Result<()> {
    // What is not there yet is known by its folder.
    let identity = |path: &Path| {
        let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let beside = || Some(fs::canonicalize(parent?).ok()?.join(path.file_name()?));
        fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(|| path.to_owned())
    };
    let originals: BTreeSet<PathBuf> = inputs.into_iter().filter(|path| !is_stream(path)).map(identity).collect();
    let mut seen = BTreeSet::new();
    // Devices such as /dev/null take anything, any number of times.
    let plain = |path: &&&Path| !is_stream(path) && fs::metadata(path).map_or(true, |found| found.is_file());
    for output in outputs.iter().filter(plain) {
        let path = identity(output);
        if originals.contains(&path) {
            let message = "this is an input, and originals are never replaced: name another output";
            return Err(Failure::usage(message).at(output));
        }
        if !seen.insert(path) {
            let message = "two results would be written to this file: give the inputs different names, or enhance them separately";
            return Err(Failure::usage(message).at(output));
        }
    }
    Ok(())
}
