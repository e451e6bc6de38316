//! Which gateway clients are shown as leader of a partition: a hint that keeps its cache warm, nothing more.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1996): when a gateway comes or goes, only its own share moves.

use metadata::model::ids::{NodeId, TopicPartition};

/// The gateway shown for a partition; `None` without gateways.
pub fn leader(partition: TopicPartition, nodes: &[NodeId]) -> Option<NodeId> {
    let (high, low) = partition.topic.0.as_u64_pair();
    let key = mix(high ^ low.rotate_left(32) ^ u64::from(partition.partition.unsigned_abs()));
    choose(key, nodes)
}

/// The gateway that coordinates a group; `None` without gateways.
pub fn coordinator(group: &str, nodes: &[NodeId]) -> Option<NodeId> {
    let key = group
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
    use metadata::model::ids::TopicId;

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
}
