//! The wire code is generated here and committed, so that building skep needs no protobuf compiler.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::setup;

const PROTOS: [&str; 5] = [
    "runtime/v1/cri.proto",
    "skep/v1/batch.proto",
    "skep/v1/command.proto",
    "skep/v1/console.proto",
    "skep/v1/uplink.proto",
];
const GENERATED: [&str; 2] = ["runtime.v1.rs", "skep.v1.rs"];

/// Generates into a scratch folder, then either compares or replaces the committed files.
pub(crate) fn run(check: bool) -> Result<()> {
    let wire = setup::repository().join("common/wire");
    let generated = generate(&wire)?;
    for name in GENERATED {
        let committed = wire.join("src/gen").join(name);
        let fresh = fs::read_to_string(generated.join(name))?;
        let current = fs::read_to_string(&committed).unwrap_or_default();
        if fresh == current {
            println!("{name} is up to date");
        } else if check {
            bail!("common/wire/src/gen/{name} differs from the .proto files: run `cargo xtask generate`");
        } else {
            fs::write(&committed, fresh)?;
            println!("wrote {}", committed.display());
        }
    }
    Ok(())
}

fn generate(wire: &Path) -> Result<PathBuf> {
    let out = std::env::temp_dir().join(format!("skep-generate-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile(PROTOS, [wire.join("proto")]).context("the .proto files do not compile")?;
    // Only those who speak over the network compile the services.
    let services = "#[cfg(feature = \"grpc\")]";
    tonic_prost_build::configure()
        .client_mod_attribute(".", services)
        .server_mod_attribute(".", services)
        .out_dir(&out)
        .compile_fds(descriptors)
        .context("cannot generate")?;
    Ok(out)
}
