//! Complete states before and after Ethereum's block tests: loaded from empty, and led from one to the other by one commit.

use std::collections::BTreeMap;

use metisdb_conformance::{
    data,
    database::{Checked, check_from_empty, check_step, same},
    hex,
    state::{State, Written},
    tally::Tally,
};
use serde::Deserialize;

/// Small files: there is a database in memory for each line, and its largest code must fit in one.
const SEGMENT_BYTES: u64 = 1 << 17;

/// A line of the file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'t> {
    n: String,
    #[serde(borrow)]
    pre: BTreeMap<&'t str, Written<'t>>,
    pre_root: &'t str,
    post: BTreeMap<&'t str, Written<'t>>,
    post_root: &'t str,
}

fn check_line(line: &Line<'_>) -> Checked {
    let (pre, post) = (State::new(&line.pre), State::new(&line.post));
    let (pre_root, post_root) = (hex::hash(line.pre_root), hex::hash(line.post_root));
    same("the harness: the naive root of `pre`", pre.root(), pre_root)?;
    same("the harness: the naive root of `post`", post.root(), post_root)?;
    check_step(SEGMENT_BYTES, (&pre, pre_root), (&post, post_root))?;
    check_from_empty(SEGMENT_BYTES, &post, post_root)
}

#[test]
fn state_diffs() {
    let mut tally = Tally::new("state_diffs");
    match data::fixtures() {
        None => tally.skip("all", "no fixtures"),
        Some(folder) => {
            for line in data::unpack(&folder.join("state_diffs.jsonl.zst"), None).split(|byte| *byte == b'\n') {
                if !line.is_empty() {
                    let line: Line<'_> = serde_json::from_slice(line).expect("a line of the file's shape");
                    tally.count(&line.n, check_line(&line));
                }
            }
        }
    }
    tally.finish();
}
