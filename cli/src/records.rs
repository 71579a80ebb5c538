//! Reads decision records from logs, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use palisade_policy::record::Record;

/// A proxy's longest line: 64 KiB of head, escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Lines that are no records: a log's last line may be cut off.
#[derive(Debug, Default)]
pub(crate) struct Strange {
    pub(crate) lines: u64,
    /// Place of the first one, and why.
    pub(crate) first: Option<String>,
}

/// Gives every record of every file to `take`. `-` is stdin. A log without any record is an error.
pub(crate) fn each(paths: &[PathBuf], mut take: impl FnMut(Record)) -> Result<Strange> {
    let mut strange = Strange::default();
    for path in paths {
        let mut records = 0_u64;
        let mut count = |record| {
            records += 1;
            take(record);
        };
        open(path, &mut strange, &mut count)?;
        if records == 0 {
            let why = strange.first.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            bail!(
                "{} has no decision record{why}; name the file that a proxy's --access-log writes",
                path.display()
            );
        }
    }
    Ok(strange)
}

/// The one record with this id. A log that nothing was written to yet is none of the errors.
pub(crate) fn find(paths: &[PathBuf], id: &str) -> Result<(Record, Strange)> {
    let mut strange = Strange::default();
    let mut found: Option<Record> = None;
    let (mut records, mut differ) = (0_u64, false);
    let mut take = |record: Record| {
        records += 1;
        if record.decision_id.eq_ignore_ascii_case(id) {
            differ |= found.as_ref().is_some_and(|other| *other != record);
            found.get_or_insert(record);
        }
    };
    for path in paths {
        open(path, &mut strange, &mut take)?;
    }
    if differ {
        bail!("several records have the id {id} and differ: a log was changed; name the log of one proxy");
    }
    if let Some(record) = found {
        return Ok((record, strange));
    }
    let logs = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let broken = match strange.lines {
        0 => String::new(),
        _ => format!(" ({})", strange.shown()),
    };
    bail!(
        "no record with the id {id} among {records} of {logs}{broken}; name the log of the proxy that refused: the file of its \
         --access-log, rotated ones too"
    );
}

fn open(path: &Path, strange: &mut Strange, take: &mut impl FnMut(Record)) -> Result<()> {
    if path == Path::new("-") {
        return read(std::io::stdin().lock(), path, strange, take);
    }
    let file =
        File::open(path).with_context(|| format!("cannot read {}; name a log file", path.display()))?;
    read(BufReader::new(file), path, strange, take)
}

fn read(
    mut from: impl BufRead,
    path: &Path,
    strange: &mut Strange,
    take: &mut impl FnMut(Record),
) -> Result<()> {
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        let context = || format!("cannot read {}", path.display());
        let length = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).with_context(context)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        match Record::parse(&text) {
            Ok(record) => take(record),
            Err(why) => {
                strange.lines += 1;
                strange.first.get_or_insert_with(|| format!("{}:{number}: {why}", path.display()));
            }
        }
    }
}

impl Strange {
    /// One line about them; empty where there are none.
    pub(crate) fn shown(&self) -> String {
        match (&self.first, self.lines) {
            (Some(first), 1) => format!("1 line is no decision record: {first}"),
            (Some(first), lines) => {
                format!("{lines} lines are no decision records, the first of them {first}")
            }
            (None, _) => String::new(),
        }
    }
}
