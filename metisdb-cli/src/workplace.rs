//! Folders for what is large and goes away in the end.

use std::{
    env,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::failure::Failure;

/// Where they are made unless the user says something else.
pub(crate) fn by_default() -> PathBuf {
    // What is large does not belong in /tmp, which may be memory.
    let is_unsaid = env::var_os("TMPDIR").is_none();
    if is_unsaid && Path::new("/var/tmp").is_dir() { "/var/tmp".into() } else { env::temp_dir() }
}

/// Makes one, which goes away with the value.
pub(crate) fn make_folder(workplace: &Path, prefix: &str) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(workplace);
    made.map_err(Failure::system("make a folder in", workplace))
}
