//! The policies of the demo: the files of examples, and what of them is of this run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::yaml;

/// Where auth publishes its keys, as the file has it.
const KEYS_AT: &str = "jwksUri: http://127.0.0.1:8080/";

/// Writes those to apply at start into a directory, which is returned, and those for later into `extra`.
pub(super) fn write(folder: &Path, auth: SocketAddr) -> Result<PathBuf> {
    let (policies, extra) = (folder.join("policies"), folder.join("extra"));
    std::fs::create_dir(&policies)?;
    std::fs::create_dir(&extra)?;
    for (name, text) in yaml::INIT.into_iter().chain(yaml::FINTECH) {
        std::fs::write(policies.join(name), text)?;
    }
    let (name, text) = yaml::EDGE_USERS;
    ensure!(text.contains(KEYS_AT), "{name} does not say where the keys are");
    std::fs::write(policies.join(name), text.replace(KEYS_AT, &format!("jwksUri: http://{auth}/")))?;
    for (name, text) in yaml::EXTRA {
        std::fs::write(extra.join(name), text)?;
    }
    Ok(policies)
}
