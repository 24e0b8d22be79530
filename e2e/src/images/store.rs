//! Effects: a containerd store that holds the images of other people's programs already, made once per version. Nodes start
//! from hard links to it: no node writes to an image, so they share disk and memory, and loading takes no time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::cluster::layout::RUN_DIR;
use crate::cluster::process;
use crate::cluster::tools::{Tools, cache_folder};
use crate::limits::{LOOK_LOCAL, STORE_DAEMON};
use crate::progress::step;

/// The store of the tools' images, made if it is not there.
///
/// # Errors
/// When the images cannot be packed, or containerd does not take them.
pub async fn ready(tools: &Tools) -> Result<PathBuf> {
    let images = cache_folder()?.join("images");
    let store = images.join(format!("store-{}", super::tools_key(tools)));
    if store.is_dir() {
        return Ok(store);
    }
    let part = store.with_extension("part");
    remove(&part)?;
    std::fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
    step(
        "packing images of CoreDNS, metrics-server, NATS and Prometheus",
        async {
            let archive = images.join("tools.tar");
            super::of_tools(tools, &archive)?;
            fill(tools, &part, &archive).await?;
            std::fs::remove_file(&archive)?;
            std::fs::rename(&part, &store).with_context(|| format!("keeping {}", store.display()))
        },
    )
    .await?;
    Ok(store)
}

/// Gives a node its own view of the store: image files are links, databases are copies.
///
/// # Errors
/// When the node's folder cannot be filled.
pub fn clone_to(store: &Path, target: &Path) -> Result<()> {
    let copy = |flags: &[&str]| {
        process::run(
            std::process::Command::new("cp")
                .args(flags)
                .arg("--no-target-directory")
                .arg(store)
                .arg(target),
        )
    };
    if copy(&["--archive", "--link"]).is_err() {
        // Links end at the border of a file system.
        remove(target)?;
        copy(&["--archive", "--reflink=auto"])?;
        return Ok(());
    }
    unlink_databases(target)
}

/// Turns links to files that a node writes into copies of its own.
fn unlink_databases(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // The images' own files are below folders of this name, and none of them is a database.
        if path.is_dir()
            && path
                .file_name()
                .is_none_or(|n| n != "snapshots" && n != "blobs")
        {
            unlink_databases(&path)?;
        } else if path.extension().is_some_and(|e| e == "db") {
            let own = path.with_extension("own");
            std::fs::copy(&path, &own)?;
            std::fs::rename(&own, &path)?;
        }
    }
    Ok(())
}

/// Runs a containerd on the folder just long enough to take the archive in.
async fn fill(tools: &Tools, root: &Path, archive: &Path) -> Result<()> {
    let run = Path::new(RUN_DIR).join("store");
    remove(&run)?;
    std::fs::create_dir_all(&run)?;
    let (config, socket, log) = (
        run.join("containerd.toml"),
        run.join("containerd.sock"),
        run.join("containerd.log"),
    );
    std::fs::write(&config, configuration(root, &run, &socket))?;
    let output = process::append(&log)?;
    let mut daemon = Command::new("unshare")
        .arg("--mount")
        .arg(tools.binary("containerd"))
        .arg("--config")
        .arg(&config)
        .env("PATH", process::PATH)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .context("starting containerd")?;
    let outcome = async {
        listening(&socket, &mut daemon).await?;
        import(tools, &socket, archive).await
    }
    .await
    .with_context(|| format!("containerd says:\n{}", process::tail(&log)));
    // Gently, so that its databases are whole.
    if let Some(pid) = daemon.id() {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
    }
    daemon.wait().await?;
    remove(&run)?;
    outcome
}

async fn listening(socket: &Path, daemon: &mut Child) -> Result<()> {
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if let Some(status) = daemon.try_wait()? {
            bail!("containerd ended with {status}");
        }
        ensure!(
            begun.elapsed() < STORE_DAEMON,
            "containerd does not listen after {} s",
            STORE_DAEMON.as_secs()
        );
        tokio::time::sleep(LOOK_LOCAL).await;
    }
    Ok(())
}

async fn import(tools: &Tools, socket: &Path, archive: &Path) -> Result<()> {
    let mut ctr = Command::new(tools.binary("ctr"));
    ctr.arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "--local"])
        .arg(archive);
    let output = ctr.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    ensure!(
        output.status.success(),
        "ctr: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// No CRI: nothing here is for pods yet.
fn configuration(root: &Path, run: &Path, socket: &Path) -> String {
    format!(
        r#"version = 3
root = "{}"
state = "{}"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{}"
"#,
        root.display(),
        run.join("state").display(),
        socket.display()
    )
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn image_files_are_shared_and_databases_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (store, node) = (folder.path().join("store"), folder.path().join("node"));
        for name in ["blobs", "snapshots/1/fs", "meta"] {
            std::fs::create_dir_all(store.join(name)).unwrap();
        }
        for name in ["blobs/x", "snapshots/1/fs/data.db", "meta/meta.db"] {
            std::fs::write(store.join(name), name).unwrap();
        }
        clone_to(&store, &node).unwrap();
        let shared = |name: &str| {
            let inode = |root: &Path| std::fs::metadata(root.join(name)).unwrap().ino();
            inode(&store) == inode(&node)
        };
        assert!(shared("blobs/x") && shared("snapshots/1/fs/data.db") && !shared("meta/meta.db"));
        assert_eq!(
            std::fs::read_to_string(node.join("meta/meta.db")).unwrap(),
            "meta/meta.db"
        );
    }
}
