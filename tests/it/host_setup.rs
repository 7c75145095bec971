//! `ssh-jit host ...` on trees that stand for a host, with a real sshd on each.

mod certified;
mod check;
mod scan;
mod setup;
mod steps;
mod tree;
