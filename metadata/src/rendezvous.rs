//! Rendezvous hashing (Thaler and Ravishankar 1996): everyone who knows the same gateways comes to the same answer without
//! asking, and when a gateway comes or goes, only its own share moves.
//!
//! The answers of all builds must be the same: gateways of two versions share things out side by side.

use crate::model::ids::{NodeId, TopicPartition};
use crate::state::sessions::{Session, Sessions};

/// The gateways that are given work: those that live and are not about to leave. If all are about to leave, all of them.
pub fn staying(sessions: &Sessions) -> Vec<&Session> {
    unless_none(sessions.live().collect(), |session| !session.leaving)
}

/// Those that are wanted; if none is, all of them.
pub fn unless_none(sessions: Vec<&Session>, is_wanted: impl Fn(&Session) -> bool) -> Vec<&Session> {
    let wanted: Vec<_> = sessions.iter().copied().filter(|session| is_wanted(session)).collect();
    if wanted.is_empty() { sessions } else { wanted }
}

/// Which of the staying gateways has what is called this; `None` without gateways.
pub fn owner<'a>(sessions: &'a Sessions, name: &str) -> Option<&'a Session> {
    let staying = staying(sessions);
    let nodes: Vec<_> = staying.iter().map(|session| session.node).collect();
    let node = of_name(name, &nodes)?;
    staying.into_iter().find(|session| session.node == node)
}

/// Which of these gateways has what is called this; `None` without gateways.
pub fn of_name(name: &str, nodes: &[NodeId]) -> Option<NodeId> {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    choose(mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, step)), nodes)
}

/// Which of these gateways has the partition; `None` without gateways.
pub fn of_partition(partition: TopicPartition, nodes: &[NodeId]) -> Option<NodeId> {
    let (high, low) = partition.topic.0.as_u64_pair();
    choose(mix(high ^ low.rotate_left(32) ^ u64::from(partition.partition.unsigned_abs())), nodes)
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

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::model::ids::TopicId;

    fn partition(topic: u128, partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId(Uuid::from_u128(topic)), partition }
    }

    #[test]
    fn the_answers_are_pinned() {
        let nodes: Vec<_> = (1..=5).map(NodeId).collect();
        let names: Vec<_> =
            ["", "g", "orders", "group-17"].iter().map(|name| of_name(name, &nodes).unwrap().0).collect();
        let partitions: Vec<_> = (0..8).map(|p| of_partition(partition(7, p), &nodes).unwrap().0).collect();
        assert_eq!((names, partitions), (vec![5, 3, 1, 2], vec![4, 5, 4, 3, 4, 5, 4, 2]));
        assert_eq!((of_name("g", &[]), of_partition(partition(7, 0), &[])), (None, None));
    }

    #[test]
    fn a_leaver_leaves_its_share() {
        let four: Vec<_> = (1..=4).map(NodeId).collect();
        let moved =
            (0..1000).filter(|p| of_partition(partition(9, *p), &four) != of_partition(partition(9, *p), &four[..3]));
        let moved = moved.count();
        assert!((150..350).contains(&moved), "{moved} of 1000 moved");
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
                let (before, after) = (of_name(name, &all).unwrap(), of_name(name, &left).unwrap());
                prop_assert!(before == after || before == gone);
                prop_assert!(after != gone);
            }
            for at in 0..50 {
                let (before, after) = (of_partition(partition(topic, at), &all), of_partition(partition(topic, at), &left));
                prop_assert!(before == after || before == Some(gone));
            }
        }

        /// Each of some gateways has about its share of many partitions.
        #[test]
        fn shares_are_about_equal(nodes in proptest::collection::btree_set(0..i32::MAX, 2..8), topic in any::<u128>()) {
            let all: Vec<_> = nodes.iter().copied().map(NodeId).collect();
            let share = 2_000 / all.len();
            let led: Vec<_> = (0..2_000).filter_map(|at| of_partition(partition(topic, at), &all)).collect();
            for node in BTreeSet::from_iter(&all) {
                let has = led.iter().filter(|leader| *leader == node).count();
                prop_assert!((share * 2 / 3..share * 4 / 3).contains(&has), "{has} of {share}");
            }
        }
    }
}
