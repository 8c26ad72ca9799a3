//! A genesis file as a stream: account by account and slot by slot, however long it is.

use std::{
    cell::Cell,
    fmt::{self, Formatter},
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use alloy_primitives::U256;
use metisdb_execution::unpack;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Loaded, Loader, Preamble,
    header::{Header, put},
    text,
};
use crate::{failure::Failure, interrupt::Interrupt, progress::Bar};

const BUFFER_BYTES: usize = 1 << 18;
/// How many names of ignored fields are kept.
const IGNORED: usize = 8;

/// Reads a genesis file as geth and alloy write it, compressed with zstd or not, and loads its accounts.
pub(crate) fn read_file(path: &Path, loader: &mut Loader<'_>, interrupt: &Interrupt) -> Result<Preamble, Failure> {
    let file = File::open(path).map_err(Failure::system("open", path))?;
    let metadata = file.metadata().map_err(Failure::system("look at", path))?;
    read(path, file, metadata.len(), loader, interrupt)
}

/// The same, of the content of a file of that many bytes.
pub(crate) fn read(
    path: &Path,
    file: impl Read,
    bytes: u64,
    loader: &mut Loader<'_>,
    interrupt: &Interrupt,
) -> Result<Preamble, Failure> {
    let position = Cell::new(0);
    let counted = Counted { file, position: &position, interrupt };
    let packed = BufReader::with_capacity(BUFFER_BYTES, counted);
    let content = unpack::content(packed).map_err(|error| from_io(path, interrupt, error))?;
    let mut reading = Reading {
        loader,
        preamble: Preamble::default(),
        has_alloc: false,
        failure: None,
        bar: Bar::new("imports", bytes),
        position: &position,
    };
    let mut parser = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER_BYTES, content));
    let parsed = parser.deserialize_map(FileVisitor(&mut reading)).and_then(|()| parser.end());
    match (reading.failure.take(), parsed) {
        (Some(Failure::Refused(reason)), Err(error)) => {
            Err(refused(path, format!("{reason} at line {} column {}", error.line(), error.column())))
        }
        (Some(failure), _) => Err(failure),
        (None, Err(error)) if error.is_io() => Err(from_io(path, interrupt, error.into())),
        (None, Err(error)) => Err(refused(path, error.to_string())),
        (None, Ok(())) if !reading.has_alloc => Err(refused(path, "the file has no alloc, the accounts".to_owned())),
        (None, Ok(())) => Ok(reading.preamble),
    }
}

fn refused(path: &Path, reason: String) -> Failure {
    Failure::Refused(format!("{}: {reason}", path.display()))
}

fn from_io(path: &Path, interrupt: &Interrupt, error: io::Error) -> Failure {
    match error.kind() {
        _ if interrupt.is_raised() => Failure::Interrupted,
        io::ErrorKind::InvalidData => refused(path, error.to_string()),
        _ => Failure::system("read", path)(error),
    }
}

/// A file that knows how far it was read, and ends when a signal has come.
struct Counted<'f, R> {
    file: R,
    position: &'f Cell<u64>,
    interrupt: &'f Interrupt,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_raised() {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.file.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

struct Reading<'r, 'd> {
    loader: &'r mut Loader<'d>,
    preamble: Preamble,
    has_alloc: bool,
    /// What the loader said; the parser cannot carry it.
    failure: Option<Failure>,
    bar: Bar,
    position: &'r Cell<u64>,
}

impl Reading<'_, '_> {
    fn loaded<E: Error>(&mut self, result: Result<(), Failure>) -> Result<(), E> {
        result.map_err(|failure| {
            let error = E::custom(&failure);
            self.failure = Some(failure);
            error
        })
    }

    fn ignore(&mut self, name: String) {
        let ignored = &mut self.preamble.ignored;
        if ignored.len() < IGNORED && !ignored.contains(&name) {
            ignored.push(name);
        }
    }

    fn show(&mut self) {
        let Loaded { accounts, slots, .. } = self.loader.loaded();
        let detail = format_args!("{accounts} accounts, {slots} slots");
        self.bar.advance(self.position.get(), detail);
    }
}

/// The whole file.
struct FileVisitor<'v, 'r, 'd>(&'v mut Reading<'r, 'd>);

impl<'de> Visitor<'de> for FileVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a genesis file: an object with alloc")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        while let Some(name) = map.next_key::<String>()? {
            // geth takes capital letters for small ones in the names of fields.
            let lowercase = name.to_ascii_lowercase();
            match &*lowercase {
                "alloc" if reading.has_alloc => return Err(A::Error::custom("alloc stands there twice")),
                "alloc" => {
                    reading.has_alloc = true;
                    map.next_value_seed(Alloc(reading))?;
                }
                _ => match Header::setter(&lowercase) {
                    Some(set) => {
                        let value = map.next_value::<Box<RawValue>>()?;
                        set(&mut reading.preamble.header, &value)
                            .map_err(|reason| A::Error::custom(format_args!("{name}: {reason}")))?;
                    }
                    None => {
                        map.next_value::<IgnoredAny>()?;
                        reading.ignore(name);
                    }
                },
            }
        }
        Ok(())
    }
}

/// The accounts by their addresses.
struct Alloc<'v, 'r, 'd>(&'v mut Reading<'r, 'd>);

impl<'de> DeserializeSeed<'de> for Alloc<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Alloc<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("alloc: an object of accounts by their addresses")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        while let Some(key) = map.next_key::<String>()? {
            let address = text::address(&key).map_err(A::Error::custom)?;
            let begun = reading.loader.begin(address);
            reading.loaded(begun)?;
            map.next_value_seed(AccountSeed { reading: &mut *reading, name: address.to_string() })?;
            reading.show();
        }
        Ok(())
    }
}

/// One account.
struct AccountSeed<'v, 'r, 'd> {
    reading: &'v mut Reading<'r, 'd>,
    name: String,
}

impl<'de> DeserializeSeed<'de> for AccountSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl AccountSeed<'_, '_, '_> {
    /// Puts the account's address before the reason.
    fn wrong<E: Error>(&self, field: &str) -> impl Fn(String) -> E {
        move |reason| E::custom(format_args!("account {}: {field}: {reason}", self.name))
    }

    /// Reads a field that may be there once.
    fn read<'de, A: MapAccess<'de>, T>(
        &self,
        field: &str,
        into: &mut Option<T>,
        read: fn(&str) -> Result<T, String>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let value = map.next_value::<Box<RawValue>>()?;
        put(into, read, &value).map_err(self.wrong(field))
    }
}

impl<'de> Visitor<'de> for AccountSeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "account {}: an object", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut nonce, mut balance, mut code) = (None, None, None);
        let mut has_storage = false;
        while let Some(field) = map.next_key::<String>()? {
            match &*field.to_ascii_lowercase() {
                "nonce" => self.read(&field, &mut nonce, text::small, &mut map)?,
                "balance" => self.read(&field, &mut balance, text::number, &mut map)?,
                "code" => self.read(&field, &mut code, text::bytes, &mut map)?,
                "storage" if has_storage => return Err(self.wrong(&field)("stands there twice".to_owned())),
                "storage" => {
                    has_storage = true;
                    map.next_value_seed(Storage { reading: &mut *self.reading, name: &self.name })?;
                }
                lowercase => {
                    map.next_value::<IgnoredAny>()?;
                    // geth knows it, and has no use for it.
                    if lowercase != "secretkey" {
                        self.reading.ignore(format!("{field} of account {}", self.name));
                    }
                }
            }
        }
        let balance = balance.ok_or_else(|| self.wrong("balance")("is missing".to_owned()))?;
        let Self { reading, .. } = self;
        let ended = code.map_or(Ok(()), |code| reading.loader.code(code));
        let ended = ended.and_then(|()| reading.loader.end(nonce.unwrap_or(0), balance));
        reading.loaded(ended)
    }
}

/// The slots of an account.
struct Storage<'v, 'r, 'd> {
    reading: &'v mut Reading<'r, 'd>,
    name: &'v str,
}

impl<'de> DeserializeSeed<'de> for Storage<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Storage<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "account {}: storage: an object of slots", self.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reading, name } = self;
        let word = |text: &str| -> Result<U256, A::Error> {
            text::word(text).map_err(|reason| A::Error::custom(format_args!("account {name}: storage: {reason}")))
        };
        while let Some((slot, value)) = map.next_entry::<String, String>()? {
            let set = reading.loader.slot(word(&slot)?, word(&value)?);
            reading.loaded(set)?;
            reading.show();
        }
        Ok(())
    }
}
