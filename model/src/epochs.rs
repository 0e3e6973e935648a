//! Leader epoch cache.
