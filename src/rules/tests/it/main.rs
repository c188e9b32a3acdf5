//! Rule files that nobody here wrote, and groups over a store in memory.

mod conformance;
mod groups;
