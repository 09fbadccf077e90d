//! The application: a blog with photos, by the RealWorld "Conduit" API. No sockets, clocks or chance
//! in here; time and ids arrive inside the commands.

pub(crate) mod id;
pub(crate) mod input;
pub(crate) mod slug;
pub(crate) mod store;
pub(crate) mod time;
