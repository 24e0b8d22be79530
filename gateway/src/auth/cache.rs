//! Pure: login tokens that were verified a moment ago, by a hash of the token. Two generations of bounded size: a full young one
//! becomes the old one, and what is looked up moves to the young one, so that tokens in use stay and nothing is ever searched.

use std::collections::HashMap;

use sluice_protocol::UserId;

use super::jwt::Claims;

/// SHA-256 of a secret of this process and the token. The tokens themselves are not kept.
pub type TokenHash = [u8; 32];

#[derive(Clone, Debug)]
struct Entry {
    user: UserId,
    expires: u64,
    keys: u64,
}

/// Verified tokens.
#[derive(Debug)]
pub struct TokenCache {
    most: usize,
    young: HashMap<TokenHash, Entry>,
    old: HashMap<TokenHash, Entry>,
}

impl TokenCache {
    /// For at most `most` tokens.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// What a token said, unless it has expired (`now`, seconds since the Unix epoch) or the keys are others than those that
    /// verified it (`keys`, the version of the key set).
    pub fn get(&mut self, hash: &TokenHash, keys: u64, now: u64) -> Option<Claims> {
        let valid = |entry: &Entry| entry.expires > now && entry.keys == keys;
        if let Some(entry) = self.young.get(hash) {
            return valid(entry).then(|| entry.claims());
        }
        let entry = self.old.remove(hash).filter(valid)?;
        let claims = entry.claims();
        self.insert(*hash, entry);
        Some(claims)
    }

    /// Keeps what a token said when keys of this version verified it.
    pub fn put(&mut self, hash: TokenHash, keys: u64, claims: &Claims) {
        self.old.remove(&hash);
        let entry = Entry {
            user: claims.user.clone(),
            expires: claims.expires,
            keys,
        };
        self.insert(hash, entry);
    }

    /// Drops what has expired and gives the memory back.
    pub fn sweep(&mut self, now: u64) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|_, entry| entry.expires > now);
            generation.shrink_to_fit();
        }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&mut self, hash: TokenHash, entry: Entry) {
        let generation = (self.most / 2).max(1);
        if self.young.len() >= generation && !self.young.contains_key(&hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}

impl Entry {
    fn claims(&self) -> Claims {
        Claims {
            user: self.user.clone(),
            expires: self.expires,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u16) -> TokenHash {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&n.to_be_bytes());
        hash
    }

    fn claims(expires: u64) -> Claims {
        Claims {
            user: UserId::new("ann").unwrap(),
            expires,
        }
    }

    #[test]
    fn a_token_is_known_until_the_second_it_expires() {
        let mut cache = TokenCache::new(8);
        cache.put(hash(1), 0, &claims(100));
        assert_eq!(cache.get(&hash(1), 0, 99), Some(claims(100)));
        assert_eq!(cache.get(&hash(1), 0, 100), None);
        assert_eq!(cache.get(&hash(2), 0, 0), None);
    }

    #[test]
    fn other_keys_mean_another_look() {
        let mut cache = TokenCache::new(8);
        cache.put(hash(1), 1, &claims(100));
        assert_eq!(cache.get(&hash(1), 2, 0), None);
        cache.put(hash(1), 2, &claims(100));
        assert_eq!(cache.get(&hash(1), 2, 0), Some(claims(100)));
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut cache = TokenCache::new(8);
        cache.put(hash(0), 0, &claims(100));
        for n in 1..200 {
            cache.put(hash(n), 0, &claims(100));
            assert!(cache.get(&hash(0), 0, 0).is_some(), "{n}");
        }
        assert_eq!(cache.get(&hash(1), 0, 0), None);
    }

    #[test]
    fn a_sweep_drops_what_has_expired() {
        let mut cache = TokenCache::new(100);
        for n in 0..60 {
            cache.put(hash(n), 0, &claims(n.into()));
        }
        cache.sweep(49);
        assert_eq!(cache.len(), 10);
    }

    proptest! {
        #[test]
        fn it_never_grows_beyond_its_bound_nor_answers_for_another(
            most in 2_usize..20,
            steps in proptest::collection::vec((0_u16..40, 0_u64..3, 0_u64..50, any::<bool>()), 0..300),
        ) {
            let mut cache = TokenCache::new(most);
            let mut last = HashMap::new();
            for (token, keys, time, write) in steps {
                if write {
                    cache.put(hash(token), keys, &claims(time));
                    last.insert(token, (keys, time));
                } else if let Some(found) = cache.get(&hash(token), keys, time) {
                    prop_assert_eq!(last.get(&token), Some(&(keys, found.expires)));
                    prop_assert!(found.expires > time);
                }
                prop_assert!(cache.len() <= most, "{} of {}", cache.len(), most);
            }
        }
    }
}
