//! The program. All of it is in the library, where fuzzers reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    metisdb_cli::main()
}
