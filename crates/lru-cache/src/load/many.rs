//! Many keys at once: one load for those that are missing, joined with the loads under way.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::flight::{Heard, Joined, Lead};
use super::{LoadError, ReadThrough};
use crate::life::Life;
use crate::policy::Policy;

/// Flights that we lead, by the key's place.
type Leads<K, V, E, P, S> = Vec<(usize, Lead<K, V, E, P, S>)>;

impl<K, V, E, P, S> ReadThrough<K, V, E, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// The values of `keys`, in their order. Those that are missing and that nobody is loading are loaded by
    /// one call of `load`, which is given them and answers with pairs in any order; keys that it leaves out have no
    /// value. `load` is called again only for keys whose other leaders were dropped meanwhile.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`], for the whole; what was loaded before stays cached. Keys that
    /// have no value are no error.
    ///
    /// # Cancel safety
    ///
    /// As [`ReadThrough::get_or_load`], for each key.
    pub async fn get_many<F>(
        &self,
        keys: &[K],
        mut load: impl FnMut(Vec<K>) -> F,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        F: Future<Output = Result<Vec<(K, V)>, E>>,
    {
        let mut values: Vec<Option<V>> = Vec::with_capacity(keys.len());
        let mut leads: Leads<K, V, E, P, S> = Vec::new();
        let mut places = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let known = self.shared.cache.get_with_life(key, |_| true);
            let fresh = known.filter(|(_, left)| *left > self.shared.settings.stale);
            if fresh.is_none() {
                match self.shared.join(key)? {
                    Joined::Leads(lead) => leads.push((at, lead)),
                    Joined::Waits(place) => places.push((at, place)),
                }
            }
            values.push(fresh.map(|(value, _)| value));
        }
        // Our own first: who waits for others before would let them wait for us in a ring.
        loop {
            if !leads.is_empty() {
                let wanted = leads.iter().map(|(at, _)| keys[*at].clone()).collect();
                self.load_led(keys, &mut leads, &mut values, load(wanted).await)?;
            }
            let Some((at, place)) = places.pop() else {
                return Ok(values);
            };
            match place.wait(&self.shared, &keys[at]).await {
                Heard::Done(Ok(value)) => values[at] = Some(value),
                Heard::Done(Err(LoadError::NotFound)) => {}
                Heard::Done(Err(error)) => return Err(error),
                Heard::Lead => leads.push((at, place.lead(&self.shared, &keys[at]))),
            }
        }
    }

    /// Ends all flights that we lead with what was loaded for them.
    fn load_led(
        &self,
        keys: &[K],
        leads: &mut Leads<K, V, E, P, S>,
        values: &mut [Option<V>],
        answer: Result<Vec<(K, V)>, E>,
    ) -> Result<(), LoadError<E>> {
        let answer = answer.map_err(|error| LoadError::Failed(Arc::new(error)));
        let mut loaded: std::collections::HashMap<K, V> = match answer {
            Ok(pairs) => pairs.into_iter().collect(),
            Err(error) => {
                for (_, lead) in leads.drain(..) {
                    let _told = lead.loaded(Err(error.clone()));
                }
                return Err(error);
            }
        };
        for (at, lead) in leads.drain(..) {
            let outcome = loaded
                .remove(&keys[at])
                .map(|value| (value, Life::new()))
                .ok_or(LoadError::NotFound);
            values[at] = lead.loaded(outcome).ok();
        }
        Ok(())
    }
}
