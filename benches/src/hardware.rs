//! What the operating system says about the machine.

use std::fs;

use serde::Serialize;

/// The machine that the numbers hold for.
#[derive(Clone, Debug, Serialize)]
pub struct Hardware {
    /// Name of the processor.
    pub processor: String,
    /// How many of its cores this process may use.
    pub cores: usize,
    /// Load average over the last minute when the benchmark began.
    pub load: String,
}

impl Hardware {
    /// Asks the system.
    pub fn read() -> Self {
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
