//! The forms of a witness in files (`spec/witness.md`).

use std::{fs, io, path::Path};

use alloy_consensus::Header;
use alloy_primitives::{Bytes, hex};
use clap::ValueEnum;
use metisdb::proof::Witness;
use serde::Deserialize;

use super::block::read_bytes;
use crate::failure::Failure;

/// How a witness is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One file: the object that `debug_executionWitness` answers.
    Json,
    /// One file: geth's RLP, as it is.
    Rlp,
    /// A folder with a file for each preimage: 0x, its key, .txt.
    Files,
    /// The same in folders by the first four digits of the key, as op-program has it.
    Directory,
}

/// Nothing may be where the witness is to be.
pub(super) fn require_nothing(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => {
            Err(Failure::Refused(format!("{} is there already; name another place, or move it away", path.display())))
        }
        Err(_) => Ok(()),
    }
}

/// Writes it where nothing is: all of it, or nothing stays there. Returns the bytes.
pub(super) fn write(witness: &Witness, form: Form, path: &Path) -> Result<u64, Failure> {
    let written = match form {
        Form::Json => {
            let json = serde_json::to_vec(witness).expect("bytes, in arrays");
            write_new(path, &json)
        }
        Form::Rlp => write_new(path, &witness.to_rlp()),
        Form::Files | Form::Directory => write_preimages(witness, form, path),
    };
    written.map_err(Failure::system("write", path))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let mut file = fs::File::create_new(path)?;
    let written = io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all());
    written.map(|()| bytes.len() as u64).inspect_err(|_| {
        // The error to be told is the first one; so below.
        let _ = fs::remove_file(path);
    })
}

fn write_preimages(witness: &Witness, form: Form, folder: &Path) -> io::Result<u64> {
    fs::create_dir(folder)?;
    fill(witness, form, folder).inspect_err(|_| {
        let _ = fs::remove_dir_all(folder);
    })
}

fn fill(witness: &Witness, form: Form, folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (key, value) in witness.preimages() {
        let key = hex::encode(key);
        let file = if form == Form::Directory {
            let (first, rest) = key.split_at(4);
            fs::create_dir_all(folder.join(first))?;
            folder.join(first).join(format!("{rest}.txt"))
        } else {
            folder.join(format!("0x{key}.txt"))
        };
        // One may stand in two parts: a value that is the same is the same file.
        let text = hex::encode(value);
        fs::write(file, &text)?;
        bytes += text.len() as u64;
    }
    Ok(bytes)
}

/// What clients answer to `debug_executionWitness`.
#[derive(Deserialize)]
struct Answered {
    headers: Option<Vec<Told>>,
    #[serde(flatten)]
    others: Witness,
}

/// A header of it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a header is neither RLP, 0x first, nor an object with its fields")]
enum Told {
    Rlp(Bytes),
    /// As geth has it. What it lacks makes its hash another one, so that it counts for nothing.
    Fields(Box<Header>),
}

impl Answered {
    fn witness(self) -> Witness {
        let encoded = |header| match header {
            Told::Rlp(bytes) => bytes,
            Told::Fields(header) => alloy_rlp::encode(header).into(),
        };
        let headers = self.headers.into_iter().flatten().map(encoded).collect();
        Witness { headers, ..self.others }
    }
}

/// Reads JSON, or RLP.
pub(super) fn read(path: &Path) -> Result<Witness, Failure> {
    let refused = |error: String| Failure::Refused(format!("{}: {error}", path.display()));
    let bytes = read_bytes(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        let answer = serde_json::from_slice::<Answered>(&bytes).map_err(|error| {
            refused(format!("{error}; an answer of debug_executionWitness is expected, its result alone"))
        })?;
        return Ok(answer.witness());
    }
    Witness::from_rlp(&bytes).map_err(|error| refused(format!("{error}; JSON or geth's RLP is expected")))
}
