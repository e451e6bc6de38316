//! Settings of topics, brokers and groups.

use rdkafka::bindings as c;

use super::{Admin, Failure, Owned};
use super::{array, failure_at, maybe_text_at, text_at, text_for};

/// Whose settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A topic's.
    Topic(String),
    /// A broker's; those of all brokers if the id is empty.
    Broker(String),
    /// A group's.
    Group(String),
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Nothing if it may not be shown.
    pub value: Option<String>,
    /// Where the value comes from, in Kafka's words.
    pub source: &'static str,
    /// Whether it may not be shown.
    pub is_sensitive: bool,
    /// The places it could come from, the strongest first.
    pub synonyms: Vec<ConfigEntry>,
}

impl ConfigEntry {
    /// Whether nobody has set it.
    pub fn is_default(&self) -> bool {
        self.source == "DEFAULT_CONFIG"
    }
}

/// What is to become of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// It gets this value.
    Set(String),
    /// It goes back to its default.
    Delete,
}

impl Resource {
    fn made(&self) -> Result<Owned<c::rd_kafka_ConfigResource_t>, Failure> {
        use c::rd_kafka_ResourceType_t as Type;
        let (kind, name) = match self {
            Self::Topic(name) => (Type::RD_KAFKA_RESOURCE_TOPIC, name),
            Self::Broker(id) => (Type::RD_KAFKA_RESOURCE_BROKER, id),
            Self::Group(name) => (Type::RD_KAFKA_RESOURCE_GROUP, name),
        };
        let name = text_for(name)?;
        // SAFETY: the name is copied.
        let pointer = unsafe { c::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        if pointer.is_null() {
            return Err(Failure::of(42, "A name is needed."));
        }
        Ok(Owned { pointer, free: c::rd_kafka_ConfigResource_destroy })
    }
}

impl Admin {
    /// The settings of one resource, as the cluster orders them.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, Failure> {
        let asked = resource.made()?;
        // SAFETY: see the head of the room.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
            let answer = self.ask(op, "describeConfigs", |call| {
                c::rd_kafka_DescribeConfigs(call.rk, &mut { asked.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DescribeConfigs_result(answer.event());
            let mut entries = Vec::new();
            for resource in array(|count| c::rd_kafka_DescribeConfigs_result_resources(result, count)) {
                outcome(*resource)?;
                let found = array(|count| c::rd_kafka_ConfigResource_configs(*resource, count));
                entries.extend(found.iter().map(|at| entry(*at)));
            }
            Ok(entries)
        }
    }

    /// Changes settings and leaves the others as they are.
    ///
    /// # Errors
    /// If the cluster refuses one, all of them; or if it does not answer.
    pub fn alter_configs(&self, resource: &Resource, changes: &[(String, Alteration)]) -> Result<(), Failure> {
        use c::rd_kafka_AlterConfigOpType_t as Type;
        let asked = resource.made()?;
        // SAFETY: names and values are copied; an error is owned; see the head of the room for the rest.
        unsafe {
            for (name, change) in changes {
                let name = text_for(name)?;
                let (kind, value) = match change {
                    Alteration::Set(value) => (Type::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, Some(text_for(value)?)),
                    Alteration::Delete => (Type::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, None),
                };
                let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
                let error =
                    c::rd_kafka_ConfigResource_add_incremental_config(asked.pointer, name.as_ptr(), kind, value);
                if !error.is_null() {
                    let error = Owned { pointer: error, free: c::rd_kafka_error_destroy };
                    failure_at(error.pointer).map_or(Ok(()), Err)?;
                }
            }
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
            let answer = self.ask(op, "incrementalAlterConfigs", |call| {
                c::rd_kafka_IncrementalAlterConfigs(call.rk, &mut { asked.pointer }, 1, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_IncrementalAlterConfigs_result(answer.event());
            let resources = array(|count| c::rd_kafka_IncrementalAlterConfigs_result_resources(result, count));
            resources.iter().try_for_each(|resource| outcome(*resource))
        }
    }
}

/// # Safety
/// A resource of an answer that lives for the call.
unsafe fn outcome(resource: *const c::rd_kafka_ConfigResource_t) -> Result<(), Failure> {
    // SAFETY: as the caller promises.
    let (code, text) = unsafe {
        let text = text_at(c::rd_kafka_ConfigResource_error_string(resource));
        (c::rd_kafka_ConfigResource_error(resource) as i32, text)
    };
    if code == 0 { Ok(()) } else { Err(Failure::of(code, &text)) }
}

/// # Safety
/// An entry that lives for the call.
unsafe fn entry(at: *const c::rd_kafka_ConfigEntry_t) -> ConfigEntry {
    // SAFETY: as the caller promises.
    unsafe {
        let synonyms = array(|count| c::rd_kafka_ConfigEntry_synonyms(at, count));
        ConfigEntry {
            name: text_at(c::rd_kafka_ConfigEntry_name(at)),
            value: maybe_text_at(c::rd_kafka_ConfigEntry_value(at)),
            source: source(c::rd_kafka_ConfigEntry_source(at)),
            is_sensitive: c::rd_kafka_ConfigEntry_is_sensitive(at) != 0,
            synonyms: synonyms.iter().map(|at| entry(*at)).collect(),
        }
    }
}

fn source(source: c::rd_kafka_ConfigSource_t) -> &'static str {
    use c::rd_kafka_ConfigSource_t as Source;
    match source {
        Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => "DYNAMIC_TOPIC_CONFIG",
        Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG => "DYNAMIC_BROKER_CONFIG",
        Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        Source::RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG => "STATIC_BROKER_CONFIG",
        Source::RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG => "DEFAULT_CONFIG",
        Source::RD_KAFKA_CONFIG_SOURCE_GROUP_CONFIG => "GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}
