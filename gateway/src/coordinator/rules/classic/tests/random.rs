//! Clients that behave as clients do, or badly, in any order: what must hold for every history.

use proptest::prelude::*;

use super::*;

/// One thing that happens to one of a few clients.
#[derive(Debug, Clone)]
enum Step {
    Join { client: usize, changed: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Commit { client: usize },
    Leave { client: usize },
    Pass { ms: i64 },
    Restart,
}

/// What a client knows; static ones have an instance id and forget their member id when they restart.
#[derive(Debug, Default, Clone)]
struct Client {
    instance: Option<String>,
    member_id: Option<Arc<str>>,
    generation: i32,
    waiting_join: Option<u32>,
    waiting_sync: Option<u32>,
    /// What it was given, and in which generation.
    owns: Option<(i32, Bytes)>,
    lives: u32,
}

struct World {
    table: Table,
    clients: Vec<Client>,
    highest: i32,
    /// Every assignment told, by generation: one owner per name.
    told: BTreeMap<(i32, Bytes), Arc<str>>,
    seen: (usize, usize),
}

const CLIENTS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), any::<bool>()).prop_map(|(client, changed)| Step::Join { client, changed }),
        4 => client.clone().prop_map(|client| Step::Sync { client }),
        3 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Commit { client }),
        1 => client.prop_map(|client| Step::Leave { client }),
        4 => prop_oneof![Just(1), Just(3_000), Just(9_999), Just(70_000)].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ]
}

impl World {
    fn new() -> Self {
        let client =
            |at: usize| Client { instance: at.is_multiple_of(2).then(|| format!("i{at}")), ..Client::default() };
        Self {
            table: Table::new(LIMITS),
            clients: (0..CLIENTS).map(client).collect(),
            highest: 0,
            told: BTreeMap::new(),
            seen: (0, 0),
        }
    }

    fn request(&mut self, at: usize, changed: bool) -> JoinRequest {
        let client = &mut self.clients[at];
        client.lives += 1;
        let known = client.member_id.clone().unwrap_or_else(|| "".into());
        JoinRequest {
            instance: client.instance.as_deref().map(Into::into),
            unique: format!("{at}.{}", client.lives).into(),
            protocols: if changed { protocols(&["sticky", "range"]) } else { protocols(&["range"]) },
            can_skip_assignment: at < 2,
            ..dynamic(&format!("c{at}"), &known)
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Join { client, changed } => {
                let request = self.request(client, changed);
                let number = self.table.join(request);
                self.clients[client].waiting_join = Some(number);
            }
            Step::Sync { client } => {
                let Some(id) = self.clients[client].member_id.clone() else { return };
                let members: Vec<Arc<str>> = self.table.group.members.keys().cloned().collect();
                let members: Vec<&str> = members.iter().map(|id| &**id).collect();
                let number = self.table.sync(sync(&id, self.clients[client].generation, &members));
                self.clients[client].waiting_sync = Some(number);
            }
            Step::Heartbeat { client } | Step::Commit { client } => {
                let asks = &self.clients[client];
                let who = caller(asks.member_id.as_deref().unwrap_or("nobody"), asks.generation);
                let table = &mut self.table;
                let answer = match step {
                    Step::Commit { .. } => table.group.check_commit(&who, table.now_ms),
                    _ => table.group.heartbeat(&who, table.now_ms),
                };
                if answer == Err(GroupError::UnknownMember) {
                    self.clients[client].member_id = None;
                    self.clients[client].owns = None;
                }
            }
            Step::Leave { client } => {
                let Some(id) = self.clients[client].member_id.take() else { return };
                self.table.leave(&[leaver(&id)]);
                self.clients[client].owns = None;
            }
            Step::Pass { ms } => self.table.pass(ms),
            Step::Restart => self.restart(),
        }
        check(&self.table.group);
        self.hear();
    }

    /// The gateway dies: what waited is cut off, the group goes on from what was saved last, with a barrier between.
    fn restart(&mut self) {
        if !matches!(self.table.group.phase, Phase::Empty | Phase::Completing | Phase::Stable) {
            return;
        }
        self.hear();
        let saved = self.table.group.to_restore();
        self.table.group = Group::restore(LIMITS, saved, self.table.now_ms);
        for client in &mut self.clients {
            client.waiting_join = None;
            client.waiting_sync = None;
        }
    }

    /// Clients read their answers.
    fn hear(&mut self) {
        for at in 0..CLIENTS {
            let client = &mut self.clients[at];
            if let Some(reply) = client.waiting_join.and_then(|number| self.table.find_join(number).cloned()) {
                client.waiting_join = None;
                match reply {
                    Ok(joined) => {
                        assert!(joined.generation >= self.highest, "C2: generations never go back");
                        self.highest = joined.generation;
                        client.member_id = Some(joined.member_id);
                        client.generation = joined.generation;
                        client.owns = None;
                    }
                    Err(refused) if refused.error == GroupError::MemberIdRequired => {
                        client.member_id = Some(refused.member_id);
                    }
                    Err(_) => client.member_id = None,
                }
            }
            if let Some(reply) = client.waiting_sync.and_then(|number| self.table.synced(number).cloned()) {
                client.waiting_sync = None;
                if let Ok(synced) = reply {
                    client.owns = Some((client.generation, synced.assignment));
                }
            }
        }
        let owners: Vec<_> =
            self.clients.iter().filter_map(|client| Some((client.owns.clone()?, client.member_id.clone()?))).collect();
        for ((generation, assignment), id) in owners.into_iter().filter(|((_, assignment), _)| !assignment.is_empty()) {
            let stem = |id: &str| id.split('-').next().map(str::to_owned);
            let owner = self.told.entry((generation, assignment)).or_insert_with(|| id.clone());
            assert_eq!(stem(owner), stem(&id), "C1: one owner per generation (a static member may change its id)");
        }
        let now = (self.table.joins.len(), self.table.syncs.len());
        assert!(now >= self.seen);
        self.seen = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.act(step);
        }
        // C9: left alone, whatever waits is answered, and the group empties within all its timeouts.
        world.table.pass(2 * REBALANCE_MS + LIMITS.new_member_join_timeout_ms + 2 * SESSION_MS);
        for client in &world.clients {
            if let Some(number) = client.waiting_join {
                prop_assert!(world.table.find_join(number).is_some());
            }
            if let Some(number) = client.waiting_sync {
                prop_assert!(world.table.synced(number).is_some());
            }
        }
        world.table.pass(2 * REBALANCE_MS + LIMITS.new_member_join_timeout_ms + 2 * SESSION_MS);
        prop_assert!(world.table.group.is_vacant());
        prop_assert_eq!(world.table.group.next_deadline_ms(), None);
    }
}
