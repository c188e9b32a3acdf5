//! A look at a set that nobody has open, without changing anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use trefoil_runtime::SharedVfs;

use crate::PartsError;
use crate::blob_store::LocalFolder;
use crate::catalog::{CatalogState, LocalCatalog};

/// Reads the state of the set in a directory; the empty one when there is none. Errors as opening it does.
pub fn read_state(vfs: &SharedVfs, dir: &Path) -> Result<CatalogState, PartsError> {
    let catalog = dir.join("catalog");
    if !vfs.exists(&catalog) {
        return Ok(CatalogState::default());
    }
    LocalCatalog::read(&LocalFolder::at_rest(Arc::clone(vfs), catalog))
}

/// Returns the URLs of the object stores that parts of the set in a directory lie in, sorted.
pub fn places(vfs: &SharedVfs, dir: &Path) -> Result<Vec<String>, PartsError> {
    let state = read_state(vfs, dir)?;
    let places: BTreeSet<&str> = state.parts.values().filter_map(|meta| Some(meta.place()?.0)).collect();
    Ok(places.into_iter().map(str::to_owned).collect())
}
