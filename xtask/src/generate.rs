//! What is generated and committed: the wire code, so that building skep needs no protobuf compiler, and the page about
//! tables and views.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::cargo;
use crate::setup;

const PROTOS: [&str; 5] = [
    "runtime/v1/cri.proto",
    "skep/v1/batch.proto",
    "skep/v1/command.proto",
    "skep/v1/console.proto",
    "skep/v1/uplink.proto",
];
const GENERATED: [&str; 2] = ["runtime.v1.rs", "skep.v1.rs"];

/// Where the page about tables and views is.
const PAGE: &str = "docs/TABLES.md";

/// Either compares or replaces the committed files.
pub(crate) fn run(check: bool) -> Result<()> {
    let wire = setup::repository().join("common/wire");
    let generated = generate(&wire)?;
    for name in GENERATED {
        let fresh = fs::read_to_string(generated.join(name))?;
        settle(&format!("common/wire/src/gen/{name}"), &fresh, "the .proto files", check)?;
    }
    settle(PAGE, &page()?, "common/wire/src/tables.rs and views.rs", check)
}

/// Makes the committed file what it should be, or fails when it is not.
fn settle(name: &str, fresh: &str, source: &str, check: bool) -> Result<()> {
    let committed = setup::repository().join(name);
    if fs::read_to_string(&committed).unwrap_or_default() == fresh {
        println!("{name} is up to date");
        return Ok(());
    }
    ensure!(!check, "{name} differs from {source}: run `cargo xtask generate`");
    if let Some(folder) = committed.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&committed, fresh).with_context(|| format!("cannot write {name}"))?;
    println!("wrote {name}");
    Ok(())
}

/// Asks the crate that defines the tables.
fn page() -> Result<String> {
    let output = cargo()
        .args(["run", "--quiet", "--package", "skep-wire", "--example", "reference"])
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "no page about tables: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).context("the page about tables is not text")
}

fn generate(wire: &Path) -> Result<PathBuf> {
    let out = std::env::temp_dir().join(format!("skep-generate-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile(PROTOS, [wire.join("proto")]).context("the .proto files do not compile")?;
    // Only those who speak over the network compile the services.
    let services = "#[cfg(feature = \"grpc\")]";
    // Written by hand: see common/wire/src/packed.rs.
    let packed = |name: &str| (format!(".skep.v1.{name}"), format!("crate::packed::{name}"));
    let [ints, texts, histograms] = ["Ints", "Texts", "Histograms"].map(packed);
    tonic_prost_build::configure()
        .extern_path(ints.0, ints.1)
        .extern_path(texts.0, texts.1)
        .extern_path(histograms.0, histograms.1)
        .client_mod_attribute(".", services)
        .server_mod_attribute(".", services)
        .out_dir(&out)
        .compile_fds(descriptors)
        .context("cannot generate")?;
    Ok(out)
}
