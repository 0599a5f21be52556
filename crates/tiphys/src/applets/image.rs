//! The images that are this binary: one layer with `/tiphys` and links to it, two images with different first words.
//!
//! The archive is an OCI image layout (image-spec 1.0) written as a stream: the layer's digest is computed in a first
//! pass over the binary, so that a binary of tens of megabytes is never held in memory.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tiphys_api::{Value, json};

use super::TOOLS;

/// How the names of all of them begin.
pub const OWN: &str = "tiphys.local/";
/// The sandbox.
pub const PAUSE: &str = "tiphys.local/pause:1";
/// The HTTP server of the first example.
pub const HELLO: &str = "tiphys.local/hello:1";
/// The same server under a second tag, so that a rolling update has somewhere to go.
pub const HELLO_2: &str = "tiphys.local/hello:2";

/// All images in the archive, with the words their containers start with and their `VERSION`.
const IMAGES: &[(&str, &[&str], &str)] = &[
    (PAUSE, &["/tiphys", "pause"], "1"),
    (HELLO, &["/tiphys", "hello"], "1"),
    (HELLO_2, &["/tiphys", "hello"], "2"),
];

/// Whether a program needs no loader: its ELF file has no interpreter segment (ELF-64 specification, program headers).
pub fn is_static(program: &Path) -> io::Result<bool> {
    const PT_INTERP: u32 = 3;
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    let number =
        |at: usize, size: usize| header[at..at + size].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    for index in 0..count {
        let mut kind = [0; 4];
        file.seek(io::SeekFrom::Start(offset + index * size))?;
        file.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the archive of all images made from the binary at `program`.
pub fn write_archive(program: &Path, out: impl Write) -> io::Result<()> {
    let mut hasher = Hasher::default();
    write_layer(program, &mut hasher)?;
    let (layer_digest, layer_size) = hasher.finish();
    let mut archive = tar::Builder::new(out);
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut manifests = Vec::new();
    for (name, entrypoint, version) in IMAGES {
        let config = config(entrypoint, version, &layer_digest);
        let manifest =
            manifest(&append_blob(&mut archive, MEDIA_CONFIG, &config)?, &layer_digest, layer_size);
        let mut descriptor = append_blob(&mut archive, MEDIA_MANIFEST, &manifest)?;
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
        manifests.push(descriptor);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": manifests });
    append(&mut archive, "index.json", index.to_string().as_bytes())?;
    let mut header = header(tar::EntryType::Regular, 0o644, layer_size);
    header.set_path(blob_path(&layer_digest))?;
    header.set_cksum();
    let writer = archive.get_mut();
    writer.write_all(header.as_bytes())?;
    write_layer(program, &mut *writer)?;
    pad(writer, layer_size)?;
    archive.into_inner()?.flush()
}

const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn config(entrypoint: &[&str], version: &str, layer: &str) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin", format!("VERSION={version}")], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
}

/// OCI's (Go's) name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn manifest(config: &Value, layer: &str, layer_size: u64) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": config,
        "layers": [{ "mediaType": MEDIA_LAYER, "digest": layer, "size": layer_size }],
    })
}

/// The layer: the binary, directories that programs expect, and the tools' links.
fn write_layer(program: &Path, out: impl Write) -> io::Result<()> {
    let mut layer = tar::Builder::new(out);
    for (dir, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        layer.append_data(&mut header(tar::EntryType::Directory, mode, 0), dir, io::empty())?;
    }
    let users = b"root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    layer.append_data(
        &mut header(tar::EntryType::Regular, 0o644, users.len() as u64),
        "etc/passwd",
        &users[..],
    )?;
    let binary = File::open(program)?;
    let size = binary.metadata()?.len();
    layer.append_data(&mut header(tar::EntryType::Regular, 0o755, size), "tiphys", binary)?;
    for tool in TOOLS {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut link, format!("bin/{tool}"), "/tiphys")?;
    }
    layer.into_inner()?.flush()
}

/// A header without owner and time, so that the same binary always gives the same image.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(tar::EntryType::Regular, 0o644, content.len() as u64), path, content)
}

/// Appends a JSON blob; returns its descriptor.
fn append_blob<W: Write>(archive: &mut tar::Builder<W>, media: &str, blob: &Value) -> io::Result<Value> {
    let content = blob.to_string();
    let mut hasher = Hasher::default();
    hasher.write_all(content.as_bytes())?;
    let (digest, size) = hasher.finish();
    append(archive, &blob_path(&digest), content.as_bytes())?;
    Ok(json!({ "mediaType": media, "digest": digest, "size": size }))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Fills the last of tar's 512-byte blocks.
fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..rest as usize])
}

/// Counts and digests what is written.
#[derive(Default)]
struct Hasher {
    sha: Sha256,
    size: u64,
}

impl Hasher {
    fn finish(self) -> (String, u64) {
        let hex: String = self.sha.finalize().iter().map(|b| format!("{b:02x}")).collect();
        (format!("sha256:{hex}"), self.size)
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |mut entry: tar::Entry<'_, &[u8]>| {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(|entry| read(entry.unwrap())).collect()
    }

    #[test]
    fn a_program_that_needs_a_loader_is_told_apart() {
        assert!(!is_static(Path::new("/bin/sh")).unwrap(), "distributions link their shell dynamically");
    }

    #[test]
    fn every_blob_is_what_its_digest_says() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, vec![7; 1000]).unwrap();
        let mut archive = Vec::new();
        write_archive(&program, &mut archive).unwrap();
        let entries = entries(&archive);
        for (path, content) in entries.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            let mut hasher = Hasher::default();
            hasher.write_all(content).unwrap();
            assert_eq!(*path, blob_path(&hasher.finish().0));
        }
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), IMAGES.len());
        let layer = entries.values().max_by_key(|content| content.len()).unwrap();
        assert!(self::entries(layer)["tiphys"].iter().all(|b| *b == 7));
    }
}
