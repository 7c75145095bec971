//! ssh-jit: an SSH certificate authority for just-in-time access.
#![forbid(unsafe_code)]

pub mod domain;
