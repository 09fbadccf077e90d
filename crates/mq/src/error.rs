//! One error enum for each family of operations.

use std::io;

use crate::message::Message;

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another handle in this one) holds the directory.
    #[error(
        "the queue is open elsewhere; only one process may own its files (share it with the `server` feature)"
    )]
    Locked,
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation and the file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were once durable are damaged. Nothing was changed on disk.
    #[error(
        "{file} is damaged at byte {offset}: {what}; open with `Options::salvage(true)` to skip what is lost"
    )]
    Damaged {
        /// File name in the queue's directory.
        file: String,
        /// Byte offset of the first damaged frame.
        offset: u64,
        /// What did not fit.
        what: String,
    },
    /// The files were written by another version of this crate. Nothing was changed on disk.
    #[error("{file} has format version {version}; this build reads version {known}")]
    Version {
        /// File name in the queue's directory.
        file: String,
        /// Version found.
        version: u16,
        /// The version that this build reads.
        known: u16,
    },
    /// A setting makes no sense.
    #[error("bad option: {0}")]
    Option(&'static str),
}

/// Why a topic or group could not be opened or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty or longer than 255 bytes.
    #[error("a name has 1 to 255 bytes, this one has {0}")]
    Name(usize),
    /// There are already as many as the options allow.
    #[error("the queue already has {0} topics or groups, its bound")]
    TooMany(usize),
    /// The disk refused; the outcome is unknown and asking again is safe.
    #[error("the disk refused to commit: {0}")]
    Disk(String),
    /// The engine cannot do what the options ask for. Nothing was made.
    #[error("the engine cannot do this: {0}")]
    Unsupported(&'static str),
    /// A broker cannot be reached, or refused; asking again is safe.
    #[error("the broker cannot be reached or refused: {0}")]
    Broker(String),
    /// The queue is closed, or its server cannot be reached.
    #[error("the queue is closed or out of reach")]
    Closed,
}

/// Why a publish was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is at its bound and its policy is to refuse. Nothing was stored; here are the messages.
    #[error("the topic is full ({waiting} messages wait)")]
    Full {
        /// The messages, untouched.
        messages: Vec<Message>,
        /// Messages that wait in the slowest group.
        waiting: u64,
    },
    /// A message (or the whole batch) is larger than the bound. Nothing was stored.
    #[error("{size} bytes are more than the bound of {max}")]
    TooLarge {
        /// The messages, untouched.
        messages: Vec<Message>,
        /// Encoded size in bytes.
        size: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The engine cannot do what a message asks for. Nothing was stored.
    #[error("the engine cannot do this: {what}")]
    Unsupported {
        /// The messages, untouched.
        messages: Vec<Message>,
        /// What it cannot do.
        what: &'static str,
    },
    /// The disk or the broker refused, or the connection was lost. The message may or may not be stored;
    /// publishing again with the same dedup id stores it once.
    #[error("the commit was refused or lost, the outcome is unknown: {0}")]
    Unknown(String),
    /// The queue is closed, or its server could not be reached in time. Over a connection the outcome
    /// is unknown; publishing again with the same dedup id stores it once.
    #[error("the queue is closed or out of reach")]
    Closed,
}

/// Why no delivery could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The bytes of a message are damaged on disk. It stays leased until its lease ends; then it is
    /// tried again, and after the maximum of deliveries it counts as dead.
    #[error("message {id} cannot be read from {file} at byte {offset}: {what}")]
    Damaged {
        /// The message.
        id: u64,
        /// File name in the queue's directory.
        file: String,
        /// Byte offset of its frame.
        offset: u64,
        /// What the read or the checksum said.
        what: String,
    },
    /// The disk refused to log the attempt; nothing was delivered.
    #[error("the disk refused to log the attempt: {0}")]
    Disk(String),
    /// A broker cannot be reached, or refused. Asking again connects again; what was on its way comes back
    /// when its lease ends.
    #[error("the broker cannot be reached or refused: {0}")]
    Broker(String),
    /// The group was removed (for example an ephemeral group that sat idle).
    #[error("the group no longer exists")]
    NoGroup,
    /// The queue is closed, or its server cannot be reached.
    #[error("the queue is closed or out of reach")]
    Closed,
}

/// Why a delivery could not be settled or extended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The lease had ended: the message was or will be delivered again, this outcome was not recorded.
    #[error("the lease has ended; the message was or will be delivered again")]
    LeaseLost,
    /// The disk or the broker refused, or the connection was lost; the outcome is unknown.
    #[error("the commit was refused or lost, the outcome is unknown: {0}")]
    Unknown(String),
    /// The engine has no such operation. Of an outcome: the message was given back as a failed attempt.
    #[error("the engine cannot do this: {0}")]
    Unsupported(&'static str),
    /// The queue is closed, or its server cannot be reached.
    #[error("the queue is closed or out of reach")]
    Closed,
}
