//! `kafka-acls`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use super::Command;
use crate::client::native::{Acl, AclFilter, Admin};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};

/// The name of the one cluster.
const CLUSTER: &str = "kafka-cluster";
const EVERYTHING: &str = "*";

pub(super) const COMMAND: Command = Command {
    name: "kafka-acls",
    about: "This tool helps to manage acls on kafka.",
    flags: FLAGS,
    run,
    failed: |failure| {
        End::Printed(format!("Error while executing ACL command: {}\n{}", failure.exception(), failure.exception()))
    },
    wrong_flag: End::Usage,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "The servers to connect to."),
    value("bootstrap-controller", "The same: there are no controllers."),
    value("command-config", "Property file with settings of the client."),
    switch("add", "Add rules."),
    switch("remove", "Remove rules."),
    switch("list", "List rules."),
    value("topic", "A topic; * for all."),
    value("group", "A group; * for all."),
    value("transactional-id", "A transactional id; * for all."),
    switch("cluster", "The cluster."),
    value("delegation-token", "Not built."),
    value("user-principal", "Not built."),
    value("resource-pattern-type", "LITERAL or PREFIXED; to list or remove also ANY or MATCH."),
    value("operation", "What is allowed or denied; may be given several times."),
    value("allow-principal", "Who is allowed: User:name."),
    value("deny-principal", "Who is denied: User:name."),
    value("allow-host", "From where it is allowed."),
    value("deny-host", "From where it is denied."),
    value("principal", "With --list: the rules about whom."),
    switch("producer", "What a producer needs: WRITE, DESCRIBE and CREATE of the topic."),
    switch("consumer", "What a consumer needs: READ and DESCRIBE of the topic, READ of the group."),
    switch("idempotent", "With --producer: IDEMPOTENT_WRITE of the cluster."),
    switch("force", "Do not ask."),
];

/// What rules protect: kind, name and how the name is meant.
type Target = (String, String, String);

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    if flags.count(&["bootstrap-server", "bootstrap-controller"]) != 1 {
        return Err(End::usage("One of --bootstrap-server or --bootstrap-controller must be specified"));
    }
    if flags.count(&["add", "remove", "list"]) != 1 {
        return Err(End::usage("Command must include exactly one action: --list, --add, --remove. "));
    }
    check(flags)?;
    let admin = Admin::new(&settings(flags)?)?;
    if flags.has("list") {
        return list(&admin, flags, out);
    }
    if flags.has("add") { add(&admin, flags, out) } else { remove(&admin, flags, out) }
}

fn settings(flags: &Flags) -> Result<Settings, End> {
    let mut settings = Settings::of_flags(flags)?;
    if let Some(servers) = flags.value("bootstrap-controller").map_err(End::Usage)? {
        settings.config.set("bootstrap.servers", servers);
    }
    Ok(settings)
}

fn check(flags: &Flags) -> Result<(), End> {
    if flags.has("principal") && !flags.has("list") {
        return Err(End::usage("The --principal option is only available if --list is set"));
    }
    if flags.has("producer") && !flags.has("topic") {
        return Err(End::usage("With --producer you must specify a --topic"));
    }
    if flags.has("idempotent") && !flags.has("producer") {
        return Err(End::usage("The --idempotent option is only available if --producer is set"));
    }
    if flags.has("consumer") {
        let lacks = flags.count(&["topic", "group"]) < 2;
        if lacks || (!flags.has("producer") && flags.count(&["cluster", "transactional-id"]) > 0) {
            let text = "With --consumer you must specify a --topic and a --group and no --cluster or --transactional-id \
                        option should be specified.";
            return Err(End::usage(text));
        }
    }
    for name in ["delegation-token", "user-principal"] {
        if flags.has(name) {
            return Err(End::Said(format!("--{name} is not built in StreamHouse.")));
        }
    }
    Ok(())
}

fn pattern(flags: &Flags) -> Result<String, End> {
    Ok(flags.value("resource-pattern-type").map_err(End::Usage)?.unwrap_or("LITERAL").to_uppercase())
}

/// What the flags name of one kind.
fn targets(flags: &Flags, kinds: &[&str]) -> Result<Vec<Target>, End> {
    let pattern = pattern(flags)?;
    let mut targets = Vec::new();
    for (flag, kind) in [("topic", "TOPIC"), ("group", "GROUP"), ("transactional-id", "TRANSACTIONAL_ID")] {
        if kinds.contains(&flag) {
            let of_flag = flags.values(flag).into_iter();
            targets.extend(of_flag.map(|name| (kind.to_owned(), name.trim().to_owned(), pattern.clone())));
        }
    }
    if kinds.contains(&"cluster") && flags.has("cluster") {
        targets.push(("CLUSTER".to_owned(), CLUSTER.to_owned(), "LITERAL".to_owned()));
    }
    Ok(targets)
}

const EVERY_KIND: [&str; 4] = ["topic", "group", "transactional-id", "cluster"];

/// The rules that the flags ask for, by what they protect.
fn rules(flags: &Flags) -> Result<BTreeMap<Target, BTreeSet<Acl>>, End> {
    let mut rules: BTreeMap<Target, BTreeSet<Acl>> = BTreeMap::new();
    let mut grant = |targets: Vec<Target>, operations: &[String]| {
        for target in targets {
            let of = rules.entry(target.clone()).or_default();
            for (permission, who, where_from) in people(flags) {
                of.extend(operations.iter().map(|operation| Acl {
                    resource: target.0.clone(),
                    name: target.1.clone(),
                    pattern: target.2.clone(),
                    principal: who.clone(),
                    host: where_from.clone(),
                    operation: operation.clone(),
                    permission: permission.clone(),
                }));
            }
        }
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if flags.has("producer") {
        grant(targets(flags, &["topic"])?, &words(&["WRITE", "DESCRIBE", "CREATE"]));
        grant(targets(flags, &["transactional-id"])?, &words(&["WRITE", "DESCRIBE"]));
        if flags.has("idempotent") {
            let cluster = ("CLUSTER".to_owned(), CLUSTER.to_owned(), "LITERAL".to_owned());
            grant(vec![cluster], &words(&["IDEMPOTENT_WRITE"]));
        }
    }
    if flags.has("consumer") {
        grant(targets(flags, &["topic"])?, &words(&["READ", "DESCRIBE"]));
        grant(targets(flags, &["group"])?, &words(&["READ"]));
    }
    if flags.count(&["producer", "consumer"]) == 0 {
        let operations: Vec<_> = flags.values("operation").into_iter().map(operation).collect();
        let operations = if operations.is_empty() { words(&["ALL"]) } else { operations };
        grant(targets(flags, &EVERY_KIND)?, &operations);
    }
    Ok(rules)
}

/// `DescribeConfigs`, `describe_configs`: `DESCRIBE_CONFIGS`.
fn operation(word: &str) -> String {
    let mut text = String::new();
    for (at, character) in word.char_indices() {
        let before = word[..at].chars().next_back();
        if character.is_ascii_uppercase() && before.is_some_and(|before| before.is_ascii_lowercase()) {
            text.push('_');
        }
        text.push(character.to_ascii_uppercase());
    }
    text
}

/// Who is allowed or denied from where.
fn people(flags: &Flags) -> Vec<(String, String, String)> {
    let mut people = Vec::new();
    for (permission, who, host) in [("ALLOW", "allow-principal", "allow-host"), ("DENY", "deny-principal", "deny-host")]
    {
        let hosts = flags.values(host);
        let hosts = if hosts.is_empty() { vec![EVERYTHING] } else { hosts };
        for principal in flags.values(who) {
            people.extend(hosts.iter().map(|host| (permission.to_owned(), principal.to_owned(), (*host).to_owned())));
        }
    }
    people
}

fn add(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let pattern = pattern(flags)?;
    if !["LITERAL", "PREFIXED"].contains(&&*pattern) {
        return Err(End::usage(format!(
            "A '--resource-pattern-type' value of '{pattern}' is not valid when adding acls."
        )));
    }
    must_have_target(flags)?;
    if flags.count(&["allow-principal", "deny-principal"]) == 0 {
        return Err(End::usage(
            "You must specify one of: --allow-principal, --deny-principal when trying to add ACLs.",
        ));
    }
    for (target, rules) in rules(flags)? {
        let there: BTreeSet<Acl> = admin.describe_acls(&filter(target.clone()))?.into_iter().collect();
        let (known, new): (Vec<_>, Vec<_>) = rules.into_iter().partition(|rule| there.contains(rule));
        for rule in &known {
            writeln!(out, "Acl (pattern={}, entry={}) already exists.", written(&target), row(rule))?;
        }
        if !new.is_empty() {
            writeln!(out, "Adding ACLs for resource `{}`: \n {} \n", written(&target), rows(&new))?;
            admin.create_acls(&new)?;
        }
    }
    Ok(())
}

fn remove(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    must_have_target(flags)?;
    let of = |acl: &Acl| AclFilter {
        resource: Some(acl.resource.clone()),
        name: Some(acl.name.clone()),
        pattern: Some(acl.pattern.clone()),
        principal: Some(acl.principal.clone()),
        host: Some(acl.host.clone()),
        operation: Some(acl.operation.clone()),
        permission: Some(acl.permission.clone()),
    };
    if people(flags).is_empty() {
        for target in targets(flags, &EVERY_KIND)? {
            let question =
                format!("Are you sure you want to delete all ACLs for resource filter `{}`? (y/n)", written(&target));
            if is_sure(flags, &question, out)? {
                admin.delete_acls(&[filter(target)])?;
            }
        }
        return Ok(());
    }
    for (target, rules) in rules(flags)? {
        let rules: Vec<_> = rules.into_iter().collect();
        let target = written(&target);
        let question = format!(
            "Are you sure you want to remove ACLs: \n {} \n from resource filter `{target}`? (y/n)",
            rows(&rules)
        );
        if is_sure(flags, &question, out)? {
            admin.delete_acls(&rules.iter().map(of).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn must_have_target(flags: &Flags) -> Result<(), End> {
    if flags.count(&EVERY_KIND) == 0 {
        let text = "You must provide at least one resource: --topic <topic> or --cluster or --group <group> or \
                    --delegation-token <Delegation Token ID>";
        return Err(End::usage(text));
    }
    Ok(())
}

fn is_sure(flags: &Flags, question: &str, out: &mut Out) -> Result<bool, End> {
    if flags.has("force") {
        return Ok(true);
    }
    writeln!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn filter((resource, name, pattern): Target) -> AclFilter {
    AclFilter { resource: Some(resource), name: Some(name), pattern: Some(pattern), ..AclFilter::default() }
}

fn list(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let targets = targets(flags, &EVERY_KIND)?;
    let filters = match targets.is_empty() {
        true => vec![AclFilter { pattern: Some(any_unless_said(flags)?), ..AclFilter::default() }],
        false => targets.into_iter().map(filter).collect(),
    };
    let mut found: BTreeMap<Target, BTreeSet<Acl>> = BTreeMap::new();
    for filter in filters {
        for acl in admin.describe_acls(&filter)? {
            found.entry((acl.resource.clone(), acl.name.clone(), acl.pattern.clone())).or_default().insert(acl);
        }
    }
    let principals = flags.values("principal");
    if principals.is_empty() {
        return show(&found, |_| true, out);
    }
    for principal in principals {
        writeln!(out, "ACLs for principal `{principal}`")?;
        show(&found, |acl| acl.principal == principal, out)?;
    }
    Ok(())
}

fn any_unless_said(flags: &Flags) -> Result<String, End> {
    if flags.has("resource-pattern-type") { pattern(flags) } else { Ok("ANY".to_owned()) }
}

fn show(found: &BTreeMap<Target, BTreeSet<Acl>>, is_shown: impl Fn(&Acl) -> bool, out: &mut Out) -> Result<(), End> {
    for (target, acls) in found {
        let acls: Vec<_> = acls.iter().filter(|acl| is_shown(acl)).cloned().collect();
        if !acls.is_empty() {
            writeln!(out, "Current ACLs for resource `{}`: \n {} \n", written(target), rows(&acls))?;
        }
    }
    Ok(())
}

fn written((resource, name, pattern): &Target) -> String {
    format!("ResourcePattern(resourceType={resource}, name={name}, patternType={pattern})")
}

fn row(acl: &Acl) -> String {
    let Acl { principal, host, operation, permission, .. } = acl;
    format!("(principal={principal}, host={host}, operation={operation}, permissionType={permission})")
}

fn rows(acls: &[Acl]) -> String {
    acls.iter().map(|acl| format!("\t{}", row(acl))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(line: &str) -> Vec<String> {
        let flags = Flags::parse(FLAGS, &line.split(' ').map(str::to_owned).collect::<Vec<_>>()).expect("flags");
        let rules = rules(&flags).expect("rules");
        let row = |acl: &Acl| format!("{} {} {} {}", acl.permission, acl.operation, acl.resource, acl.name);
        rules.values().flatten().map(row).collect()
    }

    #[test]
    fn what_the_flags_grant() {
        let one = "--add --topic a --operation DescribeConfigs --deny-principal User:x";
        assert_eq!(rules_of(one), ["DENY DESCRIBE_CONFIGS TOPIC a"]);
        assert_eq!(rules_of("--add --cluster --allow-principal User:x"), ["ALLOW ALL CLUSTER kafka-cluster"]);
        let consumer = "--add --consumer --topic a --group g --allow-principal User:x";
        assert_eq!(rules_of(consumer), ["ALLOW READ GROUP g", "ALLOW DESCRIBE TOPIC a", "ALLOW READ TOPIC a"]);
        let producer = "--add --producer --topic a --idempotent --allow-principal User:x";
        assert_eq!(rules_of(producer).len(), 4);
    }
}
