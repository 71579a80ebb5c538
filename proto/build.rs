//! Generates the wire types. protox stands in for protoc, so that nothing has to be installed.

use std::error::Error;

const FILES: [&str; 4] = [
    "palisade/v1/admin.proto",
    "palisade/v1/configuration.proto",
    "palisade/v1/identity.proto",
    "palisade/v1/policy.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=palisade");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".palisade.v1.Snapshot.body")
        .compile_fds(descriptors)?;
    Ok(())
}
