//! The `orlop` program.
fn main() {}
