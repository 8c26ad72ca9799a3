//! Where the data lies, and unpacking it.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use ruzstd::decoding::{Dictionary, FrameDecoder, StreamingDecoder};
use serde_json::Value;

/// The folder of fixtures: `METISDB_FIXTURES`, else `../shared/fixtures` seen from the workspace. `None` where neither is there.
///
/// # Panics
/// If the variable is set to what is no folder.
pub fn fixtures() -> Option<PathBuf> {
    if let Some(named) = env::var_os("METISDB_FIXTURES").map(PathBuf::from) {
        assert!(named.is_dir(), "METISDB_FIXTURES is {}, which is no folder", named.display());
        return Some(named);
    }
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures")).filter(|folder| folder.is_dir())
}

/// All files in a folder and the folders in it that end in `extension`, in the order of their paths.
///
/// # Panics
/// If a folder cannot be read.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let fail = |error: std::io::Error| -> ! { panic!("{}: {error}", folder.display()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| fail(error)) {
        let path = entry.unwrap_or_else(|error| fail(error)).path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's content.
///
/// # Panics
/// If it cannot be read.
pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The content of a zstd file.
///
/// # Panics
/// If it cannot be read or unpacked.
pub fn unpack(path: &Path, dictionary: Option<&Path>) -> Vec<u8> {
    let packed = read(path);
    let fail = |error: String| -> ! { panic!("{}: {error}", path.display()) };
    let mut decoder = FrameDecoder::new();
    if let Some(dictionary) = dictionary {
        let dictionary = Dictionary::decode_dict(&read(dictionary)).unwrap_or_else(|error| fail(error.to_string()));
        decoder.add_dict(dictionary).unwrap_or_else(|error| fail(error.to_string()));
    }
    let (mut rest, mut content) = (&packed[..], Vec::new());
    while !rest.is_empty() {
        let mut frame =
            StreamingDecoder::new_with_decoder(&mut rest, &mut decoder).unwrap_or_else(|error| fail(error.to_string()));
        frame.read_to_end(&mut content).unwrap_or_else(|error| fail(error.to_string()));
    }
    content
}

/// The folder where cargo unpacked a package that this crate names but does not build.
///
/// # Panics
/// If cargo cannot tell. It downloads what is missing, once.
pub fn package(name: &str) -> PathBuf {
    package_of(Path::new(env!("CARGO_MANIFEST_DIR")), name)
}

/// The same of a package that another crate names in its feature `data`.
///
/// # Panics
/// As [`package`].
pub fn package_of(krate: &Path, name: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform=host-tuple",
            "--features=data",
            "--manifest-path",
        ])
        .arg(krate.join("Cargo.toml"))
        .output()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata fails; `cargo fetch --locked` once, with the network:\n{told}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let found = packages.iter().find(|package| package["name"] == name).expect("a package of the workspace");
    Path::new(found["manifest_path"].as_str().expect("a path")).parent().expect("a folder").to_owned()
}
