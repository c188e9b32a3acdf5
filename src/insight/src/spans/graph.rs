//! The graph of services over a range of time, read back from the metrics store.
