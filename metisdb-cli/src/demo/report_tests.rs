use super::*;
use metisdb_execution::tokens::Size;

use crate::demo::{
    blocks::{Length, Timing},
    histogram::Histogram,
    reads,
};

/// Figures of a large and slow run, and a check that held or did not.
fn figures(held: bool) -> Figures {
    let mut checks = Checks::default();
    for number in 0..9 {
        let more = if number % 3 == 0 { "and a bit of another" } else { "" };
        checks.note("good", Ok(format!("something that holds, and takes a line as long as they may be {more}")));
    }
    checks.note("last", if held { Ok("this, too".to_owned()) } else { Err("this does not".to_owned()) });
    let size = Size::of_slots(100_000_000);
    let length = Length { blocks: 3, transactions_per_block: 1_000_000 };
    let histogram = Histogram::new(vec![200, 999_900, 999_900_000]);
    Figures {
        seconds: 9_999.0,
        seed: 1,
        parts: Parts::default(),
        kept: None,
        checks,
        load: Load { size, seconds: 99.0, slots_per_second: 1_000_000 },
        timing: Timing::new(length, 30_000_000_000, &[[999_900_000, 999_900, 999_900, 999_900, 999_900]; 3]),
        reads: Reads {
            count: 3,
            per_second: 100_000_000,
            per_second_in_batches: 100_000_000,
            percentiles: histogram.percentiles(),
            clock_ns: 100,
            picture: histogram.draw(&reads::LIMITS),
        },
        disk: Disk {
            log_bytes: 9_999 << 40,
            trie_bytes: 9_999 << 40,
            index_bytes: 9_999 << 40,
            keys: 100_000_000,
            open_ns: 999_900_000,
        },
        kills: Kills::default(),
    }
}

#[test]
fn the_screen_fits() {
    let screen = figures(true).screen();
    assert!(screen.lines().count() <= 40, "{screen}");
    for line in screen.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

#[test]
fn one_check_that_fails_is_not_overlooked() {
    assert_eq!(figures(true).answer().code, 0);
    let figures = figures(false);
    let answer = figures.answer();
    assert_eq!(answer.code, 3);
    assert_eq!(answer.json["sound"], false);
    assert_eq!(answer.json["checks"][9]["held"], false);
    assert!(figures.screen().contains("  \u{2717} FAILED: this does not\n"));
}

#[test]
fn long_checks_are_wrapped() {
    let check = Check { name: "long", held: false, told: format!("{} {} end", "a".repeat(60), "b".repeat(70)) };
    let lines = told(&check);
    assert_eq!(lines[0], format!("  \u{2717} FAILED: {}", "a".repeat(60)));
    assert_eq!(lines[1], format!("    {} end", "b".repeat(70)));
}
