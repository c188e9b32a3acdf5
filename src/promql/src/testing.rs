//! Runs test scripts of the reference's `.test` format over an engine and series held in memory.
//!
//! Map: [`script`] (text to commands), [`notation`] (series and values), [`store`] (the series in memory),
//! [`run`] (commands to a report), [`compare`] (expected against actual).

mod compare;
pub mod notation;
pub mod run;
pub mod script;
pub mod store;

pub use run::{Failure, Report, run};
pub use script::ScriptError;
pub use store::MemoryReader;
