//! A mutex that goes on after a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value that threads share; a panic of one of them leaves it as it was.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Makes it.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Gives access.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
