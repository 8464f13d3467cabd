//! Generators: the table of architectures, and how a weights file finds its own.
//!
//! An architecture is one file: `NAME`, `SIGNATURE` (patterns of its tensors' names), `RANGE`, and a `Config` with
//! `detect`, from names and shapes alone, and `build`. `for_each_architecture` is the one list.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::weights::Weights;

pub mod builder;

/// Calls `$callback!` with the modules of all architectures, in the order in which they are tried.
macro_rules! for_each_architecture {
    ($callback:ident) => {
        $callback! {
            sonolume, mimicknet, resnet_generator, unet_generator, usenhance_side, usenhance_shuffle, rrdbnet, compact, dncnn,
            nafnet, swinir, restormer, attention_unet, swin_v2_unet,
        }
    };
}

/// The values that a generator takes and gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueRange {
    /// 0 is black, 1 is white.
    #[default]
    Unit,
    /// -1 is black, 1 is white.
    Signed,
}

/// A generator with its weights, ready to be planned.
#[derive(Clone, Debug)]
pub struct Model {
    /// What people call it: a built-in name or the file's stem.
    pub name: String,
    /// The architecture's name.
    pub architecture: String,
    /// Its hyper-parameters, for people.
    pub details: String,
    /// SHA-256 of the weights file, in hexadecimal; of several generators in a row, joined by `+`.
    pub sha256: String,
    /// The values it takes and gives.
    pub range: ValueRange,
    /// What it computes, fused.
    pub graph: Arc<Graph>,
}

/// Hyper-parameters as text, and the graph.
type Built = (String, Graph);

struct Architecture {
    name: &'static str,
    /// Patterns of tensor names; `*` stands for any run of characters.
    signature: &'static [&'static str],
    range: ValueRange,
    /// The hyper-parameters and the graph, if the names and shapes are this architecture's.
    build: fn(&mut Weights) -> Option<Result<Built>>,
}

macro_rules! define_architectures {
    ($($module:ident),* $(,)?) => {
        $(pub mod $module;)*

        const ARCHITECTURES: &[Architecture] = &[$(Architecture {
            name: $module::NAME,
            signature: $module::SIGNATURE,
            range: $module::RANGE,
            build: |weights| {
                let config = $module::Config::detect(weights)?;
                Some(config.build(weights).map(|graph| (format!("{config:?}"), graph)))
            },
        }),*];
    };
}
for_each_architecture!(define_architectures);

/// The names of all architectures.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|architecture| architecture.name)
}

impl Model {
    /// Recognises the architecture of `weights` and builds the generator, which people will call `name`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing, left over or of the wrong shape, or no architecture fits; the message
    /// names the tensor, and the architectures that come closest.
    pub fn load(name: impl Into<String>, mut weights: Weights) -> Result<Self> {
        let mut refusal = None;
        for architecture in ARCHITECTURES {
            weights.give_back();
            let (details, graph) = match (architecture.build)(&mut weights) {
                None => continue,
                Some(Ok(built)) => built,
                Some(Err(error)) => {
                    refusal.get_or_insert(format!("the weights look like {}, but {error}", architecture.name));
                    continue;
                }
            };
            let leftovers = weights.leftovers();
            if let Some(first) = leftovers.first() {
                let more =
                    if leftovers.len() > 1 { format!(" and {} more", leftovers.len() - 1) } else { String::new() };
                refusal.get_or_insert(format!(
                    "the weights look like {} ({details}), but it has no tensor `{first}`{more}",
                    architecture.name
                ));
                continue;
            }
            return Ok(Self {
                name: name.into(),
                architecture: architecture.name.into(),
                details,
                sha256: weights.sha256(),
                range: architecture.range,
                graph: Arc::new(graph.fused()?),
            });
        }
        Err(Error::Weights(refusal.unwrap_or_else(|| nearest(&weights))))
    }

    /// `self` followed by `next`, as one generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if the channels or the value ranges differ.
    pub fn then(self, next: Self) -> Result<Self> {
        if self.range != next.range {
            return Err(Error::Weights(format!(
                "{} gives values from {}, {} takes values from {}",
                self.name,
                self.range.text(),
                next.name,
                next.range.text()
            )));
        }
        let graph =
            (*self.graph).clone().then((*next.graph).clone()).map_err(|error| Error::Weights(error.to_string()))?;
        Ok(Self {
            name: format!("{}+{}", self.name, next.name),
            architecture: format!("{}+{}", self.architecture, next.architecture),
            details: format!("{} + {}", self.details, next.details),
            sha256: format!("{}+{}", self.sha256, next.sha256),
            range: self.range,
            graph: Arc::new(graph),
        })
    }

    /// The generator that is built into the library, `sonolume-s`.
    ///
    /// # Errors
    /// [`Error::Weights`] never, as the tests load it.
    #[cfg(feature = "default-weights")]
    pub fn built_in() -> Result<Self> {
        Self::load(DEFAULT_MODEL, Weights::from_bytes(DEFAULT_WEIGHTS)?)
    }

    /// Channels of the image it takes.
    pub fn in_channels(&self) -> usize {
        self.graph.inputs().first().map_or(0, |&input| self.graph.channels(input))
    }

    /// Channels of the image it gives.
    pub fn out_channels(&self) -> usize {
        self.graph.output().map_or(0, |output| self.graph.channels(output))
    }
}

impl ValueRange {
    /// `0 to 1` or `-1 to 1`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unit => "0 to 1",
            Self::Signed => "-1 to 1",
        }
    }
}

/// The name of the built-in generator.
pub const DEFAULT_MODEL: &str = "sonolume-s";

#[cfg(feature = "default-weights")]
static DEFAULT_WEIGHTS: &[u8] = include_bytes!("../weights/sonolume-s.safetensors");

/// A message that names the architectures whose tensors' names are most like those of `weights`.
fn nearest(weights: &Weights) -> String {
    let names: Vec<&str> = weights.names().collect();
    let mut ranked: Vec<(usize, &Architecture)> = ARCHITECTURES
        .iter()
        .map(|a| (names.iter().filter(|name| a.signature.iter().any(|pattern| matches(pattern, name))).count(), a))
        .collect();
    ranked.sort_by_key(|&(score, _)| std::cmp::Reverse(score));
    let mut lines = vec!["these weights are of no architecture that sonolume knows; the closest are".to_owned()];
    for (score, architecture) in ranked.into_iter().take(3) {
        let missing = architecture.signature.iter().find(|pattern| !names.iter().any(|name| matches(pattern, name)));
        let stranger = names.iter().find(|name| !architecture.signature.iter().any(|pattern| matches(pattern, name)));
        let misfit = match (missing, stranger) {
            (Some(missing), _) => format!("`{missing}` is missing"),
            (None, Some(stranger)) => format!("it has no `{stranger}`"),
            (None, None) => "the shapes or counts do not fit".to_owned(),
        };
        lines.push(format!("  {}: {score} of {} tensors have its names, {misfit}", architecture.name, names.len()));
    }
    lines.join("\n")
}

/// True if `name` fits `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(tail, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("body.*.weight", "body.12.weight"));
        assert!(matches("*.weight", "a.weight"));
        assert!(!matches("body.*.weight", "body.12.bias"));
        assert!(!matches("body", "body.0"));
    }
}
