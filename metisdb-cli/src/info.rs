//! `metisdb info`: what the database holds.

use std::path::Path;

use serde_json::json;

use crate::{Answer, bytes, line, open};

/// Opens the database and says what it holds.
pub(crate) fn info(path: &Path) -> metisdb::Result<Answer> {
    let stats = open(path)?.stats();
    let lines = vec![
        line("database", path.display()),
        line("newest version", stats.version),
        line("oldest readable version", stats.oldest_version),
        line("keys", stats.keys),
        line("index in memory", bytes(stats.index_bytes)),
        line("log files", stats.segments),
        line("log on disk", bytes(stats.log_disk_bytes)),
        line("log ever written", bytes(stats.log_position)),
        line("  live", bytes(stats.live_bytes)),
        line("  of it only for older versions", bytes(stats.history_bytes)),
        line("  replayed at the next open", bytes(stats.replay_bytes)),
    ];
    let json = json!({
        "path": path,
        "version": stats.version,
        "oldest_version": stats.oldest_version,
        "keys": stats.keys,
        "index_bytes": stats.index_bytes,
        "segments": stats.segments,
        "log_disk_bytes": stats.log_disk_bytes,
        "log_position": stats.log_position,
        "live_bytes": stats.live_bytes,
        "history_bytes": stats.history_bytes,
        "replay_bytes": stats.replay_bytes,
    });
    Ok(Answer { lines, json })
}
