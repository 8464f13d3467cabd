//! Weights from safetensors files: every tensor is taken by name and shape, and what is left over is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tensor::Param;

/// Prefixes that training frameworks put before every name; they are stripped, also one inside another.
const WRAPPERS: &[&str] = &[
    "module.",
    "state_dict.",
    "params_ema.",
    "params.",
    "model_state_dict.",
    "netG.",
    "net_g.",
    "net_g_ema.",
    "generator.",
    "_orig_mod.",
];
/// Those of weights that were averaged over the steps of training: taken where the last step's are there too.
const AVERAGED: &[&str] = &["params_ema.", "net_g_ema."];

/// An opened weights file.
///
/// f32, f16, bf16 and f64 are read, and become f32. A tensor is read when it is taken, straight from the mapped file.
#[derive(Debug)]
pub struct Weights<'a> {
    source: Source<'a>,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    /// `key=value` of what no tensor tells and the metadata does not say.
    assumed: Vec<String>,
    taken: std::collections::BTreeSet<String>,
    /// The tensor that was taken last.
    last: Option<String>,
}

#[derive(Debug)]
enum Source<'a> {
    Bytes(Cow<'a, [u8]>),
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
}

impl Source<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mapped(map) => map,
        }
    }
}

#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    dtype: Dtype,
    range: Range<usize>,
    is_averaged: bool,
}

impl<'a> Weights<'a> {
    /// Maps a safetensors file into memory. The file must not be changed while it is open.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Weights`] if it is not valid.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(|source| Error::file(path, source))?;
        if !file.metadata().map_err(|source| Error::file(path, source))?.is_file() {
            return Err(Error::Weights(format!("{}: not a file; weights are one .safetensors file", path.display())));
        }
        // SAFETY: the map is only read, and a `Weights` lives for the moments of loading; that nobody truncates the file
        // meanwhile is the caller's duty, as documented.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|source| Error::file(path, source))?;
        Self::parse(Source::Mapped(map)).map_err(|error| match error {
            Error::Weights(message) => Error::Weights(format!("{}: {message}", path.display())),
            other => other,
        })
    }

    /// Reads a safetensors file that is in memory, borrowed or owned.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is not valid.
    pub fn from_bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        Self::parse(Source::Bytes(bytes.into()))
    }

    fn parse(source: Source<'a>) -> Result<Self> {
        let bytes = source.bytes();
        let invalid = |error: &dyn std::fmt::Display| {
            Error::Weights(format!(
                "not a valid safetensors file ({error}); fetch it again, or convert other formats with weights/convert.py"
            ))
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| invalid(&error))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = SafeTensors::deserialize(bytes).map_err(|error| invalid(&error))?;
        let base = bytes.as_ptr() as usize;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let start = view.data().as_ptr() as usize - base;
            let range = start..start + view.data().len();
            let is_averaged = AVERAGED.iter().any(|prefix| name.starts_with(prefix));
            let short = strip(&name).to_owned();
            match tensors.get(&short).map(|other: &Entry| other.is_averaged) {
                Some(other) if other == is_averaged => {
                    return Err(Error::Weights(format!("tensor `{short}` is there twice, under two prefixes")));
                }
                Some(true) => continue,
                _ => {}
            }
            tensors.insert(short, Entry { shape: view.shape().to_vec(), dtype: view.dtype(), range, is_averaged });
        }
        if tensors.is_empty() {
            return Err(Error::Weights("the file holds no tensors".into()));
        }
        Ok(Self { source, tensors, metadata, assumed: Vec::new(), taken: Default::default(), last: None })
    }

    /// The names of all tensors, without wrapping prefixes, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// True if there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor. Not of an empty one: its other sizes can be anything, and cannot be taken for channels.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice()).filter(|shape| !shape.contains(&0))
    }

    /// The shape of a tensor, an empty one's too: for messages.
    pub(crate) fn stored_shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Removes the first part of all names, up to the first dot, if it is the same for all.
    pub(crate) fn strip_common_prefix(&mut self) -> bool {
        let Some((first, _)) = self.names().next().and_then(|name| name.split_once('.')) else { return false };
        let prefix = format!("{first}.");
        if !self.names().all(|name| name.starts_with(&prefix)) {
            return false;
        }
        let strip = |(name, entry): (String, Entry)| (strip(&name[prefix.len()..]).to_owned(), entry);
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(strip).collect();
        true
    }

    /// How many consecutive indices from 0 on have a tensor that `name` makes of the index.
    pub fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&index| self.has(&name(index))).count()
    }

    /// The file's own notes, as the safetensors key `__metadata__` holds them.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The same weights with one more note, as if the file's metadata held it.
    pub fn with_note(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// What the metadata says under `key`, if that is one of `known`.
    pub fn noted<'k>(&self, key: &str, known: &[&'k str]) -> Option<&'k str> {
        let text = self.metadata.get(key)?;
        known.iter().copied().find(|value| value == text)
    }

    /// Says that `value`, which no tensor tells, is taken for `key`. It counts as assumed unless the metadata has the key.
    pub fn assume(&mut self, key: &str, value: impl std::fmt::Display) {
        let note = format!("{key}={value}");
        if !self.metadata.contains_key(key) && !self.assumed.contains(&note) {
            self.assumed.push(note);
        }
    }

    /// As [`Weights::assume`], for one of the values `known`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the metadata says something else than one of `known`.
    pub fn settle(&mut self, key: &str, value: &str, known: &[&str]) -> Result<()> {
        if let Some(text) = self.metadata.get(key).filter(|text| !known.contains(&text.as_str())) {
            let known = known.join("` or `");
            return Err(Error::Weights(format!("the file's metadata says `{key}` is `{text}`; `{known}` is expected")));
        }
        self.assume(key, value);
        Ok(())
    }

    /// What was assumed since the tensors were last given back, as `key=value`.
    pub fn assumed(&self) -> &[String] {
        &self.assumed
    }

    /// SHA-256 of the whole file, in hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.source.bytes()).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Takes the tensor `name`, whatever its shape.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is none, it is empty or not of floats, or it holds NaN or infinity.
    pub fn take_any(&mut self, name: &str) -> Result<Arc<Param>> {
        let entry = self.tensors.get(name).ok_or_else(|| Error::Weights(format!("tensor `{name}` is missing")))?;
        let data = decode(&self.source.bytes()[entry.range.clone()], entry.dtype).ok_or_else(|| {
            Error::Weights(format!("tensor `{name}` is of {:?}; F32, F16, BF16 and F64 are read", entry.dtype))
        })?;
        // Its other sizes could then be anything, and products of them overflow.
        if data.is_empty() {
            return Err(Error::Weights(format!("tensor `{name}` is empty: its shape is {:?}", entry.shape)));
        }
        if let Some(index) = data.iter().position(|value| !value.is_finite()) {
            return Err(Error::Weights(format!(
                "tensor `{name}` holds {} at element {index}: the file is damaged, or its training diverged",
                data[index]
            )));
        }
        let param = Param::new(name, entry.shape.clone(), data)?;
        self.taken.insert(name.to_owned());
        self.last = Some(name.to_owned());
        Ok(Arc::new(param))
    }

    /// Takes the tensor `name`, which must have `shape`.
    ///
    /// # Errors
    /// As [`Weights::take_any`], and if the shape differs.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Arc<Param>> {
        match self.shape(name) {
            Some(found) if found != shape => {
                Err(Error::Weights(format!("tensor `{name}` has shape {found:?}; {shape:?} is expected")))
            }
            _ => self.take_any(name),
        }
    }

    /// Marks a tensor as known and not needed, if it is there.
    pub fn ignore(&mut self, name: &str) {
        if self.has(name) {
            self.taken.insert(name.to_owned());
        }
    }

    /// What is wrong, and where if the message names no tensor: an operator without weights knows only sizes.
    pub(crate) fn located(&self, error: &Error) -> String {
        let message = error.to_string();
        match &self.last {
            Some(last) if !message.contains('`') => {
                let shape = self.stored_shape(last).unwrap_or_default();
                format!("{message}, just after tensor `{last}` of shape {shape:?}")
            }
            _ => message,
        }
    }

    /// Forgets what was taken: another architecture is tried.
    pub(crate) fn give_back(&mut self) {
        self.taken.clear();
        self.assumed.clear();
        self.last = None;
    }

    /// The tensors that nobody has taken.
    pub fn leftovers(&self) -> Vec<&str> {
        self.names().filter(|name| !self.taken.contains(*name)).collect()
    }
}

fn strip(name: &str) -> &str {
    let mut short = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|prefix| short.strip_prefix(prefix)) {
        short = rest;
    }
    short
}

fn decode(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::serialize;
    use safetensors::tensor::TensorView;

    fn file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (name.to_string(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        serialize(views, None).unwrap()
    }

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn all_float_types_are_read() {
        let values = [1.0f32, -0.5, 2.0];
        let bytes = file(&[
            ("a", Dtype::F32, vec![3], f32_bytes(&values)),
            ("b", Dtype::F16, vec![3], values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
            ("c", Dtype::BF16, vec![3], values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()),
            ("d", Dtype::F64, vec![3], values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect()),
            ("e", Dtype::I64, vec![1], vec![0; 8]),
        ]);
        let mut weights = Weights::from_bytes(&bytes[..]).unwrap();
        for name in ["a", "b", "c", "d"] {
            assert_eq!(weights.take(name, &[3]).unwrap().data, values, "{name}");
        }
        assert!(weights.take_any("e").unwrap_err().to_string().contains("`e`"));
        assert_eq!(weights.leftovers(), ["e"]);
    }

    #[test]
    fn wrapping_prefixes_are_stripped() {
        let bytes = file(&[("state_dict.module.x.weight", Dtype::F32, vec![1], f32_bytes(&[1.0]))]);
        assert!(Weights::from_bytes(bytes).unwrap().has("x.weight"));
    }

    #[test]
    fn averaged_weights_go_before_the_last_steps() {
        let tensor = |name, value| (name, Dtype::F32, vec![1], f32_bytes(&[value]));
        for names in [["params.x", "params_ema.x"], ["net_g.x", "net_g_ema.module.x"]] {
            let mut weights = Weights::from_bytes(file(&[tensor(names[0], 1.0), tensor(names[1], 2.0)])).unwrap();
            assert_eq!(weights.take("x", &[1]).unwrap().data, [2.0], "{names:?}");
        }
        let twice = file(&[tensor("module.x", 1.0), tensor("params.x", 2.0)]);
        assert!(Weights::from_bytes(twice).unwrap_err().to_string().contains("`x` is there twice"));
    }

    #[test]
    fn wrong_shapes_missing_tensors_and_nan_are_named() {
        let bytes = file(&[
            ("a", Dtype::F32, vec![2], f32_bytes(&[1.0, f32::NAN])),
            ("b", Dtype::F32, vec![1], f32_bytes(&[1.0])),
        ]);
        let mut weights = Weights::from_bytes(bytes).unwrap();
        let message = |result: Result<Arc<Param>>| result.unwrap_err().to_string();
        assert_eq!(message(weights.take("b", &[2])), "tensor `b` has shape [1]; [2] is expected");
        assert_eq!(message(weights.take("z", &[2])), "tensor `z` is missing");
        assert!(message(weights.take_any("a")).starts_with("tensor `a` holds NaN at element 1"));
    }

    #[test]
    fn every_truncation_and_every_bit_flip_of_the_header_is_an_error_or_harmless() {
        let bytes = file(&[("weight", Dtype::F32, vec![2, 2], f32_bytes(&[1.0, 2.0, 3.0, 4.0]))]);
        for length in 0..bytes.len() {
            assert!(Weights::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(mut weights) = Weights::from_bytes(flipped) {
                let _ = weights.take("weight", &[2, 2]);
            }
        }
    }
}
