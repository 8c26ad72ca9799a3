//! Closing or dropping a database, losing or damaging what is derived, and opening it again.

use super::Machine;
use crate::{
    CheckLevel,
    storage::Storage,
    superblock,
    trie::arena::{self, pages::PAGE_BYTES},
};

impl Machine {
    /// Lets go of all handles, some deferred roots not waited for.
    pub(super) fn shut(&mut self, clean: bool) {
        self.held.clear();
        self.proposals.clear();
        self.deferred.clear();
        let db = self.db.take().unwrap();
        let stats = db.stats();
        self.counts.reused_pages += stats.arena_reused_pages;
        self.counts.reused_beside_holds += stats.arena_pages_reused_beside_holds;
        if clean {
            db.close().unwrap()
        } else {
            drop(db)
        }
        self.counts.reopened += 1;
    }

    fn open(&mut self, rebuild: bool) {
        self.db = Some(self.options.clone().rebuild(rebuild).open_on(self.disk.clone()).unwrap());
    }

    pub(super) fn reopen(&mut self) {
        let clean = self.random.one_in(2);
        match self.random.below(9) {
            0..=2 => {
                self.shut(clean);
                self.open(false);
            }
            3 => {
                self.shut(clean);
                self.open(true);
            }
            4 => {
                self.shut(clean);
                self.lose("index.");
                self.open(false);
            }
            5 => {
                self.shut(clean);
                self.lose("arena.");
                self.open(false);
                self.mend();
            }
            6 | 7 => {
                self.db().checkpoint().unwrap();
                let file = self.arena_byte();
                self.shut(false);
                if let Some((extent, offset)) = file {
                    self.disk.damage(&arena::file_name(extent), offset, 1 << self.random.below(8));
                }
                self.open(false);
                self.mend();
            }
            _ => {
                let generation = self.db().store.checkpoint.lock().newest.generation;
                self.shut(false);
                // The thread may have taken another checkpoint meanwhile: then this is the older one.
                self.disk.damage(&superblock::file_name(generation), self.random.below(256), 1 << self.random.below(8));
                self.open(false);
            }
        }
        self.check_retained();
    }

    /// Loses one file with this beginning, or damages it.
    fn lose(&mut self, beginning: &str) {
        let mut files = self.disk.list().unwrap();
        files.retain(|name| name.starts_with(beginning));
        if files.is_empty() {
            return;
        }
        let file = &files[self.random.below(files.len() as u64) as usize];
        let length = self.disk.file_bytes(file).unwrap().len() as u64;
        match self.random.below(4) {
            0 => self.disk.remove_file(file),
            1 => self.disk.truncate_file(file, self.random.below(length)),
            2 => self.disk.damage(file, self.random.below(length), 1 << self.random.below(8)),
            _ => {
                for offset in (self.random.below(64)..length).step_by(64) {
                    self.disk.damage(file, offset, 1 << self.random.below(8));
                }
            }
        }
    }

    /// Extent and offset of some byte in a page that the newest trie uses.
    fn arena_byte(&mut self) -> Option<(u64, u64)> {
        let mut used = Vec::new();
        for (number, pages) in &self.db().store.tries.arena.pages.lock().extents {
            let live = pages.iter().enumerate().filter(|(_, page)| page.live_bytes > 0);
            used.extend(live.map(|(index, page)| (*number, index as u64 * PAGE_BYTES, u64::from(page.live_bytes))));
        }
        let index = self.random.below(used.len().max(1) as u64) as usize;
        let (number, start, live) = *used.get(index)?;
        Some((number, start + self.random.below(live)))
    }

    /// Damage of the arena that opening did not meet is found before it is believed, and a rebuild mends it.
    fn mend(&mut self) {
        match self.db().check(CheckLevel::Full) {
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                let newest = self.states.last().unwrap();
                let snapshot = self.db().snapshot().unwrap();
                for address in &self.shape.addresses {
                    match snapshot.storage_root(address) {
                        Ok(root) => assert_eq!(root, newest.roots(self.shape.plain).storage(address)),
                        Err(error) => assert!(error.is_corruption(), "{error}"),
                    }
                }
                drop(snapshot);
                self.shut(false);
                self.open(true);
                self.counts.rebuilt += 1;
            }
        }
        // The older superblock, too, is to lead to a sound arena.
        for _ in 0..2 {
            self.commit();
            self.db().checkpoint().unwrap();
        }
    }
}
