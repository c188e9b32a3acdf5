//! Tests of the whole crate.
mod cases;
mod differential;
mod hostile;
mod stored;
mod telling;
