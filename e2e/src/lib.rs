//! The end-to-end side of Sluice: a real local Kubernetes, images, and what runs on it.
//!
//! ```text
//! host (is this machine able?) ─► cluster::tools (pinned Go programs) ─► images (OCI archives)
//!        ─► cluster (three nodes, three zones) ─► chart, fleets, load, faults ─► audit
//! ```

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod host;
pub mod images;
pub mod lab;
pub mod limits;
pub mod load;
pub mod progress;
pub mod report;
pub mod verify;

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// The repository's root: where this crate was built, unless cargo says otherwise.
///
/// # Errors
/// When the sources are not there any more: tools, images and the chart are made from them.
pub fn repository_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest
        .parent()
        .map_or_else(|| manifest.clone(), PathBuf::from);
    ensure!(
        root.join("e2e/tools").is_dir(),
        "{} is not a checkout of Sluice (e2e/tools is missing); run this from one with `cargo cluster …`",
        root.display()
    );
    Ok(root)
}
