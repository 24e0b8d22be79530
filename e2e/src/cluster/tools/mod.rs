//! Effects: the Go programs of the cluster, built from pinned modules (`e2e/tools/*/go.mod`) once and kept in a cache
//! outside the tree, one folder per version.

pub(crate) mod units;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;

use crate::limits::TAIL_LINES;
use crate::progress::{note, step};
use units::{UNITS, Unit};

/// Time between two tries for the lock that another program holds while it builds.
const LOCK_RETRY: Duration = Duration::from_millis(500);

/// Modules that are built at the same time: while one is linked, which takes one processor, the other is compiled.
const BUILDS_AT_ONCE: usize = 2;

/// Where the built programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    programs: BTreeMap<&'static str, PathBuf>,
    key: String,
}

impl Tools {
    /// Every program, built where it is missing (several minutes on two cores, the first time).
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub async fn ready() -> Result<Self> {
        Self::ensure(|_| true).await
    }

    /// Only kubectl and Helm: all that a cluster of one's own (`--context`) needs.
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub async fn clients() -> Result<Self> {
        Self::ensure(|unit| unit.client).await
    }

    /// Only the programs of the units with these names.
    ///
    /// # Errors
    /// When Go is missing or a build fails.
    pub async fn only(names: &[&str]) -> Result<Self> {
        Self::ensure(|unit| names.contains(&unit.name)).await
    }

    /// kubectl of the cluster's version.
    pub fn kubectl(&self) -> PathBuf {
        self.binary("kubectl")
    }

    /// Helm.
    pub fn helm(&self) -> PathBuf {
        self.binary("helm")
    }

    /// A program by its name; one that is none of ours is left to the search path.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.programs
            .get(name)
            .cloned()
            .unwrap_or_else(|| PathBuf::from(name))
    }

    /// Changes whenever one of the programs does.
    pub fn key(&self) -> &str {
        &self.key
    }

    async fn ensure(wanted: impl Fn(&Unit) -> bool) -> Result<Self> {
        let sources = crate::repository_root()?.join("e2e/tools");
        let cache = cache_folder()?.join("tools");
        let mut units = Vec::new();
        for unit in UNITS.iter().filter(|u| wanted(u)) {
            let go_mod = read(&sources.join(unit.module).join("go.mod"))?;
            let go_sum = read(&sources.join(unit.module).join("go.sum"))?;
            let key = unit.key(&go_mod, &go_sum);
            units.push((
                unit,
                unit.flags(&go_mod)?,
                cache.join(format!("{}-{key}", unit.name)),
            ));
        }
        if units.iter().any(|(_, _, folder)| !folder.is_dir()) {
            let _lock = lock(&cache).await?;
            check_go().await?;
            // Whoever held the lock before may have built some.
            let missing = units.iter().filter(|(_, _, folder)| !folder.is_dir());
            let builds = missing.map(|(unit, flags, folder)| build(unit, flags, &sources, folder));
            futures::stream::iter(builds)
                .buffer_unordered(BUILDS_AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
        let mut tools = Self {
            programs: BTreeMap::new(),
            key: String::new(),
        };
        for (unit, _, folder) in &units {
            tools
                .programs
                .extend(unit.programs.iter().map(|p| (p.name, folder.join(p.name))));
            tools.key += &folder.file_name().unwrap_or_default().to_string_lossy();
        }
        Ok(tools)
    }
}

/// `$SLUICE_CACHE`, or the user's cache folder.
///
/// # Errors
/// When the environment names no home either.
pub fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("SLUICE_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("sluice")))
        .or_else(|| Some(set("HOME")?.join(".cache/sluice")))
        .context("neither SLUICE_CACHE nor XDG_CACHE_HOME nor HOME is set: say where built programs may be kept")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Two builds at once would only slow each other down.
async fn lock(cache: &Path) -> Result<Flock<File>> {
    std::fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
    let path = cache.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    let mut told = false;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, nix::errno::Errno::EAGAIN)) => file,
            Err((_, error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        };
        if !told {
            note("another program is building the tools; waiting for it");
            told = true;
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

async fn check_go() -> Result<()> {
    let answer = Command::new("go")
        .arg("version")
        .stdin(Stdio::null())
        .output()
        .await;
    ensure!(
        answer.is_ok_and(|o| o.status.success()),
        "Go is missing: the cluster's programs are built from Go modules. Install Go 1.26 or later (https://go.dev/dl) so that `go` is in PATH"
    );
    Ok(())
}

/// Builds into a folder beside the final one and renames it: a folder with the final name is always complete.
async fn build(unit: &Unit, flags: &[String], sources: &Path, folder: &Path) -> Result<()> {
    let part = folder.with_extension("part");
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part)?;
    let count = unit.programs.len();
    let what = format!(
        "building {} ({count} {})",
        unit.name,
        if count == 1 { "program" } else { "programs" }
    );
    step(&what, async {
        // A package path that ends in /v2 would name the program so; several are named by Go, after their packages.
        let output = match unit.programs {
            [one] => part.join(one.name),
            _ => part.clone(),
        };
        let mut go = Command::new("go");
        go.arg("-C")
            .arg(sources.join(unit.module))
            .arg("build")
            .args(flags)
            .arg("-o")
            .arg(output);
        go.args(unit.programs.iter().map(|p| p.package));
        run_go(go, unit.name).await
    })
    .await?;
    std::fs::rename(&part, folder).with_context(|| format!("keeping {}", folder.display()))
}

/// Static programs for this machine, whatever the shell's settings for other Go work are.
async fn run_go(mut go: Command, name: &str) -> Result<()> {
    go.env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off");
    for surprise in [
        "GOOS",
        "GOARCH",
        "GOAMD64",
        "GOARM64",
        "GOEXPERIMENT",
        "GODEBUG",
    ] {
        go.env_remove(surprise);
    }
    let output = go
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting go")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        bail!("building {name} failed ({}):\n{tail}", output.status);
    }
    Ok(())
}
