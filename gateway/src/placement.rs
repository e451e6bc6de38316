//! Which gateway does what, told from the live sessions alone, so that all gateways agree without asking each other: who is
//! shown as leader of a partition (a hint that keeps its cache warm, nothing more), who coordinates a group.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1996): when a gateway comes or goes, only its own share moves.

use metadata::model::ids::{NodeId, SessionId, TopicPartition};
use metadata::state::State;
use metadata::state::sessions::{Session, Sessions};

/// The gateways that are given work: those that live and are not about to leave. If all are about to leave, all of them.
pub fn staying(sessions: &Sessions) -> Vec<&Session> {
    unless_none(sessions.live().collect(), |session| !session.leaving)
}

/// Those that are wanted; if none is, all of them.
pub fn unless_none(sessions: Vec<&Session>, is_wanted: impl Fn(&Session) -> bool) -> Vec<&Session> {
    let wanted: Vec<_> = sessions.iter().copied().filter(|session| is_wanted(session)).collect();
    if wanted.is_empty() { sessions } else { wanted }
}

/// The gateway that coordinates a group for clients of every zone and listener; `None` without gateways.
pub fn group_owner<'a>(state: &'a State, group: &str) -> Option<&'a Session> {
    let staying = staying(state.sessions());
    let nodes: Vec<_> = staying.iter().map(|session| session.node).collect();
    let owner = coordinator(group, &nodes)?;
    staying.into_iter().find(|session| session.node == owner)
}

/// Whether the gateway of this session coordinates a group, as far as this state knows.
pub fn owns_group(state: &State, session: SessionId, group: &str) -> bool {
    group_owner(state, group).is_some_and(|owner| owner.id == session)
}

/// The gateway shown for a partition; `None` without gateways.
pub fn leader(partition: TopicPartition, nodes: &[NodeId]) -> Option<NodeId> {
    let (high, low) = partition.topic.0.as_u64_pair();
    let key = mix(high ^ low.rotate_left(32) ^ u64::from(partition.partition.unsigned_abs()));
    choose(key, nodes)
}

/// The one of these gateways that coordinates what has this name; `None` without gateways.
pub fn coordinator(name: &str, nodes: &[NodeId]) -> Option<NodeId> {
    let key = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    choose(mix(key), nodes)
}

fn choose(key: u64, nodes: &[NodeId]) -> Option<NodeId> {
    nodes.iter().copied().max_by_key(|node| (mix(key ^ mix(u64::from(node.0.unsigned_abs()))), node.0))
}

/// The finisher of splitmix64: every bit of the input moves every bit of the output.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metadata::model::ids::TopicId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_the_share_of_a_leaver_moves() {
        let four: Vec<_> = (1..=4).map(NodeId).collect();
        let topic = TopicId::random();
        let mut moved = 0;
        for partition in 0..1000 {
            let tp = TopicPartition { topic, partition };
            let before = leader(tp, &four).unwrap();
            let after = leader(tp, &four[..3]).unwrap();
            assert!(before == after || before == NodeId(4));
            moved += usize::from(before != after);
        }
        assert!((150..350).contains(&moved), "{moved} of 1000 moved");
        assert_eq!(leader(TopicPartition { topic, partition: 0 }, &[]), None);
        assert_eq!(coordinator("g", &four[..1]), Some(NodeId(1)));
    }

    proptest! {
        /// Whatever gateways there are and whichever goes: what it had moves, nothing else does, and where it goes does not
        /// depend on the order in which the gateways are named.
        #[test]
        fn nothing_moves_but_the_share_of_who_goes(
            nodes in proptest::collection::btree_set(0..i32::MAX, 2..12),
            gone in any::<proptest::sample::Index>(),
            names in proptest::collection::vec(".{0,20}", 1..40),
            topic in any::<u128>(),
        ) {
            let all: Vec<_> = nodes.iter().copied().map(NodeId).collect();
            let gone = *gone.get(&all);
            let left: Vec<_> = all.iter().rev().copied().filter(|node| *node != gone).collect();
            for name in &names {
                let (before, after) = (coordinator(name, &all).unwrap(), coordinator(name, &left).unwrap());
                prop_assert!(before == after || before == gone);
                prop_assert!(after != gone);
            }
            for partition in 0..50 {
                let tp = TopicPartition { topic: TopicId(Uuid::from_u128(topic)), partition };
                let (before, after) = (leader(tp, &all).unwrap(), leader(tp, &left).unwrap());
                prop_assert!(before == after || before == gone);
            }
        }

        /// Each of some gateways has about its share of many partitions.
        #[test]
        fn shares_are_about_equal(nodes in proptest::collection::btree_set(0..i32::MAX, 2..8), topic in any::<u128>()) {
            let all: Vec<_> = nodes.iter().copied().map(NodeId).collect();
            let topic = TopicId(Uuid::from_u128(topic));
            let share = 2_000 / all.len();
            let led: Vec<_> =
                (0..2_000).filter_map(|partition| leader(TopicPartition { topic, partition }, &all)).collect();
            for node in BTreeSet::from_iter(&all) {
                let has = led.iter().filter(|leader| *leader == node).count();
                prop_assert!((share * 2 / 3..share * 4 / 3).contains(&has), "{has} of {share}");
            }
        }
    }
}
