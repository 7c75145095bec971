//! The command line as people meet it: a module for each behaviour, with the arguments, standard output,
//! standard error and exit code of the real binary against a real service.

mod init;
mod login;
mod serve;
