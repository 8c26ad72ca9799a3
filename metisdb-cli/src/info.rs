//! `metisdb info`: what the database holds.

use clap::Args;
use metisdb::Block;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Answer, bytes, count, line, short_bytes},
    target::Target,
};

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Opens the database and says what it holds.
pub(crate) fn info(arguments: &InfoArguments) -> Result<Answer, Failure> {
    let path = &arguments.target.path;
    let db = arguments.target.open()?;
    let stats = db.stats();
    let newest = db.snapshot()?;
    let (root, block) = (newest.root()?, newest.committed_block()?);
    let files = if stats.segments == 1 { "file" } else { "files" };
    let shown = |block: Block| format!("{} {}", block.number, block.hash);
    let lines = vec![
        line("database", path.display()),
        line("newest version", stats.version),
        line("  state root", root),
        line("  block", block.map_or_else(|| "none was named".to_string(), shown)),
        line("oldest readable version", stats.oldest_version),
        line("keys", count(stats.keys)),
        line("  index in memory", bytes(stats.index_bytes)),
        line("log on disk", format!("{} in {} {files}", bytes(stats.log_disk_bytes), stats.segments)),
        line("  written in all", bytes(stats.log_position)),
        line("  live", bytes(stats.live_bytes)),
        line("  live for older versions only", bytes(stats.history_bytes)),
        line("  replayed at the next open", bytes(stats.replay_bytes)),
        line("trie on disk", bytes(stats.arena_disk_bytes)),
        line("  nodes in use", bytes(stats.arena_live_bytes)),
        line("log and trie on disk", short_bytes(stats.log_disk_bytes + stats.arena_disk_bytes)),
    ];
    let json = json!({
        "path": path.display().to_string(),
        "version": stats.version,
        "root": root.to_string(),
        "block": block.map(|block| json!({ "number": block.number, "hash": block.hash.to_string() })),
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
    Ok(Answer::new(lines, json))
}
