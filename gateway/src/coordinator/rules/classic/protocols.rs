//! Which assignor a group uses: the one most members prefer among those all of them know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{CONSUMER_PROTOCOL_TYPE, ClassicGroup, Phase, Protocol};

impl<J, S> ClassicGroup<J, S> {
    /// Adds or takes away one member's votes of support.
    pub(super) fn count_support(&mut self, protocols: &[Protocol], by: isize) {
        let names: BTreeSet<_> = protocols.iter().map(|protocol| &protocol.name).collect();
        for name in names {
            let count = self.support.get(name).copied().unwrap_or(0).saturating_add_signed(by);
            if count == 0 {
                self.support.remove(name);
            } else {
                self.support.insert(name.clone(), count);
            }
        }
    }

    /// Whether a member with these protocols can be part of the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let known_to_all =
            |protocol: &Protocol| self.support.get(&protocol.name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(known_to_all)
    }

    /// Every member votes for the first of its protocols that all know; the most votes win, ties go by name. `None` if the
    /// group has no members.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let known_to_all = |name: &Arc<str>| self.support.get(name).copied() == Some(self.members.len());
        let mut votes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|protocol| &protocol.name).find(|name| known_to_all(name));
            if let Some(choice) = choice {
                *votes.entry(choice.clone()).or_default() += 1;
            }
        }
        let best = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == best).map(|(name, _)| name)
    }

    /// Whether a member reads the topic. A consumer group whose subscriptions cannot be read counts as reading every topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) || self.members.is_empty() {
            return false;
        }
        let Some(protocol) = &self.protocol else { return true };
        self.members.values().any(|member| {
            let known = member.protocols.iter().find(|known| known.name == *protocol);
            known.is_none_or(|known| subscribes(&known.metadata, topic).unwrap_or(true))
        })
    }
}

/// Whether a consumer's subscription names the topic; `None` if the bytes are none. Every version starts with a version number
/// and the topics (`ConsumerProtocolSubscription`).
fn subscribes(subscription: &Bytes, topic: &str) -> Option<bool> {
    let mut bytes: &[u8] = subscription;
    if bytes.try_get_i16().ok()? < 0 {
        return None;
    }
    let count = bytes.try_get_i32().ok()?;
    for _ in 0..count {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        if name == topic.as_bytes() {
            return Some(true);
        }
        bytes = rest;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topics: &[&str]) -> Bytes {
        let mut bytes = vec![0, 1];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0, 0, 0, 0]);
        bytes.into()
    }

    #[test]
    fn subscriptions_are_read_and_garbage_is_not() {
        let two = subscription(&["orders", "a"]);
        assert_eq!(subscribes(&two, "a"), Some(true));
        assert_eq!(subscribes(&two, "order"), Some(false));
        assert_eq!(subscribes(&subscription(&[]), "a"), Some(false));
        for cut in 0..two.len() - 4 {
            assert_ne!(subscribes(&two.slice(..cut), "zzz"), Some(true), "{cut}");
        }
        assert_eq!(subscribes(&Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), "a"), None);
        assert_eq!(subscribes(&Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), "a"), None);
    }
}
