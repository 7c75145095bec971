//! The `ssh-jit` command.
#![forbid(unsafe_code)]

fn main() {}
