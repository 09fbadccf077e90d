//! Takes messages ahead, so that one is at hand when a handler is free.
//!
//! Worth it where a take is a journey: over a connection or from a broker.

use std::num::NonZeroUsize;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::error::TakeError;
use crate::lease::Settle;
use crate::traits::{Consumer, Delivery};

/// A consumer that holds up to so many messages ahead of who asks.
///
/// Leases run while a message waits here. One whose lease has ended is not handed out: it comes again. So hold no more
/// than is handled well within a lease.
#[derive(Debug)]
pub struct Prefetch<D: Delivery> {
    ready: Mutex<mpsc::Receiver<Result<D, TakeError>>>,
    task: JoinHandle<()>,
}

impl<D: Delivery> Prefetch<D> {
    /// Starts to take ahead, up to `max` messages. Must be called on a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new<C: Consumer<Delivery = D> + 'static>(from: C, max: NonZeroUsize) -> Self {
        let (tell, ready) = mpsc::channel(max.get());
        let task = tokio::spawn(async move {
            while let Ok(room) = tell.reserve().await {
                // One place is ours; as many more as are free.
                let max = NonZeroUsize::MIN.saturating_add(tell.capacity());
                match from.receive(max).await {
                    Ok(deliveries) => {
                        let mut room = Some(room);
                        for delivery in deliveries {
                            match room.take() {
                                Some(room) => room.send(Ok(delivery)),
                                None => drop(tell.send(Ok(delivery)).await),
                            }
                        }
                    }
                    // The next look is made when somebody has heard of it.
                    Err(error) => {
                        let over = matches!(error, TakeError::NoGroup | TakeError::Closed);
                        room.send(Err(error));
                        if over {
                            return;
                        }
                        if tell.reserve_many(tell.max_capacity()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let ready = Mutex::new(ready);
        Self { ready, task }
    }
}

impl<D: Delivery> Consumer for Prefetch<D> {
    type Delivery = D;

    /// # Cancel safety
    /// Safe: what was not handed out stays here.
    async fn receive(&self, max: NonZeroUsize) -> Result<Vec<D>, TakeError> {
        let mut ready = self.ready.lock().await;
        loop {
            let mut got = Vec::new();
            match ready.recv().await {
                None => return Err(TakeError::Closed),
                Some(Err(error)) => return Err(error),
                Some(Ok(delivery)) => got.push(delivery),
            }
            while got.len() < max.get() {
                match ready.try_recv() {
                    Ok(Ok(delivery)) => got.push(delivery),
                    // An error is heard by the next who asks; it lasts or it is gone.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            got.retain(|d| !d.remaining().is_zero());
            if !got.is_empty() {
                return Ok(got);
            }
        }
    }
}

impl<D: Delivery> Drop for Prefetch<D> {
    /// Releases what nobody took, which uses up no attempt where the engine can do that.
    fn drop(&mut self) {
        self.task.abort();
        let ready = self.ready.get_mut();
        ready.close();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        while let Ok(Ok(delivery)) = ready.try_recv() {
            runtime.spawn(async move { drop(delivery.settle(Settle::Release).await) });
        }
    }
}
