//! Pure: OCI image archives (image-spec 1.1, layout in a tar) of static programs on an empty base. The same input gives the
//! same bytes, so that a digest changes only when a program does.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cluster::tools::units::hex;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// A file or folder of an image, owned by root.
pub enum Entry<'a> {
    /// A folder with this mode.
    Folder(&'a str, u32),
    /// A file with this mode and content.
    File(&'a str, u32, &'a [u8]),
}

/// A blob with its name.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

/// A layer of an image, not compressed: nodes unpack it right away.
pub struct Layer(Blob);

/// An image that is ready to be written.
pub struct Image<'a> {
    /// Full name with tag, such as `sluice.dev/gateway:dev`.
    pub name: &'a str,
    /// Path of the program.
    pub entrypoint: String,
    /// `uid:gid` that it runs as unless the pod says otherwise.
    pub user: String,
    /// From the lowest on.
    pub layers: Vec<Layer>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = hex(&Sha256::digest(&bytes));
        Self { digest, bytes }
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len() })
    }
}

impl Layer {
    /// Packs entries in their order.
    pub fn pack(entries: &[Entry<'_>]) -> Result<Self> {
        let mut tar = Builder::new(Vec::new());
        for entry in entries {
            let (path, mode, kind, content): (&str, u32, EntryType, &[u8]) = match *entry {
                Entry::Folder(path, mode) => (path, mode, EntryType::Directory, &[]),
                Entry::File(path, mode, content) => (path, mode, EntryType::Regular, content),
            };
            let mut header = header(kind, mode, content.len());
            tar.append_data(&mut header, path, content)
                .with_context(|| format!("packing {path}"))?;
        }
        Ok(Self(Blob::new(tar.into_inner()?)))
    }
}

/// Writes the images into one archive; a layer that several of them have is written once.
pub fn write(images: &[Image<'_>], architecture: &str, out: impl Write) -> Result<()> {
    let mut tar = Builder::new(out);
    let mut written = BTreeSet::new();
    let mut manifests = Vec::new();
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for image in images {
        let config = Blob::new(serde_json::to_vec(&config(image, architecture))?);
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|l| l.0.descriptor(LAYER_TYPE))
            .collect();
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config.descriptor(CONFIG_TYPE), "layers": layers }))?);
        let mut descriptor = manifest.descriptor(MANIFEST_TYPE);
        // containerd takes the name from here, as it is.
        descriptor["annotations"] = json!({ "io.containerd.image.name": image.name });
        manifests.push(descriptor);
        for blob in image
            .layers
            .iter()
            .map(|l| &l.0)
            .chain([&config, &manifest])
        {
            if written.insert(blob.digest.clone()) {
                append(
                    &mut tar,
                    &format!("blobs/sha256/{}", blob.digest),
                    &blob.bytes,
                )?;
            }
        }
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

fn config(image: &Image<'_>, architecture: &str) -> Value {
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|l| format!("sha256:{}", l.0.digest))
        .collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": [image.entrypoint], "User": image.user, "WorkingDir": "/", "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": layers },
    })
}

fn append(tar: &mut Builder<impl Write>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o644, content.len());
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("writing {path}"))
}

/// No time, no names of users: nothing that differs from one machine to another.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn layer(content: &[u8]) -> Layer {
        Layer::pack(&[
            Entry::Folder("tmp/", 0o1777),
            Entry::File("program", 0o755, content),
        ])
        .unwrap()
    }

    fn image<'a>(name: &'a str, content: &[u8]) -> Image<'a> {
        Image {
            name,
            entrypoint: "/program".into(),
            user: "65532:65532".into(),
            layers: vec![layer(b"base"), layer(content)],
        }
    }

    fn archive(images: &[Image<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        write(images, "amd64", &mut out).unwrap();
        out
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(
            archive(&[image("sluice.dev/a:1", b"x")]),
            archive(&[image("sluice.dev/a:1", b"x")])
        );
        assert_ne!(
            archive(&[image("sluice.dev/a:1", b"x")]),
            archive(&[image("sluice.dev/a:1", b"y")])
        );
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_every_reference_is_met() {
        let files = files(&archive(&[
            image("sluice.dev/a:1", b"x"),
            image("sluice.dev/b:1", b"y"),
        ]));
        for (path, bytes) in files.iter().filter(|(p, _)| p.starts_with("blobs/")) {
            assert_eq!(
                *path,
                format!("blobs/sha256/{}", hex(&Sha256::digest(bytes)))
            );
        }
        let blob = |value: &Value| {
            let digest = value["digest"]
                .as_str()
                .unwrap()
                .trim_start_matches("sha256:")
                .to_owned();
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(value["size"], bytes.len());
            bytes
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(
            manifests[1]["annotations"]["io.containerd.image.name"],
            "sluice.dev/b:1"
        );
        for manifest in manifests {
            let manifest: Value = serde_json::from_slice(blob(manifest)).unwrap();
            let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
            let layers = manifest["layers"].as_array().unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][1], layers[1]["digest"]);
            for layer in layers {
                blob(layer);
            }
        }
        // Three different layers (the base is common), two configurations, two manifests.
        assert_eq!(files.keys().filter(|p| p.starts_with("blobs/")).count(), 7);
    }
}
