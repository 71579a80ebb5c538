//! Reads the policy documents that an operator names, and writes secrets.

use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use palisade_policy::document::SourceFile;

/// All documents of one call together. A fintech's whole mesh is some hundred KiB; the control plane takes no more.
const BYTES_MAX: u64 = 3 * 1024 * 1024;
/// Guards against a mistaken `palisade apply /`.
const FILES_MAX: usize = 2_000;
/// Deeper nesting is a link that leads back.
const DEPTH_MAX: usize = 16;

/// Reads files, and in directories every `.yaml` and `.yml`, in the order of their names. `-` is stdin.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for path in paths {
        if path == Path::new("-") || !path.is_dir() {
            found.push(path.clone());
        } else {
            walk(path, DEPTH_MAX, &mut found)?;
        }
    }
    if found.is_empty() {
        bail!("no .yaml or .yml file in {}; name a file or another directory", shown(paths));
    }
    let mut left = BYTES_MAX;
    found.iter().map(|path| read_one(path, &mut left)).collect()
}

fn walk(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read directory {}", directory.display());
    let mut entries = std::fs::read_dir(directory)
        .with_context(context)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(context)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            if leads_back(&path) {
                bail!("{} is a link to a directory that it stands in; take it out", path.display());
            }
            if depth == 0 {
                bail!("{}: more than {DEPTH_MAX} directories deep; name a deeper one", path.display());
            }
            walk(&path, depth - 1, found)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            // Somebody would have to write into a pipe for the read to end.
            if path.exists() && !path.is_file() {
                bail!("{} is a pipe, a socket or a device; name files, or another directory", path.display());
            }
            found.push(path);
        }
        if found.len() > FILES_MAX {
            bail!("more than {FILES_MAX} files under {}; name a smaller directory", directory.display());
        }
    }
    Ok(())
}

/// Whether a path is a link to a directory above it, of which there is no end.
fn leads_back(path: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let folder = path.parent().and_then(whole);
    path.is_symlink() && whole(path).zip(folder).is_some_and(|(target, folder)| folder.starts_with(target))
}

fn read_one(path: &Path, left: &mut u64) -> Result<SourceFile> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let limit = *left + 1;
    let read = if stdin {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    let help = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => "save it as UTF-8 text",
        _ => "name a file, a directory or - for stdin",
    };
    let read = read.map_err(|error| {
        let message = format!("cannot read {name}; {}", help(&error));
        anyhow::Error::from(error).context(message)
    })?;
    *left = left.checked_sub(u64::try_from(read)?).with_context(|| {
        format!("{name}: the documents of one call have at most {BYTES_MAX} bytes; name fewer files")
    })?;
    Ok(SourceFile { name, text })
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Writes a file that only its owner can read, whole or not at all. One that is there is replaced.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // Of a run that was killed. `create_new` below then refuses whatever somebody puts in its place.
    let _absent = std::fs::remove_file(&temporary);
    let mut options = std::fs::File::options();
    let written = options.write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}
