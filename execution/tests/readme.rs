//! The README's second example is `examples/transact.rs`, and it runs.

#[path = "../examples/transact.rs"]
mod transact;

#[test]
fn the_readme_shows_the_example() {
    let example = include_str!("../examples/transact.rs");
    let (_documentation, code) = example.split_once("\n\n").expect("documentation, then code");
    let fenced = format!("```rust,ignore\n{}```\n", code.replace("pub(crate) fn main", "fn main"));
    assert!(include_str!("../../README.md").contains(&fenced), "bring the example into README.md");
}

#[test]
fn the_example_runs() {
    transact::main().unwrap();
}
