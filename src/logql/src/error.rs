//! Why a LogQL query fails.

use trefoil_model::{BudgetError, StoreError};

/// A failed query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no valid query.
    #[error("parse error at line {line}, col {col}: {message}")]
    Parse {
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        col: u32,
        /// What is wrong.
        message: String,
    },
    /// The query is valid, but not here or not with these parameters.
    #[error("{0}")]
    Query(String),
    /// A sample of a metric query carries `__error__`.
    #[error(
        "pipeline error: '{error}' for series: '{series}'. \
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\"). \
         To skip all potential errors you can match empty errors.(e.g __error__=\"\") \
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )"
    )]
    Pipeline {
        /// Value of `__error__`.
        error: String,
        /// Labels of the line.
        series: String,
    },
    /// More bytes of lines were read than a query may; the number is that limit.
    #[error("the query would read more than {0} bytes of lines: narrow the selector or the time range")]
    Scan(u64),
    /// Series cannot be combined as the operator asks.
    #[error("{0}")]
    Execution(String),
    /// Reading failed or a budget is used up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The HTTP status that Loki answers with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Parse { .. } | Self::Query(_) | Self::Pipeline { .. } | Self::Scan(_) => 400,
            Self::Execution(_) => 500,
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
