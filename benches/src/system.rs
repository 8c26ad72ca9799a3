//! What the operating system says about the machine and about this process.

use std::{fs, path::Path};

use serde::Serialize;

use crate::Result;

/// The machine that the numbers hold for.
#[derive(Debug, Serialize)]
pub(crate) struct Hardware {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Load average over the last minute when the benchmark began.
    pub(crate) load: String,
}

impl Hardware {
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load: load.split(' ').next().unwrap_or("unknown").to_string(),
        }
    }
}

/// Anonymous memory of this process in bytes: heap, stacks and the index; no maps of files.
pub(crate) fn anonymous_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("/proc/self/status has no RssAnon")?.parse::<u64>()? << 10)
}

/// Length of all files in a folder whose names begin with `prefix`.
pub(crate) fn files_bytes(folder: &Path, prefix: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
