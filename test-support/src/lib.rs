//! Starts real servers for tests and ends them without orphans.
