//! Generators: the table of architectures, and how a weights file finds its own.
//!
//! An architecture is one file: `NAME`, `SIGNATURE`, `RANGE`, and a `Config` with `detect`, from names and shapes alone,
//! and `build`. `for_each_architecture` is the one list.
//!
//! A signature tells the tensors' names, for messages about weights that fit nothing: `#` stands for a number, `*` for
//! anything, `@` for a parameter's name, `a|b` for one or the other, `name:4` for a tensor of four axes; after `?` follows
//! what a generator may lack.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::Param;
use crate::ops::activation::Function;
use crate::ops::scale_shift::ScaleShift;
use crate::weights::Weights;

pub mod builder;
mod misfit;

use misfit::Refusal;

/// Calls `$callback!` with the modules of all architectures, in the order in which they are tried.
macro_rules! for_each_architecture {
    ($callback:ident) => {
        $callback! {
            sonolume, mimicknet, resnet_generator, unet_generator, usenhance, rrdbnet, compact, dncnn,
            nafnet, swinir, restormer, attention_unet, attention_unet_monai, swin_v2_unet,
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
    /// Its hyper-parameters, for people, and what was assumed because no tensor tells it.
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
    /// names the architectures that come closest, and for each the tensors that do not fit.
    pub fn load(name: impl Into<String>, mut weights: Weights) -> Result<Self> {
        let mut closest: Option<Refusal> = None;
        loop {
            let refusals = match recognise(&mut weights) {
                Ok((architecture, details, graph)) => {
                    return Ok(Self {
                        name: name.into(),
                        architecture: architecture.name.into(),
                        details,
                        sha256: weights.sha256(),
                        range: architecture.range,
                        graph: Arc::new(graph.fused()?),
                    });
                }
                Err(refusals) => refusals,
            };
            let refusal = Refusal::new(ARCHITECTURES.iter().zip(refusals), &weights);
            if closest.as_ref().is_none_or(|closest| refusal.is_closer_than(closest)) {
                closest = Some(refusal);
            }
            // A program that trained the generator as a part of something may have put that part's name before all.
            if !weights.strip_common_prefix() {
                return Err(Error::Weights(closest.map(|refusal| refusal.message).unwrap_or_default()));
            }
        }
    }

    /// `self` followed by `next`, as one generator in the value range of `self`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the channels differ.
    pub fn then(self, next: Self) -> Result<Self> {
        if self.out_channels() != next.in_channels() {
            let (gives, takes) = (self.out_channels(), next.in_channels());
            let plural = if gives == 1 { "" } else { "s" };
            return Err(Error::Weights(format!(
                "{} gives {gives} channel{plural}, but {}, which is to follow, takes {takes}",
                self.name, next.name
            )));
        }
        let mut graph = convert((*self.graph).clone(), self.range, next.range)?;
        graph = graph.then((*next.graph).clone())?;
        graph = convert(graph, next.range, self.range)?;
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

/// `graph`, and behind it what turns values of one range into those of another.
fn convert(mut graph: Graph, from: ValueRange, to: ValueRange) -> Result<Graph> {
    let (scale, shift) = match (from, to) {
        (ValueRange::Unit, ValueRange::Signed) => (2.0, -1.0),
        (ValueRange::Signed, ValueRange::Unit) => (0.5, 0.5),
        _ => return Ok(graph),
    };
    let output = graph.output()?;
    let channels = graph.channels(output);
    let param = |name: &str, value| Param::new(name, vec![channels], vec![value; channels]).map(Arc::new);
    let params = vec![param("value range (scale)", scale)?, param("value range (shift)", shift)?];
    let output = graph.push(ScaleShift { channels, activation: Function::Identity }, &[output], params)?;
    graph.set_output(output);
    Ok(graph)
}

/// The name of the built-in generator.
pub const DEFAULT_MODEL: &str = "sonolume-s";

#[cfg(feature = "default-weights")]
static DEFAULT_WEIGHTS: &[u8] = include_bytes!("../weights/sonolume-s.safetensors");

/// What no tensor tells and the metadata does not say, for the description of a generator.
fn assumptions(weights: &Weights) -> String {
    match weights.assumed() {
        [] => String::new(),
        assumed => format!("; assumed, as no tensor tells: {}", assumed.join(", ")),
    }
}

/// The first architecture that fits; or what each ran into, `None` if it did not even recognise the weights.
fn recognise(weights: &mut Weights) -> Result<(&'static Architecture, String, Graph), Vec<Option<String>>> {
    let mut refusals = Vec::new();
    for architecture in ARCHITECTURES {
        weights.give_back();
        refusals.push(match (architecture.build)(weights) {
            None => None,
            Some(Err(error)) => Some(weights.located(&error)),
            Some(Ok((details, graph))) => match &weights.leftovers()[..] {
                [] => return Ok((architecture, details + &assumptions(weights), graph)),
                leftovers => Some(misfit::left_over(&details, leftovers, weights)),
            },
        });
    }
    Err(refusals)
}
