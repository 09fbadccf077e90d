//! How the decisions of this crate reach real servers.

use crate::evidence::{Epoch, Evidence, MemberId};
use crate::failover::{Action, Failure};

/// A kind of database server: how to reach a copy, and how to steer it.
///
/// Copies are named by their place in the list that everybody shares; the engine knows their addresses.
/// All methods may be called at the same time for any copies. The shells of this crate put a deadline on
/// each call and drop its future when that is over.
pub trait Engine: Send + Sync + 'static {
    /// One connection to one copy.
    type Connection: Send + 'static;
    /// Why there is no connection.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Connects to a copy for work.
    ///
    /// # Errors
    /// When the copy cannot be reached.
    ///
    /// # Cancel safety
    /// A dropped future leaves no connection behind.
    fn connect(
        &self,
        member: MemberId,
    ) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Carries out an order and answers with the copy's evidence as of after it.
    ///
    /// Implementors keep this true: a promise ([`Action::Fence`]) is durable before the answer, lower
    /// epochs are refused from then on, and a refused order changes nothing. A refusal is not an error:
    /// the evidence shows it.
    ///
    /// # Errors
    /// [`Failure::Refused`] only when the order was certainly not carried out; [`Failure::Lost`] when
    /// that is not known.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the order was carried out.
    fn perform(&self, action: &Action) -> impl Future<Output = Result<Evidence, Failure>> + Send;

    /// Whether a connection that lay idle may be used again, as far as can be told without asking.
    /// Defaults to `true`.
    fn usable(&self, connection: &Self::Connection) -> bool {
        let _ = connection;
        true
    }

    /// Asks over the connection itself whether its copy still is the primary of `epoch`. The pool asks
    /// each time before it gives the connection to a writer. Defaults to `true` without asking: right
    /// for servers that check the epoch with every write by themselves.
    ///
    /// # Errors
    /// When there is no answer.
    ///
    /// # Cancel safety
    /// The connection is not used any more after a dropped future.
    fn may_write(
        &self,
        connection: &mut Self::Connection,
        epoch: Epoch,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send {
        let _ = (connection, epoch);
        std::future::ready(Ok(true))
    }
}
