//! Effects: the cluster's images, made from programs that were just built: archives that nodes load.

pub mod oci;
pub mod product;
pub mod store;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::layout::NOBODY;
use crate::cluster::node::PAUSE_IMAGE;
use crate::cluster::tools::Tools;
use crate::progress::step;
use oci::{Entry, Image, Layer};

/// The gateway's image.
pub const GATEWAY: &str = "sluice.dev/gateway:dev";
/// The operator's image; it holds `kubectl-sluice`, too.
pub const OPERATOR: &str = "sluice.dev/operator:dev";

/// Raised when the images are put together differently, so that cached stores are made anew.
const ARCHIVE_VERSION: u32 = 1;

/// Files that programs look for: who runs them, and a folder to write in.
const PASSWD: &str =
    "root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/:/\nnobody:x:65534:65534:nobody:/:/\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\nnobody:x:65534:\n";

/// An image by its name and its programs, the first of which it runs.
struct Recipe<'a> {
    name: &'a str,
    programs: Vec<(&'a str, PathBuf)>,
}

/// Packs the images of other people's programs into one archive.
fn of_tools(tools: &Tools, archive: &Path) -> Result<()> {
    let recipe = |name, program| Recipe {
        name,
        programs: vec![(program, tools.binary(program))],
    };
    let recipes = [
        recipe("sluice.dev/coredns:1", "coredns"),
        recipe("sluice.dev/metrics-server:0.9", "metrics-server"),
        recipe("sluice.dev/nats:2.15.2", "nats-server"),
        recipe("sluice.dev/prometheus:3", "prometheus"),
    ];
    pack(&recipes, archive)
}

/// Everything that has to be built: the tools, and gateway and operator beside them, since neither keeps all processors busy.
///
/// # Errors
/// When Go is missing or a build fails.
pub async fn build_all() -> Result<Tools> {
    let (tools, _) = tokio::try_join!(Tools::ready(), product::build())?;
    Ok(tools)
}

/// Builds gateway and operator and packs them into `folder`.
///
/// # Errors
/// With the compiler's own words.
pub async fn of_product(folder: &Path) -> Result<PathBuf> {
    let built = product::build().await?;
    let path = folder.join("product.tar");
    step("packing images of gateway and operator", async {
        let recipe = |name, programs: &[&'static str]| -> Result<Recipe<'static>> {
            let slim = programs
                .iter()
                .map(|p| Ok((*p, product::slim(&built, p, folder)?)));
            let programs = slim.collect::<Result<_>>()?;
            Ok(Recipe { name, programs })
        };
        make(folder)?;
        let recipes = [
            recipe(GATEWAY, &["sluice-gateway"])?,
            recipe(OPERATOR, &["sluice-operator", "kubectl-sluice"])?,
        ];
        pack(&recipes, &path)
    })
    .await?;
    Ok(path)
}

/// Builds the sandbox program and packs it into `folder`.
///
/// # Errors
/// With the compiler's own words.
pub async fn of_pause(folder: &Path) -> Result<PathBuf> {
    let built = product::build_pause().await?;
    make(folder)?;
    let program = product::slim(&built, "pause", folder)?;
    let path = folder.join("pause.tar");
    let recipe = Recipe {
        name: PAUSE_IMAGE,
        programs: vec![("pause", program)],
    };
    pack(&[recipe], &path)?;
    Ok(path)
}

/// Short hash of everything that the tools' images depend on.
fn tools_key(tools: &Tools) -> String {
    use sha2::{Digest, Sha256};
    let all = format!("{ARCHIVE_VERSION} {} {PASSWD} {GROUP}", tools.key());
    crate::cluster::tools::units::hex(&Sha256::digest(all))[..12].to_owned()
}

/// Writes an archive beside its final place and renames it.
fn pack(recipes: &[Recipe<'_>], path: &Path) -> Result<()> {
    let folder = path.parent().context("an archive needs a folder")?;
    make(folder)?;
    let part = path.with_extension("part");
    let images = recipes.iter().map(image).collect::<Result<Vec<_>>>()?;
    let file = File::create(&part).with_context(|| format!("making {}", part.display()))?;
    oci::write(&images, architecture(), BufWriter::new(file))?;
    std::fs::rename(&part, path).with_context(|| format!("keeping {}", path.display()))
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

fn image<'a>(recipe: &Recipe<'a>) -> Result<Image<'a>> {
    let base = Layer::pack(&[
        Entry::Folder("etc/", 0o755),
        Entry::File("etc/group", 0o644, GROUP.as_bytes()),
        Entry::File("etc/passwd", 0o644, PASSWD.as_bytes()),
        Entry::Folder("tmp/", 0o1777),
    ])?;
    let mut contents = Vec::new();
    for (name, path) in &recipe.programs {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        contents.push((*name, bytes));
    }
    let entries: Vec<Entry<'_>> = contents
        .iter()
        .map(|(name, bytes)| Entry::File(name, 0o755, bytes))
        .collect();
    let program = recipe
        .programs
        .first()
        .context("an image needs a program")?
        .0;
    Ok(Image {
        name: recipe.name,
        entrypoint: format!("/{program}"),
        user: format!("{NOBODY}:{NOBODY}"),
        layers: vec![base, Layer::pack(&entries)?],
    })
}

/// This machine's architecture in the words of image registries.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
