use super::{disk, small, wide};
use crate::{
    Account, Changes, CheckLevel, Db, Durability,
    storage::{SimulatedDisk, Storage},
};
use alloy_primitives::{Address, Bytes, U256, keccak256};
use std::{io::ErrorKind, sync::Arc, time::Duration};

fn addr(n: u8) -> Address {
    Address::repeat_byte(n)
}
fn acct(nonce: u64) -> Account {
    Account { nonce, ..Account::default() }
}
fn set(n: u8, nonce: u64) -> Changes {
    let mut c = Changes::new();
    c.set_account(addr(n), acct(nonce));
    c
}
fn bulk(n: u8, bytes: usize) -> Changes {
    let code: Bytes = vec![n; bytes].into();
    let mut c = Changes::new();
    c.set_code(keccak256(&code), code);
    c
}
fn churn(c: &mut Changes, round: u64) {
    c.set_account(addr(0x77), acct(round));
    for slot in 0..350u64 {
        c.set_storage(addr(0x77), U256::from(slot), wide(round * 1000 + slot));
    }
}

#[test]
fn t01_poison_race_reuses_version() {
    let disk = disk(1);
    let db = Arc::new(small().create_on(disk.clone()).unwrap());
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    let guard = db.store.writer.lock();
    let (a, b) = (db.clone(), db.clone());
    let ta = std::thread::spawn(move || a.commit(&set(2, 2), Durability::Durable).map(|c| c.version()));
    std::thread::sleep(Duration::from_millis(200));
    let tb = std::thread::spawn(move || b.commit(&set(3, 3), Durability::Pipelined).map(|c| c.version()));
    std::thread::sleep(Duration::from_millis(200));
    disk.fail_operation(disk.operations() + 1, ErrorKind::Other);
    drop(guard);
    let (ra, rb) = (ta.join().unwrap(), tb.join().unwrap());
    println!("A {ra:?} B {rb:?} head {}", db.stats().version);
    println!("before reopening: acct2 {:?}", db.snapshot().unwrap().account(&addr(2)).unwrap());
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    let s = db.snapshot().unwrap();
    println!(
        "reopened: version {} acct2 {:?} acct3 {:?}",
        s.version(),
        s.account(&addr(2)).unwrap(),
        s.account(&addr(3)).unwrap()
    );
    assert!(rb.is_err(), "B went through on a poisoned log with A's version");
}

#[test]
fn t02_mark_sync_fails_at_close() {
    let disk = disk(2);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    disk.fail_operation(disk.operations() + 1, ErrorKind::Other);
    println!("close: {:?}", db.close().map_err(|e| e.to_string()));
    // a recovery in the same boot
    let db = small().open_on(disk.clone()).unwrap();
    let v = db.commit(&set(2, 2), Durability::Durable).unwrap().version();
    drop(db);
    let left = Arc::new(disk.after_power_loss(0));
    match small().open_on(left) {
        Ok(db) => assert!(db.stats().version >= v, "lost"),
        Err(e) => panic!("acknowledged data not readable: {e}"),
    }
}

#[test]
fn t02b_mark_sync_fails_at_close_after_unclean() {
    // the log was clean (mark durable), new session writes nothing but close... variant: mark follows a mark
    let disk = disk(22);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    db.close().unwrap();
    let db = small().open_on(disk.clone()).unwrap();
    db.commit(&set(1, 2), Durability::Durable).unwrap();
    // power cut now -> recovery rewrites, appends a mark whose sync fails
    let left = Arc::new(disk.after_power_loss(0));
    drop(db);
    let ops = Arc::new(left.after_power_loss(0));
    drop(small().open_on(ops.clone()).unwrap());
    let total = ops.operations();
    left.fail_operation(total - 1, ErrorKind::Other);
    println!("open: {:?}", small().open_on(left.clone()).map(|_| ()).map_err(|e| e.to_string()));
    let db = small().open_on(left.clone()).unwrap();
    let v = db.commit(&set(2, 2), Durability::Durable).unwrap().version();
    drop(db);
    match small().open_on(Arc::new(left.after_power_loss(0))) {
        Ok(db) => assert!(db.stats().version >= v, "lost"),
        Err(e) => panic!("acknowledged data not readable: {e}"),
    }
}

#[test]
fn t03_killed_in_a_roll_then_power_loss() {
    let disk = disk(3);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&bulk(1, 50_000), Durability::Durable).unwrap();
    let n = disk.operations();
    disk.fail_operation(n + 5, ErrorKind::Other); // directory sync of the roll
    println!("commit: {:?}", db.commit(&bulk(2, 50_000), Durability::Durable).map(|_| ()).map_err(|e| e.to_string()));
    println!("{:?}", disk.list());
    drop(db);
    let db = small().open_on(disk.clone()).unwrap();
    let v = db.commit(&set(9, 9), Durability::Durable).unwrap().version();
    drop(db);
    match small().open_on(Arc::new(disk.after_power_loss(0))) {
        Ok(db) => assert!(db.stats().version >= v, "acknowledged {v}, found {}", db.stats().version),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn t03b_killed_in_create_then_power_loss() {
    let probe = disk(33);
    drop(small().create_on(probe.clone()).unwrap());
    let total = probe.operations();
    for kill in 0..total {
        let disk = disk(33);
        for n in kill..total + 50 {
            disk.fail_operation(n, ErrorKind::Other);
        }
        drop(small().create_on(disk.clone()));
        // a new process: operations go on behind the failing range
        let mut db = None;
        for _ in 0..200 {
            if let Ok(d) = small().open_on(disk.clone()) {
                if d.commit(&set(1, 1), Durability::Durable).is_ok() {
                    db = Some(d);
                    break;
                }
            }
        }
        let Some(db) = db else {
            println!("kill {kill}: never opened");
            continue;
        };
        drop(db);
        match small().open_on(Arc::new(disk.after_power_loss(0))) {
            Ok(db) => assert!(db.stats().version >= 1, "kill {kill} lost"),
            Err(e) => panic!("kill {kill} of {total}: {e}"),
        }
    }
}

#[test]
fn t04_first_sector_of_last_segment_zeroed() {
    let disk = disk(4);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&bulk(1, 50_000), Durability::Durable).unwrap();
    for n in 2..6 {
        db.commit(&bulk(n, 10_000), Durability::Durable).unwrap();
    }
    let v = db.stats().version;
    drop(db);
    let left = Arc::new(disk.after_power_loss(0));
    let name = "segment.0000000002";
    let bytes = left.file_bytes(name).unwrap();
    for (i, b) in bytes[..512].iter().enumerate() {
        if *b != 0 {
            left.damage(name, i as u64, *b);
        }
    }
    match small().open_on(left.clone()) {
        Ok(db) => panic!("opened at version {} of {v}: {:?}", db.stats().version, left.list()),
        Err(e) => println!("{e}"),
    }
}

fn rebuild_case(check_only: bool) {
    let disk = disk(5);
    let o = || small().retain_versions(0);
    let db = o().create_on(disk.clone()).unwrap();
    let x = addr(1);
    let k = U256::from(5);
    for round in 1..30u64 {
        let mut c = Changes::new();
        if round == 1 {
            c.set_account(x, acct(1));
            c.set_account(addr(2), acct(1));
            c.set_storage(x, k, U256::from(1));
        }
        if round == 5 {
            c.set_storage(x, k, U256::from(2));
        }
        if round == 12 {
            c.set_storage(x, k, U256::ZERO);
        }
        churn(&mut c, round);
        db.commit(&c, Durability::Durable).unwrap();
    }
    db.checkpoint().unwrap();
    db.commit(&set(3, 3), Durability::Durable).unwrap();
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    println!("{:?} dropped {}", disk.list().unwrap(), db.stats().dropped_segments);
    assert!(!db.snapshot().unwrap().has_storage(&x).unwrap());
    let ledger = db.store.writer.lock().ledger.clone();
    db.close().unwrap();
    for n in disk.list().unwrap() {
        if n.starts_with("index.") {
            disk.remove_file(&n);
        }
    }
    let db = o().open_on(disk.clone()).unwrap();
    let rebuilt = db.store.writer.lock().ledger.clone();
    println!(
        "slots before {:?}\nslots rebuilt {:?}\nlive before {:?}\nlive rebuilt {:?}",
        ledger.slots, rebuilt.slots, ledger.live, rebuilt.live
    );
    if check_only {
        assert_eq!((ledger.slots, ledger.live), (rebuilt.slots, rebuilt.live));
        return;
    }
    db.commit(&set(1, 7), Durability::Durable).unwrap();
    assert!(!db.snapshot().unwrap().has_storage(&x).unwrap(), "has_storage is wrong");
}
#[test]
fn t05_rebuild_with_a_dropped_segment_in_between() {
    rebuild_case(true);
}
#[test]
fn t05b_rebuild_then_commit() {
    rebuild_case(false);
}

#[test]
fn t07_read_only_beside_a_busy_writer() {
    let disk = disk(7);
    let o = || small().segment_bytes(1 << 24);
    let db = Arc::new(o().create_on(disk.clone()).unwrap());
    for r in 0..60 {
        let mut c = Changes::new();
        churn(&mut c, r);
        db.commit(&c, Durability::Durable).unwrap();
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (w, s) = (db.clone(), stop.clone());
    let t = std::thread::spawn(move || {
        let mut n = 0;
        while !s.load(std::sync::atomic::Ordering::Relaxed) && n < 200_000 {
            n += 1;
            w.commit(&set(1, n), Durability::Durable).unwrap();
            std::thread::sleep(Duration::from_micros(300));
        }
        n
    });
    let mut failed = 0;
    let mut first = None;
    for _ in 0..20 {
        if let Err(e) = o().open_read_only_on(disk.clone()) {
            failed += 1;
            first.get_or_insert(e.to_string());
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    println!("{failed} of 20 failed after {} commits: {first:?}", t.join().unwrap());
    assert_eq!(failed, 0);
}

fn hostile_superblock(change: impl Fn(&mut crate::superblock::Superblock)) {
    let disk = disk(8);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    db.close().unwrap();
    let mut sb = crate::superblock::read(&*disk).unwrap().unwrap().newest;
    sb.generation += 2;
    change(&mut sb);
    disk.put_file(&crate::superblock::file_name(sb.generation), sb.encode());
    match small().open_on(disk.clone()) {
        Ok(db) => {
            println!("opened {}", db.stats().version);
            println!("{:?}", db.commit(&set(1, 2), Durability::Durable).map(|_| ()));
            println!("{:?}", db.close())
        }
        Err(e) => println!("{e}"),
    }
}
#[test]
fn t08a_segment_bytes_0() {
    hostile_superblock(|s| s.identity.segment_bytes = 0);
}
#[test]
fn t08b_sequence_max() {
    hostile_superblock(|s| s.checkpoint_sequence = u64::MAX);
}
#[test]
fn t08c_version_max() {
    hostile_superblock(|s| s.checkpoint_version = u64::MAX);
}
#[test]
fn t08d_position_in_slack() {
    hostile_superblock(|s| {
        s.checkpoint_position += 3;
    });
}
#[test]
fn t08e_row_end_small() {
    hostile_superblock(|s| {
        s.segments[0].end = 136;
    });
}
#[test]
fn t08f_generation_max() {
    hostile_superblock(|s| {
        s.generation = u64::MAX;
    });
}
#[test]
fn t08g_rows_unordered() {
    hostile_superblock(|s| {
        let r = s.segments[0];
        s.segments.push(r);
    });
}
#[test]
fn t08h_row_number_max() {
    hostile_superblock(|s| {
        s.segments[0].number = u64::MAX;
    });
}
fn hostile_header(change: impl Fn(&mut crate::log::segment::SegmentHeader)) {
    let disk = disk(8);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    drop(db);
    let name = "segment.0000000001";
    let mut bytes = disk.file_bytes(name).unwrap();
    let mut h = crate::log::segment::SegmentHeader::decode(bytes[..128].try_into().unwrap());
    change(&mut h);
    h.checksum = crate::log::crc32c(&h.encode()[..124]);
    bytes[..128].copy_from_slice(&h.encode());
    disk.put_file(name, bytes);
    match small().open_on(disk.clone()) {
        Ok(db) => println!("opened {}", db.stats().version),
        Err(e) => println!("{e}"),
    }
}
#[test]
fn t08i_start_absurd() {
    hostile_header(|h| h.start = 1 << 60);
}
#[test]
fn t08j_start_max() {
    hostile_header(|h| h.start = u64::MAX - 7);
}

#[test]
fn t09_empty_commits_then_rebuild() {
    let disk = disk(9);
    let o = || small().retain_versions(0);
    let db = o().create_on(disk.clone()).unwrap();
    // fill segment 1 to the brim with commits that change nothing
    let none = Changes::new();
    while !disk.list().unwrap().iter().any(|n| n == "segment.0000000002") {
        if db.store.writer.lock().tail.position + 64 > 1 << 16 {
            break;
        }
        db.commit(&none, Durability::Pipelined).unwrap();
    }
    let used: u64 =
        disk.list().unwrap().iter().map(|n| disk.open(n).unwrap().unwrap().allocated_bytes().unwrap()).sum();
    disk.set_capacity(Some(used + 8192));
    println!("{:?}", db.commit(&bulk(1, 24_000), Durability::Durable).map(|_| ()).map_err(|e| e.to_string()));
    disk.set_capacity(None);
    let v = db.stats().version;
    println!("version {v} {:?}", disk.list());
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    db.checkpoint().unwrap();
    println!("{:?}", disk.list());
    drop(db);
    for n in disk.list().unwrap() {
        if n.starts_with("index.") {
            disk.remove_file(&n);
        }
    }
    let db = o().open_on(disk).unwrap();
    assert_eq!(db.stats().version, v);
}

#[test]
fn t10_locked_after_close() {
    let disk = disk(10);
    let o = || small().checkpoint_log_bytes(1);
    drop(o().create_on(disk.clone()).unwrap());
    let (mut closed, mut dropped) = (0, 0);
    for n in 0..300u64 {
        let db = o().open_on(disk.clone()).unwrap();
        db.commit(&set(1, n), Durability::Pipelined).unwrap();
        if n % 2 == 0 {
            db.close().unwrap()
        } else {
            drop(db)
        }
        if o().open_on(disk.clone()).is_err() {
            if n % 2 == 0 { closed += 1 } else { dropped += 1 }
        }
        let mut tries = 0;
        while o().open_on(disk.clone()).is_err() {
            tries += 1;
            assert!(tries < 1000, "locked for good");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("Locked after close: {closed} of 150, after drop: {dropped} of 150");
    let failed = closed + dropped;
    assert_eq!(failed, 0);
}

#[test]
fn t11_a_frame_inside_code() {
    use crate::log::frame::{FrameBuilder, FrameKind, Link};
    let disk = disk(11);
    let db = small().create_on(disk.clone()).unwrap();
    db.commit(&set(1, 1), Durability::Durable).unwrap();
    let tail = db.store.writer.lock().tail.position;
    // frame header 64, record header 16, hash 32, length 4: code begins at +116; the next multiple of 8 is +120
    let at = tail + 64 + 16 + 36 + 4 + 1024 * 8;
    let link = Link {
        version: 9,
        sequence: 1 << 40,
        durable_upto: at,
        nonce: 0,
        previous_chain: 0,
        secret: 0,
        opens_session: false,
    };
    let (fake, _) = FrameBuilder::new(at, 64).finish(FrameKind::Mark, &link);
    let mut code = vec![0x5b; 20_000];
    code[4 + 1024 * 8..][..64].copy_from_slice(&fake);
    let code: Bytes = code.into();
    let mut c = Changes::new();
    c.set_code(keccak256(&code), code);
    db.commit(&c, Durability::Pipelined).unwrap();
    drop(db);
    // torn: one byte of the unsynced frame did not reach the disk
    let left = Arc::new(disk.after_power_loss(1));
    left.damage("segment.0000000001", tail + 64 + 16, 0xff);
    match small().open_on(left) {
        Ok(db) => assert_eq!(db.stats().version, 1),
        Err(e) => panic!("a torn tail is taken for corruption: {e}"),
    }
}

#[test]
fn t12_reads_after_reopen_sync_race() {
    // checkpoints beside commits that roll: the assertion A1 in sync_upto
    let disk = disk(12);
    let db = Arc::new(small().create_on(disk.clone()).unwrap());
    let d = db.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let s = stop.clone();
    let t = std::thread::spawn(move || {
        while !s.load(std::sync::atomic::Ordering::Relaxed) {
            d.store.log.sync_upto(d.store.log.appended_upto()).unwrap();
        }
    });
    for n in 0..1500u64 {
        let mut c = Changes::new();
        churn(&mut c, n);
        if db.commit(&c, Durability::Pipelined).is_err() {
            break;
        }
        if t.is_finished() {
            break;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    t.join().expect("sync thread panicked");
    let _ = db.check(CheckLevel::Quick);
    let _: Option<(Db, SimulatedDisk)> = None;
}

#[test]
fn t13_absent_address_with_the_id_of_another() {
    let disk = disk(13);
    let mut o = small();
    o.account_id_mask = 0;
    let db = o.create_on(disk).unwrap();
    let mut c = set(1, 1);
    c.set_storage(addr(1), U256::from(1), U256::from(42));
    db.commit(&c, Durability::Durable).unwrap();
    assert_eq!(db.snapshot().unwrap().storage(&addr(2), U256::from(1)).unwrap(), U256::ZERO);
}

#[test]
fn t14_each_step_of_a_checkpoint_fails() {
    let o = || small().retain_versions(0);
    let run = |fail: Option<u64>| -> Option<(Vec<String>, u64)> {
        let disk = disk(14);
        let db = o().create_on(disk.clone()).unwrap();
        for round in 1..8u64 {
            let mut c = Changes::new();
            churn(&mut c, round);
            db.commit(&c, Durability::Durable).unwrap();
        }
        db.checkpoint().unwrap();
        for round in 8..14u64 {
            let mut c = Changes::new();
            churn(&mut c, round);
            db.commit(&c, Durability::Durable).unwrap();
        }
        let n = disk.operations();
        if let Some(i) = fail {
            disk.fail_operation(n + i, ErrorKind::Other);
        }
        let r = db.checkpoint().map_err(|e| e.to_string());
        let ops = disk.operations() - n;
        if let Some(i) = fail {
            if i >= ops {
                return None;
            }
        }
        let mut db = db;
        if db.commit(&set(1, 1), Durability::Durable).is_err() {
            drop(db);
            db = o().open_on(disk.clone()).unwrap();
        }
        for k in 0..4 {
            db.commit(&set(1, k), Durability::Durable).unwrap();
            db.checkpoint().unwrap();
        }
        let mut files: Vec<String> = disk.list().unwrap();
        files.sort();
        db.check(CheckLevel::Full).unwrap();
        let v = db.stats().version;
        let left = Arc::new(disk.after_power_loss(0));
        drop(db);
        let again = o().open_on(left).unwrap();
        assert_eq!(again.stats().version, v);
        again.check(CheckLevel::Full).unwrap();
        println!("fail {fail:?}: {r:?} {files:?}");
        Some((files, ops))
    };
    let (want, ops) = run(None).unwrap();
    let mut bad = 0;
    for i in 0..ops {
        if let Some((files, _)) = run(Some(i)) {
            let f = |v: &Vec<String>| v.iter().filter(|n| n.starts_with("seg")).cloned().collect::<Vec<_>>();
            if f(&files) != f(&want) || files.len() != want.len() {
                bad += 1;
                println!("   LEAK");
            }
        }
    }
    assert_eq!(bad, 0);
}

#[test]
fn t18_books_after_a_fuzzy_image() {
    use super::{
        Random,
        model::{State, changes},
    };
    for seed in 0..25u64 {
        let disk = disk(100 + seed);
        let o = || small().retain_versions(3);
        let db = Arc::new(o().create_on(disk.clone()).unwrap());
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (d, s) = (db.clone(), stop.clone());
        let t = std::thread::spawn(move || {
            while !s.load(std::sync::atomic::Ordering::Relaxed) {
                d.checkpoint().unwrap();
            }
        });
        let mut random = Random(seed);
        let mut state = State::default();
        for n in 0..120 {
            let (next, steps) = if n % 4 == 0 { state.churn(&mut random) } else { state.next(&mut random, 3000) };
            db.commit(&changes(&steps), if n % 3 == 0 { Durability::Durable } else { Durability::Pipelined }).unwrap();
            state = next;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let left = Arc::new(disk.after_power_loss(1));
        t.join().unwrap();
        let mut a = db.store.writer.lock().ledger.clone();
        drop(db);
        let sb = crate::superblock::read(&*left).unwrap().unwrap().newest;
        let why = format!(
            "gen {} {:?} {:?} {:?}",
            sb.generation,
            sb.image,
            sb.image.map(|i| crate::image::read(&*left, &sb, i).map(|_| ())),
            left.list()
        );
        let again = o().open_on(left.clone()).unwrap();
        let from_image = again.store.checkpoint.lock().newest.image.is_some();
        let mut b = again.store.writer.lock().ledger.clone();
        state.assert_equals(&again.snapshot().unwrap());
        again.check(CheckLevel::Full).unwrap();
        for l in [&mut a, &mut b] {
            l.reclaimed_bytes = 0;
            l.live.retain(|_, v| *v != 0);
        }
        assert!(from_image, "{why}");
        assert_eq!(a.live, b.live, "seed {seed} live");
        assert_eq!(a.slots, b.slots, "seed {seed} slots");
        assert_eq!(a.wiped, b.wiped);
        assert_eq!(a.retired, b.retired, "seed {seed} retired");
    }
}

#[test]
fn t19_full_disk_and_dead_segments() {
    let disk = disk(19);
    let o = || small().retain_versions(0);
    let db = o().create_on(disk.clone()).unwrap();
    disk.set_capacity(Some(1 << 20));
    let mut round = 0;
    let e = loop {
        round += 1;
        let mut c = Changes::new();
        churn(&mut c, round);
        if let Err(e) = db.commit(&c, Durability::Durable) {
            break e;
        }
    };
    println!("after {round} rounds: {e}");
    let dead = {
        let w = db.store.writer.lock();
        w.ledger.live.values().filter(|v| **v == 0).count()
    };
    // small commits take what is left
    let mut k = 0;
    while db.commit(&set(1, k), Durability::Durable).is_ok() {
        k += 1;
    }
    println!(
        "{dead} dead segments; checkpoints: {:?} {:?}",
        db.checkpoint().map_err(|e| e.to_string()),
        db.checkpoint().map_err(|e| e.to_string())
    );
    let mut c = Changes::new();
    churn(&mut c, 99);
    println!("commit {:?}", db.commit(&c, Durability::Durable).map(|_| ()).map_err(|e| e.to_string()));
    assert!(db.stats().dropped_segments > 0, "a full disk cannot be freed");
}
