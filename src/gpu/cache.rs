//! Compiled kernels kept on disk, so that a second process need not compile them again.
//!
//! A file holds the SHA-256 of what the driver gave, then that. A file that is missing, cut short, damaged, of another
//! driver or of another device is as good as none: kernels are then compiled, and the file is written anew.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const DIGEST_BYTES: usize = 32;

/// The driver's cache and the file it comes from and goes to.
pub(super) struct Cache {
    pub(super) raw: wgpu::PipelineCache,
    path: PathBuf,
}

impl Cache {
    /// The cache of `device` in `directory`; `None` if the device has none.
    pub(super) fn open(device: &wgpu::Device, directory: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = directory.join(wgpu::util::pipeline_cache_key(&device.adapter_info())?);
        let data = std::fs::read(&path).ok();
        let data = data.as_deref().and_then(verified);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("kernels"), data, fallback: true };
        // SAFETY: the digest says that these are the bytes that `save` was given by a driver, and wgpu refuses those of
        // another driver or device.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { raw, path })
    }

    /// Writes the file beside its place and renames it. A cache that cannot be written is no reason to fail.
    pub(super) fn save(&self) {
        let Some(data) = self.raw.get_data() else { return };
        let mut content = Sha256::digest(&data).to_vec();
        content.extend_from_slice(&data);
        let beside = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let parent = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = parent.and_then(|()| std::fs::write(&beside, content));
        if written.and_then(|()| std::fs::rename(&beside, &self.path)).is_err() {
            let _ = std::fs::remove_file(&beside);
        }
    }
}

/// What follows the digest, if the digest is right.
fn verified(content: &[u8]) -> Option<&[u8]> {
    let (digest, data) = content.split_at_checked(DIGEST_BYTES)?;
    (Sha256::digest(data).as_slice() == digest).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_not_believed() {
        let data = b"kernels".to_vec();
        let whole = [Sha256::digest(&data).to_vec(), data.clone()].concat();
        assert_eq!(verified(&whole), Some(&data[..]));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            assert_eq!(verified(&flipped), None, "byte {at}");
            assert_eq!(verified(&whole[..at]), None, "{at} bytes");
        }
    }
}
