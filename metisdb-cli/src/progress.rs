//! How far long work is, on the standard error output, and only where that is a terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::output;

/// How often the line is drawn anew.
const PERIOD: Duration = Duration::from_millis(100);
/// Work that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
const BAR_WIDTH: u64 = 24;

/// Takes the line away. Nobody is left to tell where the standard error output is closed; so in all that is drawn here.
fn clear() {
    let _ = write!(io::stderr(), "\r\x1b[K");
}

/// A bar for work whose length is known.
#[derive(Debug)]
pub(crate) struct Bar {
    label: &'static str,
    total: u64,
    begun: Instant,
    /// `None` where there is no terminal.
    next_draw: Option<Instant>,
    is_drawn: bool,
}

impl Bar {
    /// Work of `total` units. Where there are none, it is not known how many.
    pub(crate) fn new(label: &'static str, total: u64) -> Self {
        let begun = Instant::now();
        let next_draw = io::stderr().is_terminal().then(|| begun + PERIOD);
        Self { label, total, begun, next_draw, is_drawn: false }
    }

    /// So much is done. Cheap: draws ten times a second at most.
    pub(crate) fn advance(&mut self, done: u64, detail: impl Display) {
        let Some(next_draw) = self.next_draw else { return };
        let now = Instant::now();
        if now < next_draw {
            return;
        }
        self.next_draw = Some(now + PERIOD);
        self.is_drawn = true;
        let line = draw(self.label, done, self.total, self.begun.elapsed());
        let _ = write!(io::stderr(), "\r{line}  {detail}\x1b[K");
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_drawn {
            clear();
        }
    }
}

fn draw(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let time = output::clock(elapsed);
    if total == 0 {
        return format!("{label}  {time}");
    }
    let done = done.min(total);
    let part = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total)) as usize;
    let (filled, percent) = (part(BAR_WIDTH), part(100));
    let (bar, rest) = ("#".repeat(filled), ".".repeat(BAR_WIDTH as usize - filled));
    format!("{label} [{bar}{rest}] {percent:>3} %  {time}")
}

/// A line with a clock, for work that does not say how far it is.
#[derive(Debug)]
pub(crate) struct Clock(Option<(Sender<()>, JoinHandle<()>)>);

impl Clock {
    /// Shows what is done, until it is dropped.
    pub(crate) fn start(label: impl Display) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let (label, begun) = (label.to_string(), Instant::now());
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut wait = PATIENCE;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = PERIOD;
                let _ = write!(io::stderr(), "\r{}\x1b[K", draw(&label, 0, 0, begun.elapsed()));
            }
            if wait == PERIOD {
                clear();
            }
        });
        Self(Some((stop, thread)))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // It holds nothing that a panic could leave half done.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows() {
        let elapsed = Duration::from_millis(61_900);
        assert_eq!(draw("imports", 0, 10, elapsed), "imports [........................]   0 %  1:01");
        assert_eq!(draw("imports", 5, 10, elapsed), "imports [############............]  50 %  1:01");
        assert_eq!(draw("imports", 11, 10, elapsed), "imports [########################] 100 %  1:01");
        assert_eq!(draw("imports", 7, 0, elapsed), "imports  1:01");
    }
}
