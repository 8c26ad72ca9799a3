//! MetisDB on real filesystems that lose power, run full, or sit on a device that cannot be read.
//!
//! | module | what lives there |
//! |---|---|
//! | `volume` | a filesystem in a file, on a loop device: made, mounted, shut down |
//! | `history` | the commits of a history, and the state that they lead to |
//! | `child` | the process that commits and tells |
//! | `told` | what it told |
//! | `cut` | one power cut, and what must be found after it |
//!
//! ```text
//! cargo run --release -p metisdb-power -- --cuts 200
//! ```
//!
//! A shutdown of the filesystem drops what it has not written, the end of its journal too; the device below keeps each write that it was given. That writes reach a
//! device in any order, or in part, is for the simulated disk of `metisdb` to show.

#[cfg(not(target_os = "linux"))]
compile_error!("loop devices and the shutdown of a filesystem are Linux's");

pub mod child;
pub mod cut;
pub mod history;
pub mod told;
pub mod volume;

/// What goes wrong around the database, with what was attempted.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
