//! The backup's file: a tar archive, so that any machine can look into it, whose last entry has the others' checksums.
//!
//! `backup.json` tells what it is, `pki/` holds the keys and certificates, `store.archive` the state, `SHA256SUMS` the
//! sums as `sha256sum` writes and checks them. A file that is cut off has no sums, and is refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Chunks;
use crate::settings::Settings;

const ABOUT: &str = "backup.json";
const PKI: &str = "pki/";
const STATE: &str = "store.archive";
const SUMS: &str = "SHA256SUMS";

/// The newest form of the file that this version reads, and the one it writes.
const FORMAT: u32 = 1;
/// Bytes read at a time.
const PART: usize = 64 << 10;
/// More than any file but the state has.
const SMALL_MOST: u64 = 16 << 20;

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    format: u32,
    /// Version of Tiphys that made it.
    pub version: String,
    /// When.
    pub created: String,
    /// On which node.
    pub node_name: Option<String>,
    /// The cluster's ranges and domain, which it must be started with again.
    pub cluster_cidr: Option<String>,
    /// See `cluster_cidr`.
    pub service_cidr: Option<String>,
    /// See `cluster_cidr`.
    pub cluster_domain: Option<String>,
}

impl About {
    /// Of a backup made now.
    pub fn of(settings: Option<&Settings>) -> Self {
        Self {
            format: FORMAT,
            version: crate::VERSION.to_owned(),
            created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            node_name: settings.map(|s| s.node_name.clone()),
            cluster_cidr: settings.map(|s| s.cluster_cidr.clone()),
            service_cidr: settings.map(|s| s.service_cidr.clone()),
            cluster_domain: settings.map(|s| s.cluster_domain.clone()),
        }
    }
}

/// Names and contents of the keys and certificates.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Reads the keys and certificates of a data directory; without them a cluster cannot be brought back.
pub fn pki_files(data_dir: &Path) -> Result<Files> {
    let dir = data_dir.join("pki");
    let entries = std::fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}; give the --data-dir of a master", dir.display()))?;
    let mut files = Files::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a write left unfinished begins with a dot.
        if entry.file_type()?.is_file() && !name.starts_with('.') {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    ensure!(files.contains_key("ca.key"), "{} holds no ca.key", dir.display());
    Ok(files)
}

/// A backup that is written but not in its place yet; dropping it removes it.
pub struct Unfinished {
    part: PathBuf,
    file: PathBuf,
}

impl Unfinished {
    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Puts it in its place.
    pub fn finish(self) -> Result<()> {
        // A hard link never replaces a file that came meanwhile.
        std::fs::hard_link(&self.part, &self.file)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        let dir = self.file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(dir)?.sync_all()?)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // If this fails there is a file too many, whose name says what it is.
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Writes a backup beside its place; it is on the disk when this returns.
pub async fn write(file: &Path, about: &About, pki: &Files, chunks: Chunks) -> Result<Unfinished> {
    ensure!(!file.exists(), "{} exists; give another name", file.display());
    let mut name = file.file_name().context("FILE must be the name of a file")?.to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    let out = open.with_context(|| format!("cannot write {}", part.display()))?;
    let unfinished = Unfinished { part, file: file.to_owned() };
    let mut writer = Writer { tar: tar::Builder::new(out), sums: String::new() };
    writer.small(ABOUT, &serde_json::to_vec_pretty(about)?)?;
    for (name, content) in pki {
        writer.small(&format!("{PKI}{name}"), content)?;
    }
    writer.state(chunks).await?;
    let sums = std::mem::take(&mut writer.sums);
    writer.small(SUMS, sums.as_bytes())?;
    writer.tar.into_inner()?.sync_all()?;
    Ok(unfinished)
}

struct Writer {
    tar: tar::Builder<File>,
    sums: String,
}

impl Writer {
    fn small(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = header();
        header.set_size(content.len() as u64);
        self.tar.append_data(&mut header, name, content)?;
        self.sum(name, Sha256::digest(content).as_slice());
        Ok(())
    }

    async fn state(&mut self, mut chunks: Chunks) -> Result<()> {
        let mut header = header();
        let mut entry = self.tar.append_writer(&mut header, STATE)?;
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.try_next().await? {
            hash.update(&chunk);
            entry.write_all(&chunk)?;
        }
        entry.finish()?;
        self.sum(STATE, hash.finalize().as_slice());
        Ok(())
    }

    fn sum(&mut self, name: &str, digest: &[u8]) {
        self.sums.push_str(&format!("{}  {name}\n", hex(digest)));
    }
}

fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A backup whose checksums are right.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    /// What it says of itself.
    pub about: About,
    /// Keys and certificates.
    pub pki: Files,
    /// Where the state begins, and its length.
    state: (u64, u64),
}

impl Backup {
    /// Reads a file to its end and compares every checksum.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| {
            format!("{} cannot be used; take another backup, nothing was changed", path.display())
        })
    }

    fn read(path: &Path) -> Result<Self> {
        let mut tar = tar::Archive::new(BufReader::with_capacity(PART, File::open(path)?));
        let mut found = Found::default();
        for entry in tar.entries()? {
            found.take(&mut entry.context("it is damaged, or no backup")?)?;
        }
        let Found { about, pki, state, sums, told } = found;
        let told = told.context("it is cut off, or no backup: its checksums are missing")?;
        ensure!(sums == told, "it is damaged: a checksum does not fit");
        let about: About = serde_json::from_slice(&about.context("it is no backup")?)?;
        ensure!(about.format <= FORMAT, "it was made by a newer Tiphys ({}); use that one", about.version);
        let state = state.context("it holds no state")?;
        ensure!(pki.contains_key("ca.key"), "it holds no keys of the cluster");
        Ok(Self { path: path.to_owned(), about, pki, state })
    }

    /// The archive of the state, in parts.
    pub fn archive(&self) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.state.0))?;
        let mut rest = file.take(self.state.1);
        Ok(futures::stream::iter(std::iter::from_fn(move || {
            let mut part = vec![0; PART];
            match rest.read(&mut part) {
                Ok(0) => None,
                Ok(read) => {
                    part.truncate(read);
                    Some(Ok(Bytes::from(part)))
                }
                Err(error) => Some(Err(error)),
            }
        })))
    }
}

/// What was found so far while a backup is read.
#[derive(Default)]
struct Found {
    about: Option<Vec<u8>>,
    pki: Files,
    state: Option<(u64, u64)>,
    sums: String,
    told: Option<String>,
}

impl Found {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let name = entry.path()?.to_string_lossy().into_owned();
        ensure!(self.told.is_none(), "something follows its checksums");
        if name == STATE {
            self.state = Some((entry.raw_file_position(), entry.size()));
            let mut hash = Sha256::new();
            std::io::copy(entry, &mut hash).context("the state is cut off")?;
            self.sums.push_str(&format!("{}  {name}\n", hex(hash.finalize().as_slice())));
            return Ok(());
        }
        ensure!(entry.size() <= SMALL_MOST, "{name} in it is too large");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).with_context(|| format!("{name} in it is cut off"))?;
        let sum = hex(Sha256::digest(&content).as_slice());
        match (name.as_str(), name.strip_prefix(PKI)) {
            (SUMS, _) => {
                self.told = Some(String::from_utf8(content).context("its checksums are damaged")?);
                return Ok(());
            }
            (ABOUT, _) => self.about = Some(content),
            (_, Some(file)) if !file.contains('/') => drop(self.pki.insert(file.to_owned(), content)),
            _ => bail!("{name} in it is unknown to this version"),
        }
        self.sums.push_str(&format!("{sum}  {name}\n"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn made(dir: &Path) -> Vec<u8> {
        let pki = Files::from([("ca.key".to_owned(), b"secret".to_vec())]);
        let chunks =
            futures::stream::iter([Ok(Bytes::from_static(b"the ")), Ok(Bytes::from_static(b"state"))]);
        let file = dir.join("a.tar");
        write(&file, &About::of(None), &pki, chunks.boxed()).await.unwrap().finish().unwrap();
        assert!(!dir.join("a.tar.part").exists());
        std::fs::read(file).unwrap()
    }

    #[tokio::test]
    async fn comes_back_as_written_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path()).await;
        let file = dir.path().join("a.tar");
        let backup = Backup::open(&file).unwrap();
        assert_eq!(backup.pki["ca.key"], b"secret");
        let parts: Vec<Bytes> = backup.archive().unwrap().try_collect().await.unwrap();
        assert_eq!(parts.concat(), b"the state");
        let again = write(&file, &backup.about, &backup.pki, futures::stream::empty().boxed()).await;
        assert!(again.err().unwrap().to_string().contains("exists"));
    }

    #[tokio::test]
    async fn every_cut_and_every_changed_byte_of_its_content_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let good = made(dir.path()).await;
        let bad = dir.path().join("bad.tar");
        let refused = |bytes: &[u8]| {
            std::fs::write(&bad, bytes).unwrap();
            Backup::open(&bad).is_err()
        };
        for at in ["secret", "the state", "format", "ca.key", "store.archive"] {
            let place = good.windows(at.len()).position(|part| part == at.as_bytes()).unwrap();
            let mut bytes = good.clone();
            bytes[place] ^= 1;
            assert!(refused(&bytes), "{at}");
        }
        let end = good.windows(4).rposition(|part| part == b"arch").unwrap();
        for cut in (0..end).step_by(97) {
            assert!(refused(&good[..cut]), "cut at {cut}");
        }
    }
}
