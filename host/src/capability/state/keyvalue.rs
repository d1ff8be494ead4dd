//! The two drafts of `wasi:keyvalue` on top of a connector's state.
//!
//! They differ in the type of a cursor, in `get-many`, in the sign of `increment` and in compare-and-swap; what they do
//! is in the module above. Only types are translated here.

use std::collections::BTreeSet;

use wasmtime::component::{HasSelf, Linker, Resource};

use super::{PAGE_KEYS_MAX, Value};
use crate::bindings::{Bucket, Cas, keyvalue_draft, keyvalue_draft2};
use crate::capability::{OverLimit, Session};
use crate::limit::Limit;

use keyvalue_draft::wasi::keyvalue as draft;
use keyvalue_draft2::wasi::keyvalue as draft2;

/// An answer that the guest sees, inside one that would end the call.
type Answer<T, E> = wasmtime::Result<Result<T, E>>;

pub(in crate::capability) fn link(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    draft::store::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    draft::atomics::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    draft::batch::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    draft2::store::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    draft2::atomics::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    draft2::batch::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)
}

/// What both drafts have alike: `$cursor` is the type of a cursor, `$page` cuts a page out of all keys, `$found` and
/// `$find` are an entry of `get-many` and how it is made.
macro_rules! serve {
    ($draft:ident, $cursor:ty, $page:path, $found:ty, $find:path) => {
        impl $draft::store::Host for Session {
            async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>, $draft::store::Error> {
                if !self.state_open(&identifier) {
                    return Ok(Err($draft::store::Error::NoSuchStore));
                }
                Ok(Ok(self.table.push(Bucket)?))
            }
        }

        impl $draft::store::HostBucket for Session {
            async fn get(&mut self, _: Resource<Bucket>, key: String) -> Answer<Value, $draft::store::Error> {
                Ok(self.state_read(&key).await.map_err($draft::store::Error::Other))
            }

            async fn set(
                &mut self,
                _: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> Answer<(), $draft::store::Error> {
                Ok(self.state_write(&key, Some(value)).await.map_err($draft::store::Error::Other))
            }

            async fn delete(&mut self, _: Resource<Bucket>, key: String) -> Answer<(), $draft::store::Error> {
                Ok(self.state_write(&key, None).await.map_err($draft::store::Error::Other))
            }

            async fn exists(&mut self, _: Resource<Bucket>, key: String) -> Answer<bool, $draft::store::Error> {
                let value = self.state_read(&key).await;
                Ok(value.map(|value| value.is_some()).map_err($draft::store::Error::Other))
            }

            async fn list_keys(
                &mut self,
                _: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> Answer<$draft::store::KeyResponse, $draft::store::Error> {
                let listed = self.state_keys().await;
                Ok(listed
                    .map(|all| {
                        let (keys, cursor) = $page(all, cursor);
                        $draft::store::KeyResponse { keys, cursor }
                    })
                    .map_err($draft::store::Error::Other))
            }

            async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl $draft::batch::Host for Session {
            async fn get_many(
                &mut self,
                _: Resource<Bucket>,
                keys: Vec<String>,
            ) -> Answer<Vec<$found>, $draft::store::Error> {
                let found = self.state_read_many(keys).await;
                Ok(found.map(|entries| entries.into_iter().map($find).collect()).map_err($draft::store::Error::Other))
            }

            async fn set_many(
                &mut self,
                _: Resource<Bucket>,
                entries: Vec<(String, Vec<u8>)>,
            ) -> Answer<(), $draft::store::Error> {
                for (key, value) in entries {
                    if let Err(text) = self.state_write(&key, Some(value)).await {
                        return Ok(Err($draft::store::Error::Other(text)));
                    }
                }
                Ok(Ok(()))
            }

            async fn delete_many(
                &mut self,
                _: Resource<Bucket>,
                keys: Vec<String>,
            ) -> Answer<(), $draft::store::Error> {
                for key in keys {
                    if let Err(text) = self.state_write(&key, None).await {
                        return Ok(Err($draft::store::Error::Other(text)));
                    }
                }
                Ok(Ok(()))
            }
        }
    };
}

serve!(draft, u64, page_by_place, Option<(String, Vec<u8>)>, found_or_nothing);
serve!(draft2, String, page_by_key, (String, Value), std::convert::identity);

impl draft::atomics::Host for Session {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: u64) -> Answer<u64, draft::store::Error> {
        let after = self.state_increment(&key, i128::from(delta), 0..=i128::from(u64::MAX)).await;
        Ok(after.map(|number| u64::try_from(number).unwrap_or(u64::MAX)).map_err(draft::store::Error::Other))
    }
}

impl draft2::atomics::Host for Session {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: i64) -> Answer<i64, draft2::store::Error> {
        let range = i128::from(i64::MIN)..=i128::from(i64::MAX);
        let after = self.state_increment(&key, i128::from(delta), range).await;
        Ok(after.map(|number| i64::try_from(number).unwrap_or(i64::MAX)).map_err(draft2::store::Error::Other))
    }

    /// Fails only where the call itself has written in between: what others write is noticed at the commit, which then
    /// runs the whole delivery again.
    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Answer<(), draft2::atomics::CasError> {
        let Cas { key, seen } = self.forget_cas(cas)?;
        let store_error = |text| draft2::atomics::CasError::StoreError(draft2::store::Error::Other(text));
        match self.state_read(&key).await {
            Err(text) => Ok(Err(store_error(text))),
            Ok(present) if present == seen => Ok(self.state_write(&key, Some(value)).await.map_err(store_error)),
            Ok(present) => {
                let again = self.keep_cas(Cas { key, seen: present })?;
                Ok(Err(draft2::atomics::CasError::CasFailed(again)))
            }
        }
    }
}

impl draft2::atomics::HostCas for Session {
    async fn new(&mut self, _: Resource<Bucket>, key: String) -> Answer<Resource<Cas>, draft2::store::Error> {
        match self.state_read(&key).await {
            Ok(seen) => Ok(Ok(self.keep_cas(Cas { key, seen })?)),
            Err(text) => Ok(Err(draft2::store::Error::Other(text))),
        }
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Value, draft2::store::Error> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.forget_cas(cas)?;
        Ok(())
    }
}

impl Session {
    /// A value that is kept to be compared with is as large as the guest has made it.
    fn keep_cas(&mut self, cas: Cas) -> wasmtime::Result<Resource<Cas>> {
        if !self.memory.charge(size_bytes(&cas)) {
            let what = "values that are kept for compare-and-swap";
            return Err(OverLimit { limit: Limit::Memory, what, is_fixed: false }.into());
        }
        Ok(self.table.push(cas)?)
    }

    fn forget_cas(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.memory.release(size_bytes(&cas));
        Ok(cas)
    }
}

fn size_bytes(cas: &Cas) -> u64 {
    (cas.key.len() + cas.seen.as_ref().map_or(0, Vec::len)) as u64
}

fn found_or_nothing((key, value): (String, Value)) -> Option<(String, Vec<u8>)> {
    value.map(|value| (key, value))
}

fn page_by_place(all: BTreeSet<String>, cursor: Option<u64>) -> (Vec<String>, Option<u64>) {
    let skip = cursor.unwrap_or(0);
    let count = all.len() as u64;
    let keys: Vec<_> = all.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(PAGE_KEYS_MAX).collect();
    let next = skip.saturating_add(keys.len() as u64);
    (keys, (next < count).then_some(next))
}

fn page_by_key(all: BTreeSet<String>, cursor: Option<String>) -> (Vec<String>, Option<String>) {
    let mut rest = all.into_iter().skip_while(|key| cursor.as_ref().is_some_and(|cursor| key <= cursor));
    let keys: Vec<_> = rest.by_ref().take(PAGE_KEYS_MAX).collect();
    let next = if rest.next().is_some() { keys.last().cloned() } else { None };
    (keys, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_every_key_once() {
        let all: BTreeSet<String> = (0..2_500).map(|number| format!("{number:04}")).collect();
        let (mut by_place, mut by_key) = (Vec::new(), Vec::new());
        let (mut place, mut key) = (None, None);
        for _ in 0..3 {
            let (page, next) = page_by_place(all.clone(), place);
            by_place.extend(page);
            place = next;
            let (page, next) = page_by_key(all.clone(), key);
            by_key.extend(page);
            key = next;
        }
        assert!(place.is_none() && key.is_none());
        assert_eq!(by_place, all.iter().cloned().collect::<Vec<_>>());
        assert_eq!(by_key, by_place);
    }
}
