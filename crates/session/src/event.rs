//! What an operator wants to know, through `tracing` (feature `tracing`). Ids appear as keyed hashes alone.

#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($what:tt)*) => {
        tracing::$level!(target: "stackbeam_session", $($what)*)
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($what:tt)*) => {};
}

pub(crate) use event;
