//! The house rules of the source tree: stems complete, imports only downwards.

use std::fs;
use std::path::{Path, PathBuf};

use sonolume::ops::{STEMS, shaders};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_operator_has_all_its_files() {
    for stem in STEMS {
        let files = [
            format!("src/ops/{stem}.rs"),
            format!("src/cpu/{stem}.rs"),
            format!("shaders/{stem}.wgsl"),
            format!("tests/ops/{stem}.rs"),
            format!("tests/ops/{stem}.txt"),
            format!("tests/goldens/ops/{stem}.safetensors"),
        ];
        for file in files {
            assert!(root().join(&file).is_file(), "{stem}: {file} is missing");
        }
    }
}

#[test]
fn every_shader_file_is_used() {
    let known: Vec<_> = shaders().iter().chain(sonolume::gpu::SHADERS).map(|shader| shader.name).collect();
    for entry in fs::read_dir(root().join("shaders")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(known.contains(&name.as_str()), "shaders/{name}.wgsl is not used");
        }
    }
}

/// The layers from bottom to top; a module may import only from lower ones. Modules of one line may not import each
/// other.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["tensor"],
    &["image", "tile", "metrics", "weights", "ops"],
    &["phantom"],
    &["graph"],
    &["cpu", "models"],
    &["gpu"],
    &["enhancer"],
    &["cli", "main"],
];

/// What stands below but is none of a module's business.
const FORBIDDEN: &[(&str, &str)] = &[("models", "cpu"), ("models", "gpu"), ("cpu", "gpu"), ("tile", "ops")];

fn level(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| panic!("{module} is in no layer"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_import_only_downwards() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for part in code.split("crate::").skip(1) {
                let imports: Vec<&str> = if let Some(list) = part.strip_prefix('{') {
                    list.split(&[',', '}'][..]).map(|item| item.trim().split("::").next().unwrap()).collect()
                } else {
                    vec![part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()]
                };
                for import in imports.into_iter().filter(|i| i.starts_with(char::is_lowercase) && *i != module) {
                    let place = format!("{}:{}: {module} imports {import}", relative.display(), number + 1);
                    assert!(level(import) < level(&module), "{place}");
                    assert!(!FORBIDDEN.contains(&(module.as_str(), import)), "{place}");
                }
            }
        }
    }
}

#[test]
fn operators_never_name_wgpu() {
    let mut files = Vec::new();
    for module in ["ops", "graph", "models", "cpu"] {
        sources(&root().join("src").join(module), &mut files);
    }
    for file in files {
        assert!(!fs::read_to_string(&file).unwrap().contains("wgpu::"), "{} names wgpu", file.display());
    }
}
