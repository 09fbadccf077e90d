//! The log: segments of frames on a [`Storage`](crate::Storage), written by one committer.

pub(crate) mod codec;
pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod settings;
pub(crate) mod writer;
