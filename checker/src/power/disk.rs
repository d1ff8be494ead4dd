//! A disk that loses what was not synchronised: what is on it for certain, and what may or may not be.
//!
//! Bytes of a file are certain when the file was synchronised after they were written; names are certain when their folder
//! was. All else is open until then, each change and each sector of it by itself, whatever came before or after it. That is
//! less than real file systems promise. One thing is taken for granted, as SQLite does: a write that is torn changes nothing
//! beside its own bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::{Found, Image, Node, is_momentary};
use super::journal::{Change, Record};
use crate::chance::Chance;

const SECTOR_BYTES: usize = 512;
/// What lies in blocks that a file was given and never wrote.
const STALE: u8 = 0xa5;

/// What becomes of what is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Nothing,
    All,
    /// Some changes are there, others are not.
    Some(u64),
    /// Some sectors of each change.
    Torn(u64),
    /// The last changes, and not the ones before.
    Late(u64),
    /// The first changes, and not the ones after.
    Early(u64),
}

impl fmt::Display for Fate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(to, "nothing"),
            Self::All => write!(to, "all"),
            Self::Some(seed) => write!(to, "some-{seed}"),
            Self::Torn(seed) => write!(to, "torn-{seed}"),
            Self::Late(seed) => write!(to, "late-{seed}"),
            Self::Early(seed) => write!(to, "early-{seed}"),
        }
    }
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    objects: Vec<Object>,
    inodes: HashMap<u64, usize>,
    /// Which names are certain, and which object each has.
    names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not, and the number of the record that made them.
    open: Vec<(usize, Naming)>,
    /// Where synchronisations began that have not ended.
    begun: HashMap<u64, usize>,
    /// Records so far.
    records: usize,
}

#[derive(Clone, Debug)]
enum Object {
    Folder(PathBuf),
    File { path: PathBuf, certain: Vec<u8>, open: Vec<(usize, Edit)> },
}

#[derive(Clone, Debug)]
enum Edit {
    Write(usize, Arc<[u8]>),
    Cut(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Set(PathBuf, usize),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl Disk {
    /// A disk on which all of this is certain.
    pub(super) fn new(found: Found) -> Self {
        let mut disk = Self::default();
        for (path, (inode, node)) in found {
            disk.names.insert(path.clone(), disk.objects.len());
            disk.inodes.insert(inode, disk.objects.len());
            disk.objects.push(match node {
                Node::Folder => Object::Folder(path),
                Node::File(certain) => Object::File { path, certain, open: Vec::new() },
            });
        }
        disk
    }

    /// The next record.
    pub(super) fn apply(&mut self, record: &Record) {
        match &record.change {
            Change::Made { file, path } => {
                self.name(*file, path, Object::File { path: path.clone(), certain: Vec::new(), open: Vec::new() });
            }
            Change::MadeFolder { file, path } => self.name(*file, path, Object::Folder(path.clone())),
            Change::Wrote { file, offset, bytes } => self.edit(*file, Edit::Write(*offset, bytes.clone())),
            Change::Cut { file, length } => self.edit(*file, Edit::Cut(*length)),
            Change::Unlinked { path } | Change::RemovedFolder { path } => {
                self.open.push((self.records, Naming::Removed(path.clone())));
            }
            Change::Renamed { from, to } => {
                self.open.push((self.records, Naming::Renamed(from.clone(), to.clone())));
            }
            Change::SyncBegun { nth, .. } => {
                self.begun.insert(*nth, self.records);
            }
            Change::Synced { file, nth } => {
                if let Some(begun) = self.begun.remove(nth) {
                    self.sync(*file, begun);
                }
            }
        }
        self.records += 1;
    }

    fn name(&mut self, inode: u64, path: &Path, object: Object) {
        self.open.push((self.records, Naming::Set(path.to_owned(), self.objects.len())));
        self.inodes.insert(inode, self.objects.len());
        self.objects.push(object);
    }

    fn edit(&mut self, inode: u64, edit: Edit) {
        let object = self.inodes.get(&inode).and_then(|nth| self.objects.get_mut(*nth));
        if let Some(Object::File { open, .. }) = object {
            open.push((self.records, edit));
        }
    }

    /// What came before that record is certain.
    fn sync(&mut self, inode: u64, begun: usize) {
        let Some(nth) = self.inodes.get(&inode).copied() else { return };
        match &mut self.objects[nth] {
            Object::File { certain, open, .. } => {
                let later = open.split_off(open.partition_point(|(record, _)| *record < begun));
                std::mem::replace(open, later).iter().for_each(|(_, edit)| edit.apply(certain));
            }
            Object::Folder(folder) => {
                let is_synced = |(record, naming): &(usize, Naming)| *record < begun && naming.is_in(folder);
                let (synced, later) = std::mem::take(&mut self.open).into_iter().partition(is_synced);
                self.open = later;
                let synced: Vec<(usize, Naming)> = synced;
                synced.iter().for_each(|(_, naming)| naming.apply(&mut self.names));
            }
        }
    }

    /// What is found on it if the power fails now.
    pub(super) fn image(&self, fate: Fate) -> Image {
        let mut draw = Draw::new(fate, &self.open_records());
        let mut names = self.names.clone();
        for (_, naming) in self.open.iter().filter(|(record, _)| draw.is_kept(*record)) {
            naming.apply(&mut names);
        }
        let mut image = Image::default();
        for (path, object) in names {
            // Without its folder nothing is found.
            let is_found = path.parent().is_none_or(|parent| image.0.get(parent) == Some(&Node::Folder));
            if is_found {
                let node = self.objects[object].node(&mut draw);
                image.0.insert(path, node);
            }
        }
        image
    }

    /// Records whose changes are not certain.
    fn open_records(&self) -> Vec<usize> {
        let mut records: BTreeSet<usize> = self.open.iter().map(|(record, _)| *record).collect();
        for object in &self.objects {
            if let Object::File { path, open, .. } = object
                && !is_momentary(path)
            {
                records.extend(open.iter().map(|(record, _)| *record));
            }
        }
        records.into_iter().collect()
    }
}

impl Object {
    fn node(&self, draw: &mut Draw) -> Node {
        let Self::File { certain, open, .. } = self else { return Node::Folder };
        let mut bytes = certain.clone();
        for (record, edit) in open {
            if !draw.is_torn() {
                if draw.is_kept(*record) {
                    edit.apply(&mut bytes);
                }
                continue;
            }
            match edit {
                Edit::Write(offset, written) => tear(&mut bytes, certain.len(), *offset, written, draw),
                Edit::Cut(_) if draw.is_kept(*record) => edit.apply(&mut bytes),
                Edit::Cut(_) => {}
            }
        }
        Node::File(bytes)
    }
}

/// Some sectors of a write; of others there are blocks alone, with what lay in them.
fn tear(bytes: &mut Vec<u8>, certain: usize, offset: usize, written: &[u8], draw: &mut Draw) {
    let mut from = 0;
    while from < written.len() {
        let to = ((offset + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
        let sector = &written[from..to.min(written.len())];
        match draw.chance.below(4) {
            0 | 1 => Edit::apply_write(bytes, offset + from, sector),
            2 if offset + from >= certain => Edit::apply_write(bytes, offset + from, &vec![STALE; sector.len()]),
            _ => {}
        }
        from = to;
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => Self::apply_write(bytes, *offset, written),
            Self::Cut(length) => bytes.resize(*length, 0),
        }
    }

    fn apply_write(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
        let end = offset + written.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(written);
    }
}

impl Naming {
    fn is_in(&self, folder: &Path) -> bool {
        let (Self::Set(path, _) | Self::Removed(path) | Self::Renamed(_, path)) = self;
        path.parent() == Some(folder)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, object) => {
                names.insert(path.clone(), *object);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
            Self::Renamed(from, to) => {
                if let Some(object) = names.remove(from) {
                    names.insert(to.clone(), object);
                }
            }
        }
    }
}

/// What is drawn for an image.
struct Draw {
    fate: Fate,
    chance: Chance,
    /// The record before which, or from which on, changes are kept.
    border: usize,
}

impl Draw {
    fn new(fate: Fate, open: &[usize]) -> Self {
        let (Fate::Some(seed) | Fate::Torn(seed) | Fate::Late(seed) | Fate::Early(seed)) = fate else {
            return Self { fate, chance: Chance::new(0, "power"), border: 0 };
        };
        let mut chance = Chance::new(seed, "power");
        let nth = usize::try_from(chance.below(open.len().max(1) as u64)).unwrap_or(0);
        Self { fate, chance, border: open.get(nth).copied().unwrap_or(0) }
    }

    fn is_torn(&self) -> bool {
        matches!(self.fate, Fate::Torn(_))
    }

    fn is_kept(&mut self, record: usize) -> bool {
        match self.fate {
            Fate::Nothing => false,
            Fate::All => true,
            Fate::Some(_) | Fate::Torn(_) => self.chance.below(2) == 0,
            Fate::Late(_) => record > self.border,
            Fate::Early(_) => record < self.border,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inodes: the folder, and two files.
    const FOLDER: u64 = 1;
    const A: u64 = 2;
    const B: u64 = 3;

    /// A disk with a synchronised file `a` of 1,024 bytes, after these changes.
    fn disk(changes: &[Change]) -> Disk {
        let folder = (PathBuf::new(), (FOLDER, Node::Folder));
        let file = (PathBuf::from("a"), (A, Node::File(vec![b'.'; 2 * SECTOR_BYTES])));
        let mut disk = Disk::new([folder, file].into());
        changes.iter().for_each(|change| disk.apply(&Record { at_us: 1, change: change.clone() }));
        disk
    }

    fn wrote(file: u64, offset: usize, bytes: &[u8]) -> Change {
        Change::Wrote { file, offset, bytes: bytes.into() }
    }

    fn synced(file: u64, nth: u64) -> [Change; 2] {
        [Change::SyncBegun { file, nth }, Change::Synced { file, nth }]
    }

    fn made(file: u64, path: &str) -> Change {
        Change::Made { file, path: path.into() }
    }

    fn file(disk: &Disk, path: &str, fate: Fate) -> Option<Vec<u8>> {
        match disk.image(fate).0.remove(Path::new(path)) {
            Some(Node::File(bytes)) => Some(bytes),
            Some(Node::Folder) | None => None,
        }
    }

    fn text(bytes: Option<Vec<u8>>) -> String {
        String::from_utf8(bytes.expect("it is there")).expect("it is text").trim_matches('.').to_owned()
    }

    #[test]
    fn bytes_are_certain_when_they_were_synchronised_after_they_were_written() {
        let [begun, done] = synced(A, 0);
        let changes = [wrote(A, 3, b"before"), begun, wrote(A, 9, b"after"), done];
        let until = |count: usize, fate| text(file(&disk(&changes[..count]), "a", fate));
        assert_eq!(until(1, Fate::Nothing), "");
        assert_eq!(until(1, Fate::All), "before");
        // Neither is it before the end, nor what came meanwhile after it.
        assert_eq!(until(3, Fate::Nothing), "");
        assert_eq!(until(4, Fate::Nothing), "before");
        assert_eq!(until(4, Fate::All), "beforeafter");
    }

    #[test]
    fn a_length_is_as_open_as_bytes_are() {
        let cut = [Change::Cut { file: A, length: 0 }, wrote(A, 0, b"new")];
        assert_eq!(file(&disk(&cut), "a", Fate::Nothing).map(|bytes| bytes.len()), Some(1_024));
        assert_eq!(file(&disk(&cut), "a", Fate::All), Some(b"new".to_vec()));
        let synced = [&cut[..], &synced(A, 0)].concat();
        assert_eq!(file(&disk(&synced), "a", Fate::Nothing), Some(b"new".to_vec()));
    }

    #[test]
    fn a_name_is_certain_when_its_folder_was_synchronised() {
        let file_alone = [&[made(B, "b"), wrote(B, 0, b"new")][..], &synced(B, 0)].concat();
        assert_eq!(file(&disk(&file_alone), "b", Fate::Nothing), None);
        assert_eq!(file(&disk(&file_alone), "b", Fate::All), Some(b"new".to_vec()));
        let both = [&file_alone[..], &synced(FOLDER, 1)].concat();
        assert_eq!(file(&disk(&both), "b", Fate::Nothing), Some(b"new".to_vec()));
        let name_alone = [&[made(B, "b"), wrote(B, 0, b"new")][..], &synced(FOLDER, 0)].concat();
        assert_eq!(file(&disk(&name_alone), "b", Fate::Nothing), Some(Vec::new()));
    }

    #[test]
    fn names_go_and_change_as_a_whole_or_not_at_all() {
        let renamed = [made(B, "b"), Change::Renamed { from: "b".into(), to: "a".into() }];
        assert_eq!(file(&disk(&renamed), "a", Fate::All), Some(Vec::new()));
        assert_eq!(file(&disk(&renamed), "a", Fate::Nothing).map(|bytes| bytes.len()), Some(1_024));
        let unlinked = [Change::Unlinked { path: "a".into() }];
        assert_eq!(file(&disk(&unlinked), "a", Fate::All), None);
        assert!(file(&disk(&unlinked), "a", Fate::Nothing).is_some());
        // What is made under the number of a file that has gone is another one.
        let again = [&unlinked[..], &[made(A, "c"), wrote(A, 0, b"new")]].concat();
        assert_eq!(file(&disk(&again), "c", Fate::All), Some(b"new".to_vec()));
        assert_eq!(text(file(&disk(&again), "a", Fate::Nothing)), "");
        let below = [Change::MadeFolder { file: 9, path: "f".into() }, made(B, "f/b")];
        assert_eq!(file(&disk(&below), "f/b", Fate::All), Some(Vec::new()));
        let without = [&below[..], &synced(9, 0)].concat();
        assert_eq!(disk(&without).image(Fate::Nothing).0.len(), 2);
    }

    #[test]
    fn what_is_not_certain_comes_in_all_combinations() {
        let disk = disk(&[wrote(A, 0, b"1"), wrote(A, 1, b"2"), wrote(A, 2, b"3")]);
        let drawn = |fate: fn(u64) -> Fate| -> BTreeSet<String> {
            let bytes = (0..200).filter_map(|seed| file(&disk, "a", fate(seed)));
            bytes.map(|bytes| String::from_utf8_lossy(&bytes[..3]).into_owned()).collect()
        };
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(drawn(Fate::Some), set(&["...", "1..", ".2.", "..3", "12.", "1.3", ".23", "123"]));
        assert_eq!(drawn(Fate::Late), set(&[".23", "..3", "..."]));
        assert_eq!(drawn(Fate::Early), set(&["...", "1..", "12."]));
    }

    #[test]
    fn a_write_is_torn_at_sectors_and_what_was_never_written_may_be_anything() {
        // From the middle of the second sector to the end of a third and fourth, which the file did not have.
        let disk = disk(&[wrote(A, 768, &[b'!'; 1_280])]);
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let bytes = file(&disk, "a", Fate::Torn(seed)).expect("it is there");
            let byte = |at: usize| bytes.get(at).copied();
            assert!(bytes[..768].iter().all(|byte| *byte == b'.'), "beside the write nothing changes");
            for (from, to) in [(768, 1_024), (1_024, 1_536), (1_536, 2_048)] {
                assert!((from..to).all(|at| byte(at) == byte(from)), "a sector is whole");
            }
            seen.insert((byte(768), byte(1_024), byte(1_536)));
        }
        assert!(seen.contains(&(Some(b'!'), Some(0), Some(b'!'))), "{seen:?}");
        assert!(seen.contains(&(Some(b'.'), Some(STALE), Some(b'!'))), "{seen:?}");
        assert!(seen.contains(&(Some(b'!'), None, None)), "{seen:?}");
    }
}
