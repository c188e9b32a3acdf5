//! Why a TraceQL query fails.

use trefoil_model::{BudgetError, StoreError};
use trefoil_promql::algebra::AlgebraError;

use crate::ast::Position;

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The text is no query.
    Parse,
    /// It is well-formed, but the types do not fit.
    Validate,
    /// It is syntax that is reserved.
    Unsupported,
}

impl Phase {
    /// The word that case files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Validate => "validate",
            Self::Unsupported => "unsupported",
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Parse => "parse error",
            Self::Validate => "invalid query",
            Self::Unsupported => "not supported",
        }
    }
}

/// A failed query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is refused.
    #[error("{} at line {}, col {}: {message}", phase.article(), position.line, position.col)]
    Refused {
        /// What kind of refusal.
        phase: Phase,
        /// Where.
        position: Position,
        /// What is wrong.
        message: String,
    },
    /// The query is valid, but not with these parameters or this data.
    #[error("{0}")]
    Query(String),
    /// Series cannot be combined as the operator asks.
    #[error("{0}")]
    Execution(String),
    /// Reading failed or a budget is used up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused { .. } | Self::Query(_) | Self::Execution(_) => 400,
            Self::Store(StoreError::Budget(BudgetError::Timeout(_))) => 504,
            Self::Store(StoreError::Budget(BudgetError::Canceled)) => 499,
            Self::Store(StoreError::Budget(_)) => 400,
            Self::Store(_) => 500,
        }
    }
}

impl From<BudgetError> for Error {
    fn from(error: BudgetError) -> Self {
        Self::Store(StoreError::Budget(error))
    }
}

impl From<AlgebraError> for Error {
    fn from(error: AlgebraError) -> Self {
        match error {
            AlgebraError::Budget(e) => e.into(),
            AlgebraError::Execution(message) => Self::Execution(message),
        }
    }
}

pub(crate) fn refuse<T>(phase: Phase, position: Position, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused { phase, position, message: message.into() })
}
