//! The command line, tried without a process.
