//! A data directory as bytes: read from a folder, written to another, compared.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Memory that processes share: nobody finds it after a power failure.
const SHARED: &str = "-shm";
/// What counts for nothing after a power failure: what was running, and who holds the folder.
const MOMENTARY: [&str; 2] = ["inflight", "lock"];

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(Vec<u8>),
}

/// Paths below the data directory; folders come before what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image(pub(super) BTreeMap<PathBuf, Node>);

/// A node, and the number of its inode.
pub(super) type Found = BTreeMap<PathBuf, (u64, Node)>;

/// Reads a folder; the folder itself is the empty path.
pub(super) fn read(folder: &Path) -> anyhow::Result<Found> {
    let mut found = Found::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let path = folder.join(&below);
        found.insert(below.clone(), (fs::metadata(&path)?.ino(), Node::Folder));
        for entry in fs::read_dir(&path)? {
            let (entry, mut name) = (entry?, below.clone());
            name.push(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else if !name.to_string_lossy().ends_with(SHARED) {
                let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {}", name.display()))?;
                found.insert(name, (entry.metadata()?.ino(), Node::File(bytes)));
            }
        }
    }
    Ok(found)
}

impl Image {
    /// The contents of a folder.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self(read(folder)?.into_iter().map(|(path, (_, node))| (path, node)).collect()))
    }

    /// Makes a folder of it, which is not there yet.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, node) in &self.0 {
            let path = folder.join(path);
            match node {
                Node::Folder => DirBuilder::new().recursive(true).mode(0o700).create(&path)?,
                Node::File(bytes) => {
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)?;
                }
            }
        }
        Ok(())
    }

    /// A path whose node is another in another image.
    pub(super) fn difference(&self, other: &Self) -> Option<PathBuf> {
        let mut paths = self.0.keys().chain(other.0.keys());
        paths.find(|path| self.0.get(*path) != other.0.get(*path)).cloned()
    }

    /// By what images are compared that mean the same after a power failure.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (path, node) in &self.0 {
            let bytes = match node {
                Node::File(bytes) if !is_momentary(path) => bytes.as_slice(),
                Node::File(_) | Node::Folder => &[],
            };
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }
}

/// Whether nobody reads it after a power failure.
pub(super) fn is_momentary(path: &Path) -> bool {
    MOMENTARY.iter().any(|name| path == Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(files: &[(&str, &str)]) -> Image {
        let file = |(path, text): &(&str, &str)| (PathBuf::from(*path), Node::File(text.as_bytes().to_vec()));
        let folders = ["", "below"].map(|path| (PathBuf::from(path), Node::Folder));
        Image(files.iter().map(file).chain(folders).collect())
    }

    #[test]
    fn what_is_written_is_read_again_but_for_shared_memory() {
        let folder = std::env::temp_dir().join(format!("checker-image-{}", std::process::id()));
        image(&[("a", "1"), ("below/b", "2"), ("a-shm", "3")]).write(&folder).expect("a folder can be made");
        let read = Image::read(&folder).expect("it can be read");
        fs::remove_dir_all(&folder).expect("the folder is the test's own");
        assert_eq!(read, image(&[("a", "1"), ("below/b", "2")]));
    }

    #[test]
    fn images_differ_in_names_and_bytes_and_not_in_what_is_momentary() {
        let whole = image(&[("a", "1"), ("inflight", "2")]);
        assert_eq!(whole.difference(&whole), None);
        assert_eq!(whole.difference(&image(&[("a", "1")])), Some("inflight".into()));
        assert_eq!(whole.digest(), image(&[("a", "1"), ("inflight", "3")]).digest());
        assert_ne!(whole.digest(), image(&[("a", "2"), ("inflight", "2")]).digest());
    }
}
