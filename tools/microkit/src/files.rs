// SPDX-License-Identifier: BSD-2-Clause
//! Files that a system description names: looked for in the search paths in order, then beside the
//! system description.

use crate::error::Error;
use crate::sdf::Place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file and its bytes.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it was found.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// Search paths and the files read so far.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    read: BTreeMap<PathBuf, Arc<Vec<u8>>>,
}

/// Reads a file.
///
/// # Errors
/// [`Error::Read`] with its path.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })
}

impl Files {
    /// Search paths in order.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Files {
            paths,
            read: BTreeMap::new(),
        }
    }

    /// Paths of all files that were read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.read.keys().map(PathBuf::as_path)
    }

    /// Finds and reads a file; `what` names its role in messages, `place` where it is asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Read`].
    pub fn find(&mut self, place: &Place, what: &str, name: &str) -> Result<File, Error> {
        let path = self
            .paths
            .iter()
            .map(|p| p.join(name))
            .find(|p| p.is_file());
        let Some(path) = path else {
            let searched: Vec<_> = self.paths.iter().map(|p| p.display().to_string()).collect();
            let searched = searched.join(", ");
            return Err(Error::NotFound {
                place: place.clone(),
                what: what.into(),
                name: name.into(),
                searched,
            });
        };
        if let Some(bytes) = self.read.get(&path) {
            return Ok(File {
                path,
                bytes: bytes.clone(),
            });
        }
        let bytes = Arc::new(read(&path)?);
        self.read.insert(path.clone(), bytes.clone());
        Ok(File { path, bytes })
    }
}
