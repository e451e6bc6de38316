//! Scenario 8: the admin calls, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::Admin;
use crate::groups::Member;
use crate::records::*;
use crate::run::Run;
use crate::scenarios::read;

const SOON: Duration = Duration::from_secs(60);

struct Steps<'a> {
    run: &'a Run,
    admin: Admin,
    member: Option<Member>,
    topic: String,
    other: String,
    dry: String,
    missing: String,
    group: String,
}

type Step = fn(&mut Steps<'_>) -> Outcome<()>;

const STEPS: &[(&str, Step)] = &[
    ("describe-cluster", describe_cluster),
    ("create", create),
    ("create-errors", create_errors),
    ("list", list),
    ("describe", describe),
    ("describe-configs", describe_configs),
    ("alter-configs", alter_configs),
    ("create-partitions", create_partitions),
    ("delete-records", delete_records),
    ("describe-producers", no_such_call),
    ("describe-log-dirs", no_such_call),
    ("describe-group", describe_group),
    ("delete-nonempty-group", delete_nonempty_group),
    ("list-offsets", list_offsets),
    ("alter-offsets", alter_offsets),
    ("delete-offsets", no_such_call),
    ("delete-group", delete_group),
    ("delete-topic", delete_topic),
];

pub fn admin(run: &mut Run) -> Outcome<String> {
    let (mut done, mut missing) = (0, Vec::new());
    let topic = run.topic("");
    let mut steps = Steps {
        admin: run.admin()?,
        member: None,
        other: run.topic("default"),
        dry: run.topic("dry"),
        missing: run.topic("missing"),
        group: format!("{topic}-group"),
        topic,
        run,
    };
    for (name, step) in STEPS {
        match step(&mut steps) {
            Ok(()) => done += 1,
            Err(Failure::Without) => missing.push(*name),
            Err(failure) => return differs(format!("step {name}: {failure}")),
        }
    }
    drop(steps);
    for name in missing {
        run.lack(name);
    }
    Ok(format!("steps={done}"))
}

fn no_such_call(_: &mut Steps<'_>) -> Outcome<()> {
    Err(Failure::Without)
}

fn describe_cluster(s: &mut Steps<'_>) -> Outcome<()> {
    let (id, nodes) = s.admin.cluster()?;
    expect_that("cluster id", !id.is_empty(), &id)?;
    expect_that("nodes", !nodes.is_empty(), &nodes)?;
    Err(Failure::Without)
}

fn create(s: &mut Steps<'_>) -> Outcome<()> {
    s.admin.create(&s.topic, 3, &[("retention.ms", "3600000"), ("cleanup.policy", "delete")], false)?;
    s.admin.create(&s.other, -1, &[], false)?;
    let listed = || s.admin.topics().map(|all| all.contains(&s.topic) && all.contains(&s.other));
    wait_until("both topics", SOON, listed, String::new)
}

fn create_errors(s: &mut Steps<'_>) -> Outcome<()> {
    let admin = &s.admin;
    expect_refused("existing", TOPIC_ALREADY_EXISTS, admin.create(&s.topic, 3, &[], false))?;
    expect_refused("bad name", INVALID_TOPIC, admin.create("bad name!", 1, &[], false))?;
    expect_refused("0 partitions", INVALID_PARTITIONS, admin.create(&s.dry, 0, &[], false))?;
    expect_refused("bad value", INVALID_CONFIG, admin.create(&s.dry, 1, &[("retention.ms", "abc")], false))?;
    expect_refused("unknown config", INVALID_CONFIG, admin.create(&s.dry, 1, &[("no.such.config", "1")], false))?;
    admin.create(&s.dry, 1, &[], true)
}

fn list(s: &mut Steps<'_>) -> Outcome<()> {
    let listed = s.admin.topics()?;
    expect_that("both listed", listed.contains(&s.topic) && listed.contains(&s.other), "")?;
    expect_that("validated only, not listed", !listed.contains(&s.dry), "")
}

fn describe(s: &mut Steps<'_>) -> Outcome<()> {
    let mut parts = s.admin.describe(&s.topic)?;
    parts.sort_unstable();
    let (_, nodes) = s.admin.cluster()?;
    expect("partitions", vec![0, 1, 2], parts.iter().map(|p| p.0).collect())?;
    for (id, leader, replicas, in_sync) in parts {
        expect_that("leader", nodes.contains(&leader), leader)?;
        expect_that("replicas", replicas > 0 && in_sync > 0, id)?;
    }
    expect_refused("unknown topic", UNKNOWN_TOPIC, s.admin.describe(&s.missing))
}

fn config(value: &str, default: bool) -> Option<(String, bool, bool, bool)> {
    Some((value.to_owned(), default, false, false))
}

fn describe_configs(s: &mut Steps<'_>) -> Outcome<()> {
    let configs = s.admin.configs(&s.topic)?;
    expect("retention.ms", config("3600000", false), configs.get("retention.ms").cloned())?;
    expect("max.message.bytes", config("1048588", true), configs.get("max.message.bytes").cloned())?;
    expect_refused("unknown topic", UNKNOWN_TOPIC, s.admin.configs(&s.missing))
}

fn alter_configs(s: &mut Steps<'_>) -> Outcome<()> {
    s.admin.alter(&s.topic, &[("max.message.bytes", "2000000")])?;
    let altered = || {
        let configs = s.admin.configs(&s.topic)?;
        let shown = (configs.get("max.message.bytes").cloned(), configs.get("retention.ms").cloned());
        Ok(shown == (config("2000000", false), config("604800000", true)))
    };
    wait_until("the altered configs", SOON, altered, String::new)?;
    // The library does not pass the refusal on; that nothing changed can still be seen.
    s.admin.alter(&s.topic, &[("retention.ms", "abc")])?;
    expect_that("configs after a refusal", altered()?, "changed")?;
    Err(Failure::Without)
}

fn create_partitions(s: &mut Steps<'_>) -> Outcome<()> {
    s.admin.grow(&s.topic, 5)?;
    wait_until("5 partitions", SOON, || Ok(s.admin.describe(&s.topic)?.len() == 5), String::new)?;
    expect_refused("to 5 again", INVALID_PARTITIONS, s.admin.grow(&s.topic, 5))?;
    expect_refused("to 4", INVALID_PARTITIONS, s.admin.grow(&s.topic, 4))?;
    expect_refused("unknown topic", UNKNOWN_TOPIC, s.admin.grow(&s.missing, 5))
}

fn delete_records(s: &mut Steps<'_>) -> Outcome<()> {
    let record = |i: i32| Record { value: Some(vec![i as u8]), partition: Some(0), ..Record::default() };
    s.run.send_all(&s.topic, &[], &(0..20).map(record).collect::<Vec<_>>())?;
    expect("low watermark", Some(12), s.admin.delete_records(&s.topic, 0, 12)?)?;
    let reader = s.run.reader("earliest")?;
    reader.assign(&s.topic, &BTreeMap::from([(0, 0)]))?;
    let left: Vec<_> = read(&reader, 8, PATIENCE)?.iter().map(|r| r.offset).collect();
    expect("what is left", (12..20).collect(), left)?;
    expect("beginning and end", (12, 20), reader.bounds(&s.topic, 0)?)?;
    expect_refused("before 1000", OFFSET_OUT_OF_RANGE, s.admin.delete_records(&s.topic, 0, 1000))
}

fn describe_group(s: &mut Steps<'_>) -> Outcome<()> {
    let member = Member::join(s.run, &s.topic, &s.group, &[("enable.auto.commit", "false")])?;
    wait_until("the assignment", PATIENCE, || Ok(member.owned().len() == 5), || member.state())?;
    s.member = Some(member);
    let wanted = ("Stable".to_owned(), "consumer".to_owned(), vec![(0..5).collect()]);
    let shown = || s.admin.group(&s.group);
    wait_until("the group", SOON, || Ok(shown()? == wanted), || format!("{:?}", shown()))?;
    expect_that("group listed", s.admin.groups()?.contains(&s.group), &s.group)
}

fn delete_nonempty_group(s: &mut Steps<'_>) -> Outcome<()> {
    expect_refused("delete", NON_EMPTY_GROUP, s.admin.delete_group(&s.group))
}

fn list_offsets(s: &mut Steps<'_>) -> Outcome<()> {
    let Some(member) = s.member.take() else { return differs("no member") };
    member.consumer().commit_at(&s.topic, &BTreeMap::from([(0, 15)]))?;
    member.close();
    let shown = || s.admin.group(&s.group);
    wait_until("Empty", SOON, || Ok(shown()?.0 == "Empty"), || format!("{:?}", shown()))?;
    expect("committed", BTreeMap::from([(0, 15)]), s.admin.committed(&s.group, &s.topic)?)
}

fn alter_offsets(s: &mut Steps<'_>) -> Outcome<()> {
    s.admin.alter_offsets(&s.group, &s.topic, &BTreeMap::from([(0, 13)]))?;
    expect("altered", BTreeMap::from([(0, 13)]), s.admin.committed(&s.group, &s.topic)?)
}

fn delete_group(s: &mut Steps<'_>) -> Outcome<()> {
    s.admin.delete_group(&s.group)?;
    expect_that("group gone", !s.admin.groups()?.contains(&s.group), &s.group)?;
    expect_refused("unknown group", GROUP_ID_NOT_FOUND, s.admin.delete_group(&s.group))
}

fn delete_topic(s: &mut Steps<'_>) -> Outcome<()> {
    // A broker may still answer what a closed member sent last, behind its waiting fetch: a metadata request that would
    // create the topic again.
    std::thread::sleep(Duration::from_secs(1));
    s.admin.delete(&s.topic)?;
    s.admin.delete(&s.other)?;
    let gone = || s.admin.topics().map(|all| !all.contains(&s.topic) && !all.contains(&s.other));
    wait_until("both gone", SOON, gone, String::new)?;
    expect_refused("again", UNKNOWN_TOPIC, s.admin.delete(&s.topic))
}
