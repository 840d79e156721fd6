//! One download of a file at a time, among all processes: the lock files that Python's huggingface_hub takes too.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::HubError;

/// How often a lock that another process has is asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// Held until it is dropped. The system takes it back from a process that ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Waits for the lock at `path`, whose folder is made; `waiting` is called once if another process has it.
    ///
    /// A file system that has no locks is no error: what comes is checked, and moved to its place whole.
    pub fn take(path: &Path, waiting: &mut dyn FnMut()) -> Result<Lock, HubError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(HubError::io(folder, "make the folder"))?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(HubError::io(path, "open the lock"))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: Some(file) }),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        waiting();
                        told = true;
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(path = %path.display(), %error, "this file system has no locks");
                    return Ok(Lock { _file: None });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_second_taker_waits_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/a.lock");
        let first = Lock::take(&path, &mut || panic!("nobody has it")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let mut waited = 0;
                let _lock = Lock::take(&path, &mut || waited += 1).unwrap();
                assert!(done.load(Ordering::SeqCst), "the lock was held");
                waited
            });
            std::thread::sleep(PAUSE * 3);
            done.store(true, Ordering::SeqCst);
            drop(first);
            assert_eq!(second.join().unwrap(), 1);
        });
    }
}
