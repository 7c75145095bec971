//! What a verb answers when it does not do what it was asked.

use crate::domain::refusal::Refusal;
use crate::store::StoreError;
use crate::store::journal::JournalError;
use crate::store::statements::SpendError;

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The caller did not show who they are, or no longer may.
    #[error("sign in first: the bearer is unknown or has ended")]
    Unauthenticated,
    /// The store failed. Nothing was done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal failed, so no glass is broken.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The service is not set up as it must be.
    #[error("{0}")]
    Setup(String),
}

impl From<SpendError> for Error {
    fn from(error: SpendError) -> Self {
        match error {
            SpendError::Refused(refusal) => Self::Refused(refusal),
            SpendError::Store(error) => Self::Store(error),
        }
    }
}
