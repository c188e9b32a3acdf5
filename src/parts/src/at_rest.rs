//! A look at a set that nobody has open, without changing anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use trefoil_runtime::{ReadOnlyVfs, SharedVfs};

use crate::PartsError;
use crate::catalog::{CatalogState, LocalCatalog};
use crate::twin::{CATALOG, Twin};

/// Reads the state of the set in a directory; the empty one when there is none. Errors as opening it does.
pub fn read_state(vfs: &SharedVfs, dir: &Path) -> Result<CatalogState, PartsError> {
    let view = ReadOnlyVfs::shared(Arc::clone(vfs), None);
    let failed = |source| PartsError::Io { action: "open", path: dir.join(CATALOG), source };
    LocalCatalog::read(&Twin::open(view, dir, "at_rest").map_err(failed)?)
}

/// Returns the URLs of the object stores that parts of the set in a directory lie in, sorted.
pub fn places(vfs: &SharedVfs, dir: &Path) -> Result<Vec<String>, PartsError> {
    let state = read_state(vfs, dir)?;
    let places: BTreeSet<&str> = state.parts.values().filter_map(|meta| Some(meta.place()?.0)).collect();
    Ok(places.into_iter().map(str::to_owned).collect())
}
