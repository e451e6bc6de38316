//! Changes to the configs of one resource: checked as a whole, then written as one command.

use kafka_protocol::protocol::StrBytes;
use metadata::command::Command;
use metadata::model::topic_config::{Kind, definition, validate};

use crate::catalog::{Found, TopicRef, resolve};
use crate::context::Context;
use crate::limits;
use crate::submit::{Refused, submit_within};
use crate::wire::error_code::ErrorCode;

/// Number of a topic on the wire (Kafka's `ConfigResource.Type`).
pub const TOPIC: i8 = 2;
/// Number of a broker.
pub const BROKER: i8 = 4;

/// What is to become of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Set(String),
    /// Its default holds again.
    Delete,
    /// These words join the list.
    Append(String),
    /// These words leave the list.
    Subtract(String),
}

/// The topic a config request names.
pub async fn topic(context: &Context, name: &str) -> Result<Found, Refused> {
    let found = resolve(&context.services, &[TopicRef::Name(name.into())]).await.pop().flatten();
    found.ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })
}

/// Refuses what is not a topic: the gateway's own settings come from its configuration and need a restart.
fn check_resource(resource_type: i8) -> Result<(), Refused> {
    match resource_type {
        TOPIC => Ok(()),
        BROKER => Err(Refused::new(
            ErrorCode::InvalidRequest,
            "Cannot update these configs dynamically: a gateway's settings come from its command line, environment and file.",
        )),
        other => {
            Err(Refused::new(ErrorCode::InvalidRequest, format!("Configs of resource type {other} are not supported.")))
        }
    }
}

/// What a request wants of one resource.
#[derive(Debug)]
pub struct Wanted {
    /// Number of its kind on the wire.
    pub resource_type: i8,
    /// Its name.
    pub name: StrBytes,
    /// Its changes in order, or why they are none.
    pub changes: Result<Vec<(String, Change)>, Refused>,
}

/// What became of it.
#[derive(Debug)]
pub struct Altered {
    /// Number of its kind on the wire.
    pub resource_type: i8,
    /// Its name.
    pub name: StrBytes,
    /// Kafka's code.
    pub error_code: i16,
    /// What is wrong, for people.
    pub error_message: Option<StrBytes>,
}

/// Changes resources, one after the other, each as a whole or not at all. `replace` drops every own value that is not among a
/// resource's changes (AlterConfigs).
pub async fn alter(context: &Context, wanted: Vec<Wanted>, replace: bool, validate_only: bool) -> Vec<Altered> {
    let mut altered = Vec::with_capacity(wanted.len());
    for Wanted { resource_type, name, changes } in wanted {
        let changed = match check_resource(resource_type).and(changes) {
            Ok(changes) => apply(context, &name, changes, replace, validate_only).await,
            Err(refused) => Err(refused),
        };
        let (error_code, error_message) = match changed {
            Ok(()) => (ErrorCode::None.code(), None),
            Err(refused) => (refused.code.code(), Some(StrBytes::from_string(refused.message))),
        };
        altered.push(Altered { resource_type, name, error_code, error_message });
    }
    altered
}

/// Applies changes to a topic. `replace` drops every own value that is not among them (AlterConfigs).
async fn apply(
    context: &Context,
    name: &str,
    changes: Vec<(String, Change)>,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refused> {
    let found = topic(context, name).await?;
    let own = context.services.metadata.read(|state| state.topics().get(found.id).map(|t| t.configs().clone()));
    let own = own.unwrap_or_default();
    let mut resolved: Vec<(String, Option<String>)> = Vec::new();
    for (config, change) in changes {
        if resolved.iter().any(|(earlier, _)| *earlier == config) {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                format!("Error due to duplicate config keys: {config}"),
            ));
        }
        let value = next_value(&config, change, own.get(&config).map(String::as_str))?;
        resolved.push((config, value));
    }
    if replace {
        let dropped = own.keys().filter(|key| !resolved.iter().any(|(config, _)| config == *key));
        let dropped: Vec<_> = dropped.map(|key| (key.clone(), None)).collect();
        resolved.extend(dropped);
    }
    if validate_only || resolved.is_empty() {
        return Ok(());
    }
    tracing::info!(topic = %found.name, changes = ?resolved, client = %context.client_id, "topic configs changed");
    let command = Command::SetTopicConfigs { topic: found.id, changes: resolved };
    let wait = i32::try_from(limits::ADMIN_WAIT.as_millis()).unwrap_or(i32::MAX);
    submit_within(&context.services.metadata, command, wait).await.map(|_| ())
}

fn next_value(config: &str, change: Change, own: Option<&str>) -> Result<Option<String>, Refused> {
    let invalid = |why: String| Refused::new(ErrorCode::InvalidConfig, why);
    let known = definition(config).ok_or_else(|| invalid(format!("Unknown topic config name: {config}")))?;
    let words = |text: &str| text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect::<Vec<_>>();
    let value = match change {
        Change::Delete => return Ok(None),
        Change::Set(value) => value,
        Change::Append(_) | Change::Subtract(_) if !matches!(known.kind, Kind::List(_)) => {
            let why = format!("Can't APPEND to or SUBTRACT from key {config} because its type is not LIST.");
            return Err(invalid(why));
        }
        Change::Append(more) => {
            let mut list = words(own.unwrap_or(known.default));
            words(&more).into_iter().for_each(|word| {
                if !list.contains(&word) {
                    list.push(word)
                }
            });
            list.join(",")
        }
        Change::Subtract(less) => {
            let less = words(&less);
            let mut list = words(own.unwrap_or(known.default));
            list.retain(|word| !less.contains(word));
            list.join(",")
        }
    };
    validate(config, &value).map(Some).map_err(|e| invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink() {
        let append =
            |own| next_value("follower.replication.throttled.replicas", Change::Append("b, c".into()), own).unwrap();
        assert_eq!(append(Some("a,b")), Some("a,b,c".into()));
        assert_eq!(append(None), Some("b,c".into()));
        let subtract = next_value("follower.replication.throttled.replicas", Change::Subtract("a".into()), Some("a,b"));
        assert_eq!(subtract.unwrap(), Some("b".into()));
        let wrong = next_value("retention.ms", Change::Append("1".into()), None).unwrap_err();
        assert_eq!(wrong.code, ErrorCode::InvalidConfig);
    }

    #[test]
    fn compaction_may_be_added_and_what_is_not_done_is_refused_clearly() {
        let both = next_value("cleanup.policy", Change::Append("compact".into()), None);
        assert_eq!(both.unwrap(), Some("delete,compact".into()));
        let refused = next_value("remote.storage.enable", Change::Set("true".into()), None).unwrap_err();
        assert!(refused.message.contains("not supported"), "{}", refused.message);
    }
}
