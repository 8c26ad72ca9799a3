//! Whatever is not what was written is refused, named, and leaves no database.

use std::{
    fs,
    io::{self, Read},
};

use alloy_primitives::{Address, B256, U256, keccak256};
use proptest::prelude::*;

use super::{
    super::{Random, disk, small},
    block_changes, exported, import,
    naive::{CODES, Content, RawChunk, RawFile, STATE},
    random_state, stop_at, verify,
};
use crate::{Account, Durability, Error, SnapshotFile};

/// An address whose hash is larger than those of all accounts.
fn address_behind(content: &Content) -> Address {
    let last_path = content.accounts.keys().map(keccak256).max().unwrap();
    let mut addresses = (0_u64..).map(|number| Address::left_padding_from(&number.to_be_bytes()));
    addresses.find(|address| keccak256(address) > last_path).unwrap()
}

/// A file of a few chunks of every kind, with a block. Its last account has no slots.
fn sound() -> Vec<u8> {
    let db = small().create_on(disk(1)).unwrap();
    let content = random_state(&db, &mut Random(5), 14);
    let mut changes = block_changes(9);
    changes.set_account(address_behind(&content), Account { balance: U256::from(77), ..Account::default() });
    db.commit(&changes, Durability::Pipelined).unwrap();
    let bytes = exported(&db.snapshot().unwrap());
    let file = RawFile::read(&bytes);
    let of_kind = |kind| file.chunks.iter().filter(|chunk| chunk.kind == kind).count();
    assert!(of_kind(CODES) > 0 && of_kind(STATE) > 4, "{} and {}", of_kind(CODES), of_kind(STATE));
    bytes
}

/// Where each chunk begins, the end and the end of the file included.
fn bounds(bytes: &[u8]) -> Vec<usize> {
    let mut at = 56 + 80 + 32;
    let mut bounds = vec![at];
    while at < bytes.len() {
        at += 56 + u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
        bounds.push(at);
    }
    bounds
}

/// The part of the file that a byte belongs to, as the errors name it.
fn part(bounds: &[usize], at: usize) -> String {
    match bounds.partition_point(|bound| *bound <= at) {
        0 => "header:".to_owned(),
        chunks => format!("chunk {}:", chunks - 1),
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], part: &str, case: &str) {
    let error = verify(bytes).expect_err(case);
    assert!(
        matches!(&error, Error::Corruption { expected, .. } if expected.starts_with(part)),
        "{case}: {part} {error}"
    );
}

/// Not imported either, and no database is left where one was to be.
#[track_caller]
fn assert_not_imported(bytes: &[u8], case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("state");
    let error = import(bytes, &target).expect_err(case);
    assert!(error.is_corruption(), "{case}: {error}");
    assert!(!target.exists(), "{case}");
}

/// Every byte of the file, once with one random other value and once with one bit flipped.
#[test]
fn a_flipped_byte_is_found_and_its_chunk_named() {
    let bytes = sound();
    let bounds = bounds(&bytes);
    let mut random = Random(3);
    for at in 0..bytes.len() {
        for mask in [1 << random.below(8), 1 + random.below(255) as u8] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let case = format!("byte {at} ^ {mask:#x}");
            match verify(&flipped) {
                Err(Error::FormatVersion { .. }) if (8..12).contains(&at) => {}
                _ => assert_refused(&flipped, &part(&bounds, at), &case),
            }
            if random.one_in(40) && !(8..12).contains(&at) {
                assert_not_imported(&flipped, &case);
            }
        }
    }
}

#[test]
fn every_truncation_is_found() {
    let bytes = sound();
    let bounds = bounds(&bytes);
    for length in 0..bytes.len() {
        assert_refused(&bytes[..length], &part(&bounds, length), &format!("{length} bytes"));
    }
    for length in bounds {
        if length < bytes.len() {
            assert_not_imported(&bytes[..length], &format!("{length} bytes"));
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_refused(&longer, "chunk ", "a byte behind the end");
    assert_not_imported(&longer, "a byte behind the end");
}

/// Chunks as they are, header and all, in another place, missing, twice, or from another file.
#[test]
fn chunks_have_their_place() {
    let bytes = sound();
    let bounds = bounds(&bytes);
    let pieces: Vec<&[u8]> = bounds.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
    let head = &bytes[..bounds[0]];
    let refused = |pieces: &[&[u8]], chunk: usize, case: &str| {
        let bytes = [head, &pieces.concat()].concat();
        assert_refused(&bytes, &format!("chunk {chunk}:"), case);
        assert_not_imported(&bytes, case);
    };
    for first in 0..pieces.len() {
        let mut dropped = pieces.clone();
        dropped.remove(first);
        refused(&dropped, first, &format!("without {first}"));
        let mut repeated = pieces.clone();
        repeated.insert(first, pieces[first]);
        // Behind the end nothing is read as a chunk.
        let place = if first == pieces.len() - 1 { first } else { first + 1 };
        refused(&repeated, place, &format!("{first} twice"));
        if first > 0 {
            let mut swapped = pieces.clone();
            swapped.swap(0, first);
            refused(&swapped, 0, &format!("0 and {first} swapped"));
        }
    }
    // The same state of another version: its chunks say the same, and are of another file.
    let mut other = RawFile::read(&bytes);
    other.version += 1;
    let other = other.write();
    verify(&other).unwrap();
    for index in 0..pieces.len() {
        let mut mixed = pieces.clone();
        mixed[index] = &other[bounds[index]..bounds[index + 1]];
        refused(&mixed, index, &format!("{index} of another file"));
    }
}

/// Remembers how much was asked for.
struct Watched<R> {
    input: R,
    longest: usize,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.longest = self.longest.max(bytes.len());
        self.input.read(bytes)
    }
}

/// Lengths and counts beyond every bound, in files that never end: refused when they were read, before anything is reserved for them.
#[test]
fn hostile_lengths_reserve_nothing() {
    let bytes = sound();
    let bounds = bounds(&bytes);
    for (at, width, limit) in [
        (14, 2, 256_u64),
        (bounds[0] + 8, 4, 65_536),
        (bounds[0] + 12, 4, 4_194_304),
        (bounds[0] + 16, 8, 0),
        (bounds[bounds.len() - 2] + 8, 4, 0),
        (bounds[bounds.len() - 2] + 12, 4, 56),
    ] {
        for value in [limit + 1, limit + 2, 0x8000_0000, 0xffff_ffff, u64::MAX] {
            let mut hostile = bytes.clone();
            hostile[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            if hostile == bytes || (width == 2 && value & 0xffff <= limit) {
                continue;
            }
            let mut watched = Watched { input: hostile.chain(io::repeat(0)), longest: 0 };
            let error = match SnapshotFile::from_stream(&mut watched) {
                Ok(file) => file.verify(super::go_on).unwrap_err(),
                Err(error) => error,
            };
            assert!(error.is_corruption(), "{value:#x} at {at}: {error}");
            let most = bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(watched.longest <= most, "{value:#x} at {at}: {} bytes at once", watched.longest);
        }
    }
}

/// Files whose hashes hold, but whose content is not what may stand there.
#[test]
fn hostile_content_is_refused() {
    let file = RawFile::read(&sound());
    let state = file.chunks.iter().position(|chunk| chunk.kind == STATE).unwrap();
    let refused = |chunk: usize, case: &str, change: &dyn Fn(&mut RawFile)| {
        let mut hostile = file.clone();
        change(&mut hostile);
        assert_ne!(hostile, file, "{case}");
        assert_refused(&hostile.write(), &format!("chunk {chunk}:"), case);
        assert_not_imported(&hostile.write(), case);
    };
    let end = file.chunks.len();
    for index in 0..3 {
        refused(end, "a total", &|file| file.totals[index] += 1);
    }
    let of_accounts = |index: &usize| file.chunks[*index].body[0] == 64;
    let later = (state + 1..end).find(of_accounts).expect("a chunk that begins with an account");
    refused(state + 1, "later accounts first", &|file| {
        let chunk = file.chunks.remove(later);
        file.chunks.insert(state, chunk);
    });
    refused(state + 1, "a chunk twice", &|file| file.chunks.insert(state, file.chunks[state].clone()));
    refused(state, "state among the codes", &|file| file.chunks[state].kind = CODES);
    refused(1, "codes behind the state", &|file| file.chunks.swap(0, state));
    refused(0, "an unknown kind", &|file| file.chunks[0].kind = 4);
    refused(0, "an end in the middle", &|file| file.chunks[0].kind = 3);
    refused(0, "fewer records", &|file| file.chunks[0].record_count -= 1);
    refused(0, "more records", &|file| file.chunks[0].record_count += 1);
    refused(0, "half a record", &|file| file.chunks[0].body.truncate(5));

    let single = |kind: u8, records: &[&[u8]]| {
        let record_count = records.len() as u32;
        move |body: Vec<u8>| {
            move |file: &mut RawFile| file.chunks = vec![RawChunk { kind, record_count, body: body.clone() }]
        }
    };
    let address = [7; 20];
    let account = |flags: &[u8], rest: &[u8]| [&[64][..], &address, flags, &[0; 8], rest].concat();
    let bare = account(&[0, 0], &[]);
    let slot = [1, 1, 5, 5];
    for (case, records) in [
        ("a slot without its account", vec![&slot[..]]),
        ("an account that goes on from nowhere", vec![&[&[66][..], &address].concat()[..], &slot]),
        ("an account twice", vec![&bare[..], &bare]),
        ("a slot twice", vec![&bare[..], &slot, &slot]),
        ("a slot of zero", vec![&bare[..], &[0, 1, 5]]),
        ("a value that begins with zero", vec![&bare[..], &[2, 1, 5, 0, 5]]),
        ("a number that begins with zero", vec![&bare[..], &[1, 2, 0, 5, 5]]),
        ("a number of 33 bytes", vec![&bare[..], &[&[1, 33], &[1; 33][..], &[5]].concat()[..]]),
        ("an unknown flag", vec![&account(&[2, 0], &[])[..]]),
        ("a balance that begins with zero", vec![&account(&[0, 1], &[0])[..]]),
        ("a balance of 33 bytes", vec![&account(&[0, 33], &[1; 33])[..]]),
        ("the hash of the empty code", vec![&account(&[1, 0], keccak256([]).as_slice())[..]]),
        ("an unknown record", vec![&[200, 1][..]]),
        ("a code among the accounts", vec![&[96, 1, 0, 0, 0, 1][..]]),
        ("no records", vec![]),
    ] {
        refused(0, case, &single(STATE, &records)(records.concat()));
    }
    for (case, records) in [
        ("an empty code", vec![&[96, 0, 0, 0, 0][..]]),
        ("a code beyond the limit", vec![&[&[96, 1, 0, 16, 0][..], &vec![1; (1 << 20) + 1]].concat()[..]]),
        ("a code of 4 GiB", vec![&[96, 255, 255, 255, 255, 1][..]]),
        ("a code twice", vec![&[96, 1, 0, 0, 0, 1][..], &[96, 1, 0, 0, 0, 1]]),
        ("an account among the codes", vec![&bare[..]]),
    ] {
        refused(0, case, &single(CODES, &records)(records.concat()));
    }
}

/// The hashes and the order hold, and the state is another one.
#[test]
fn a_wrong_state_is_refused() {
    let file = RawFile::read(&sound());
    let refused = |case: &str, change: &dyn Fn(&mut RawFile)| {
        let mut hostile = file.clone();
        change(&mut hostile);
        match verify(&hostile.write()) {
            Err(error) => assert!(error.to_string().contains("expected the state root"), "{case}: {error}"),
            // Only a database knows whether all codes are there.
            Ok(_) => assert_eq!(case, "a code less"),
        }
        assert_not_imported(&hostile.write(), case);
    };
    refused("another root", &|file| file.root = B256::repeat_byte(1));
    let last = file.chunks.len() - 1;
    refused("a balance or a value", &|file| *file.chunks[last].body.last_mut().unwrap() ^= 2);
    refused("an account less", &|file| {
        let content = file.content();
        let address = *content.accounts.keys().max_by_key(|address| keccak256(address)).unwrap();
        let at = content.slots.keys().filter(|(own, _)| *own == address).count();
        assert_eq!(at, 0, "the last account of this state has no slots");
        let bytes = |account: &crate::Account| {
            31 + account.balance.byte_len() + if account.code_hash == keccak256([]) { 0 } else { 32 }
        };
        let chunk = &mut file.chunks[last];
        chunk.body.truncate(chunk.body.len() - bytes(&content.accounts[&address]));
        chunk.record_count -= 1;
        file.totals[1] -= 1;
        if chunk.record_count == 0 {
            file.chunks.pop();
        }
    });
    refused("a code less", &|file| {
        let code = 5 + u32::from_le_bytes(file.chunks[0].body[1..5].try_into().unwrap()) as usize;
        file.chunks[0].body.drain(..code);
        file.chunks[0].record_count -= 1;
        file.totals[0] -= 1;
        assert!(file.chunks[0].record_count > 0);
    });
    refused("an account more", &|file| {
        let content = file.content();
        let address = address_behind(&content);
        let body = [&[64][..], address.as_slice(), &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
        file.chunks.push(RawChunk { kind: STATE, record_count: 1, body });
        file.totals[1] += 1;
    });
    refused("a slot more", &|file| {
        let content = file.content();
        let address = *content.accounts.keys().max_by_key(|address| keccak256(address)).unwrap();
        assert!(!content.slots.keys().any(|(own, _)| *own == address));
        file.chunks.push(RawChunk {
            kind: STATE,
            record_count: 2,
            body: [&[66][..], address.as_slice(), &[1, 1, 5, 5]].concat(),
        });
        file.totals[2] += 1;
        assert_eq!(file.content().slots[&(address, U256::from(5))], U256::from(5));
    });
}

/// A file that was damaged is replaced by a sound one, and the import goes on.
#[test]
fn an_import_goes_on_with_a_sound_file() {
    let bytes = sound();
    let bounds = bounds(&bytes);
    let mut damaged = bytes.clone();
    damaged[bounds[3]] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("state");
    import(&damaged, &target).unwrap_err();
    assert_eq!(import(&bytes, &target).unwrap().found_chunks, 3);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state"]);
}

/// Once the database that was begun of a file with another state, whose hashes held, was kept: a sound file with the same header went on with it,
/// and was refused whenever it was tried.
#[test]
fn a_sound_file_is_imported_after_one_of_another_state() {
    let sound = sound();
    let file = RawFile::read(&sound);
    let last = file.chunks.len() - 1;
    let changed = |change: &dyn Fn(&mut RawFile)| {
        let mut other = file.clone();
        change(&mut other);
        other.write()
    };
    let another_value = changed(&|file| *file.chunks[last].body.last_mut().unwrap() ^= 2);
    let a_code_less = changed(&|file| {
        let code = 5 + u32::from_le_bytes(file.chunks[0].body[1..5].try_into().unwrap()) as usize;
        file.chunks[0].body.drain(..code);
        file.chunks[0].record_count -= 1;
        file.totals[0] -= 1;
    });
    // The chunk behind it goes on with an account that is not there then.
    let continued = file.chunks.iter().position(|chunk| chunk.body[0] == 66).unwrap();
    let an_account_less = changed(&|file| {
        let body = [&[64][..], address_behind(&file.content()).as_slice(), &[0; 10]].concat();
        file.chunks[continued - 1] = RawChunk { kind: STATE, record_count: 1, body };
    });
    for (other, stop) in [
        (&another_value, u64::MAX),
        (&another_value, last as u64 + 1),
        (&a_code_less, u64::MAX),
        (&a_code_less, 1),
        (&an_account_less, continued as u64),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("state");
        SnapshotFile::from_stream(&other[..]).unwrap().import(&target, small(), stop_at(stop)).unwrap_err();
        let refused = import(&sound, &target).is_err();
        assert_eq!(refused, stop != u64::MAX, "what an import had begun is known to be useless only in the end");
        if refused {
            assert_eq!(import(&sound, &target).unwrap().found_chunks, 0);
        }
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["state"]);
    }
}

/// Once a file of the same state in more chunks could be begun, and a sound one go on with it: as many versions were there as it has chunks, so
/// the block that belongs to the state was taken for committed, and was missing in what was published.
#[test]
fn a_sound_file_is_imported_after_one_of_shorter_chunks() {
    let sound = sound();
    let file = RawFile::read(&sound);
    let mut shorter = file.clone();
    for chunk in 0..2 {
        // The first code of a chunk, its length in front, becomes one by itself.
        let codes = &mut shorter.chunks[chunk];
        assert!(codes.kind == CODES && codes.record_count > 1);
        let body = codes.body.split_off(5 + u32::from_le_bytes(codes.body[1..5].try_into().unwrap()) as usize);
        let record_count = std::mem::replace(&mut codes.record_count, 1) - 1;
        shorter.chunks.insert(chunk + 1, RawChunk { kind: CODES, record_count, body });
        let other = shorter.clone();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("state");
        let stop = other.chunks.len() as u64;
        verify(&other.write()).unwrap();
        SnapshotFile::from_stream(&other.write()[..]).unwrap().import(&target, small(), stop_at(stop)).unwrap_err();
        let refused = import(&sound, &target).unwrap_err();
        assert!(refused.is_corruption() && refused.to_string().contains("import it again"), "{stop} chunks: {refused}");
        assert_eq!(import(&sound, &target).unwrap().found_chunks, 0);
        let imported = small().open(&target).unwrap();
        assert_eq!(imported.snapshot().unwrap().committed_block().unwrap(), file.blocks.last().copied());
    }
}

proptest! {
    /// Any bytes, any bytes with the right beginning, and any body with the right hashes: decoded or refused.
    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        bodies in proptest::collection::vec((1_u8..=3, 0_u32..4, proptest::collection::vec(any::<u8>(), 0..120)), 0..4),
        totals in any::<[u8; 3]>(),
    ) {
        let refused = |bytes: &[u8]| match verify(bytes) {
            Ok(_) | Err(Error::Corruption { .. } | Error::FormatVersion { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        refused(&bytes);
        refused(&[b"METISNAP\x01\0\0\0\x01\0\0\0", &bytes[..]].concat());
        let chunks = bodies.into_iter().map(|(kind, record_count, body)| RawChunk { kind, record_count, body });
        let totals = totals.map(u64::from);
        let file = RawFile { version: 1, root: B256::ZERO, blocks: vec![], chunks: chunks.collect(), totals };
        refused(&file.write());
    }

    /// Records of the right form with any content: what is accepted, the naive reader accepts, and says the same.
    #[test]
    fn what_is_accepted_is_sound(
        records in proptest::collection::vec((0_u8..3, any::<u8>(), 0_u8..4, 0_u8..4), 1..6),
        accounts in 0_u64..5,
        slots in 0_u64..5,
    ) {
        let mut body = Vec::new();
        for (kind, number, slot_bytes, value_bytes) in &records {
            let bytes = |count: &u8| vec![*number % 3; usize::from(*count)];
            match kind {
                0 => body.extend_from_slice(&[&[64][..], &[*number; 20], &[0, *value_bytes], &[0; 8], &bytes(value_bytes)].concat()),
                1 => body.extend_from_slice(&[&[*value_bytes, *slot_bytes][..], &bytes(slot_bytes), &bytes(value_bytes)].concat()),
                _ => body.extend_from_slice(&[&[66][..], &[*number; 20]].concat()),
            }
        }
        let chunks = vec![RawChunk { kind: STATE, record_count: records.len() as u32, body }];
        let file = RawFile { version: 1, root: B256::ZERO, blocks: vec![], chunks, totals: [0, accounts, slots] };
        // What the naive reader makes of it, if it can.
        let naive = std::panic::catch_unwind(|| file.content()).ok();
        let file = RawFile { root: naive.as_ref().map(Content::root).unwrap_or_default(), ..file };
        match (verify(&file.write()), naive) {
            (Ok(tally), Some(content)) => {
                prop_assert_eq!((content.accounts.len() as u64, content.slots.len() as u64), (tally.accounts, tally.slots));
            }
            (Ok(tally), None) => panic!("the naive reader refuses it: {tally:?}"),
            // The order of all keys was found right then.
            (Err(error), _) => prop_assert!(!error.to_string().contains("expected the state root"), "{}", error),
        }
    }
}
