//! `metisdb info`: what the database holds.

use std::path::Path;

use serde_json::json;

use crate::{Answer, bytes, line, open};

/// Opens the database and says what it holds.
pub(crate) fn info(path: &Path) -> metisdb::Result<Answer> {
    let db = open(path)?;
    let stats = db.stats();
    let root = db.snapshot()?.root()?;
    let lines = vec![
        line("database", path.display()),
        line("newest version", stats.version),
        line("state root", root),
        line("oldest readable version", stats.oldest_version),
        line("keys", stats.keys),
        line("index in memory", bytes(stats.index_bytes)),
        line("log files", stats.segments),
        line("log on disk", bytes(stats.log_disk_bytes)),
        line("arena of the trie on disk", bytes(stats.arena_disk_bytes)),
        line("  nodes in use", bytes(stats.arena_live_bytes)),
        line("log ever written", bytes(stats.log_position)),
        line("  live", bytes(stats.live_bytes)),
        line("  of it only for older versions", bytes(stats.history_bytes)),
        line("  replayed at the next open", bytes(stats.replay_bytes)),
    ];
    let json = json!({
        "path": path,
        "version": stats.version,
        "root": root.to_string(),
        "oldest_version": stats.oldest_version,
        "keys": stats.keys,
        "index_bytes": stats.index_bytes,
        "segments": stats.segments,
        "log_disk_bytes": stats.log_disk_bytes,
        "arena_disk_bytes": stats.arena_disk_bytes,
        "arena_live_bytes": stats.arena_live_bytes,
        "log_position": stats.log_position,
        "live_bytes": stats.live_bytes,
        "history_bytes": stats.history_bytes,
        "replay_bytes": stats.replay_bytes,
    });
    Ok(Answer { lines, json })
}
