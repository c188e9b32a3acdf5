//! A log reader over records in memory that uses hints to the full, so that a wrong one shows as a wrong result.
