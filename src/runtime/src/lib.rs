//! What the process stands on: time, files, tasks, limits and memory, each behind a seam that tests can replace.
//!
//! Reading order: [`clock`], [`vfs`] (with the simulated disk in [`vfs::sim`]), [`tasks`], [`limits`], [`memory`],
//! [`budget`] (deadline and budgets of a query), [`background`] (threads that give way), [`disk_space`], [`data_dir`] (lock and format of the data
//! directory), [`process`] (metrics of the process), [`start_progress`].
//!
//! Invariants: this crate knows `model` and nothing else of ours: no wire format, no store, no configuration. All
//! storage code reaches files only through [`vfs::Vfs`] and time only through [`clock::Clock`]. The accountants are
//! lock-free. The only `unsafe` block of the workspace is in `vfs/mmap.rs`.

pub mod background;
pub mod budget;
pub mod clock;
pub mod data_dir;
pub mod disk_space;
pub mod limits;
pub mod memory;
pub mod process;
pub mod start_progress;
pub mod tasks;
pub mod vfs;

pub use budget::{CancelGuard, QueryContext};
pub use clock::{BoxFuture, Clock, RealClock, SharedClock, SimClock};
pub use data_dir::{DataDirError, DataDirLock};
pub use disk_space::DiskGuard;
pub use limits::Limits;
pub use memory::{Accountant, OverBudget, Pool, Reservation};
pub use start_progress::{StartProgress, StartStage};
pub use tasks::{OnError, Phase, ShutdownReport, Stop, TaskError, TaskResult, Tasks};
pub use vfs::{DirEntry, ReadOnlyVfs, RealVfs, SharedVfs, Vfs, VfsFile, sim, write_atomic};
