//! Access rules.

use rdkafka::bindings as c;

use super::{Admin, Failure, Owned};
use super::{array, failure_at, made, pointers, text_at, text_for};

/// An access rule; its words are Kafka's, in capitals: `TOPIC`, `LITERAL`, `READ`, `ALLOW`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// Kind of what it protects.
    pub resource: String,
    /// Name of what it protects.
    pub name: String,
    /// How the name is to be understood.
    pub pattern: String,
    /// Whom it is about.
    pub principal: String,
    /// From where.
    pub host: String,
    /// Doing what.
    pub operation: String,
    /// Allowed or denied.
    pub permission: String,
}

/// Which access rules: each part may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// Kind of what they protect.
    pub resource: Option<String>,
    /// Name of what they protect.
    pub name: Option<String>,
    /// How the name is to be understood.
    pub pattern: Option<String>,
    /// Whom they are about.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// Doing what.
    pub operation: Option<String>,
    /// Allowed or denied.
    pub permission: Option<String>,
}

/// Kafka's words and librdkafka's values, in the order of the protocol.
macro_rules! words {
    ($parse:ident, $name:ident, $kind:ident: $($word:literal = $value:ident),* $(,)?) => {
        fn $parse(word: &str) -> Result<c::$kind, Failure> {
            match word {
                $($word => Ok(c::$kind::$value),)*
                _ => Err(Failure::of(42, &format!("{word} is not known here."))),
            }
        }

        fn $name(value: c::$kind) -> String {
            let word = match value {
                $(c::$kind::$value => $word,)*
                _ => "UNKNOWN",
            };
            word.to_owned()
        }
    };
}

words!(to_resource, of_resource, rd_kafka_ResourceType_t:
    "ANY" = RD_KAFKA_RESOURCE_ANY,
    "TOPIC" = RD_KAFKA_RESOURCE_TOPIC,
    "GROUP" = RD_KAFKA_RESOURCE_GROUP,
    // The protocol has one number for the cluster and for its brokers.
    "CLUSTER" = RD_KAFKA_RESOURCE_BROKER,
    "TRANSACTIONAL_ID" = RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
);
words!(to_pattern, of_pattern, rd_kafka_ResourcePatternType_t:
    "ANY" = RD_KAFKA_RESOURCE_PATTERN_ANY,
    "MATCH" = RD_KAFKA_RESOURCE_PATTERN_MATCH,
    "LITERAL" = RD_KAFKA_RESOURCE_PATTERN_LITERAL,
    "PREFIXED" = RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
);
words!(to_operation, of_operation, rd_kafka_AclOperation_t:
    "ANY" = RD_KAFKA_ACL_OPERATION_ANY,
    "ALL" = RD_KAFKA_ACL_OPERATION_ALL,
    "READ" = RD_KAFKA_ACL_OPERATION_READ,
    "WRITE" = RD_KAFKA_ACL_OPERATION_WRITE,
    "CREATE" = RD_KAFKA_ACL_OPERATION_CREATE,
    "DELETE" = RD_KAFKA_ACL_OPERATION_DELETE,
    "ALTER" = RD_KAFKA_ACL_OPERATION_ALTER,
    "DESCRIBE" = RD_KAFKA_ACL_OPERATION_DESCRIBE,
    "CLUSTER_ACTION" = RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION,
    "DESCRIBE_CONFIGS" = RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
    "ALTER_CONFIGS" = RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
    "IDEMPOTENT_WRITE" = RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE,
);
words!(to_permission, of_permission, rd_kafka_AclPermissionType_t:
    "ANY" = RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
    "DENY" = RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
    "ALLOW" = RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
);

impl Acl {
    fn made(&self) -> Result<Owned<c::rd_kafka_AclBinding_t>, Failure> {
        let (resource, pattern) = (to_resource(&self.resource)?, to_pattern(&self.pattern)?);
        let (operation, permission) = (to_operation(&self.operation)?, to_permission(&self.permission)?);
        let (name, principal, host) = (text_for(&self.name)?, text_for(&self.principal)?, text_for(&self.host)?);
        // SAFETY: the texts are copied.
        unsafe {
            made(c::rd_kafka_AclBinding_destroy, |text, size| {
                let (name, principal, host) = (name.as_ptr(), principal.as_ptr(), host.as_ptr());
                c::rd_kafka_AclBinding_new(resource, name, pattern, principal, host, operation, permission, text, size)
            })
        }
    }
}

impl AclFilter {
    fn made(&self) -> Result<Owned<c::rd_kafka_AclBindingFilter_t>, Failure> {
        let any = |word: &Option<String>| word.clone().unwrap_or_else(|| "ANY".to_owned());
        let (resource, pattern) = (to_resource(&any(&self.resource))?, to_pattern(&any(&self.pattern))?);
        let (operation, permission) = (to_operation(&any(&self.operation))?, to_permission(&any(&self.permission))?);
        let maybe = |text: &Option<String>| text.as_deref().map(text_for).transpose();
        let (name, principal, host) = (maybe(&self.name)?, maybe(&self.principal)?, maybe(&self.host)?);
        let at = |text: &Option<std::ffi::CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: the texts are copied; null is anything. A filter is an access rule in librdkafka, freed by the same function.
        unsafe {
            made(c::rd_kafka_AclBinding_destroy, |text, size| {
                let (name, principal, host) = (at(&name), at(&principal), at(&host));
                c::rd_kafka_AclBindingFilter_new(
                    resource, name, pattern, principal, host, operation, permission, text, size,
                )
            })
        }
    }
}

impl Admin {
    /// The access rules that a filter finds, sorted.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Failure> {
        let filter = filter.made()?;
        // SAFETY: see the head of the room.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS;
            let answer = self.ask(op, "describeAcls", |call| {
                c::rd_kafka_DescribeAcls(call.rk, filter.pointer, call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DescribeAcls_result(answer.event());
            Ok(rules(array(|count| c::rd_kafka_DescribeAcls_result_acls(result, count))))
        }
    }

    /// Makes access rules.
    ///
    /// # Errors
    /// If the cluster refuses one or does not answer.
    pub fn create_acls(&self, acls: &[Acl]) -> Result<(), Failure> {
        let acls = acls.iter().map(Acl::made).collect::<Result<Vec<_>, _>>()?;
        let mut acls_at = pointers(&acls);
        // SAFETY: see the head of the room.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEACLS;
            let answer = self.ask(op, "createAcls", |call| {
                c::rd_kafka_CreateAcls(call.rk, acls_at.as_mut_ptr(), acls_at.len(), call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_CreateAcls_result(answer.event());
            let results = array(|count| c::rd_kafka_CreateAcls_result_acls(result, count));
            results.iter().try_for_each(|at| failure_at(c::rd_kafka_acl_result_error(*at)).map_or(Ok(()), Err))
        }
    }

    /// Deletes the access rules that filters find; answers what was deleted, sorted.
    ///
    /// # Errors
    /// If the cluster refuses it or does not answer.
    pub fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Acl>, Failure> {
        let filters = filters.iter().map(AclFilter::made).collect::<Result<Vec<_>, _>>()?;
        let mut filters_at = pointers(&filters);
        // SAFETY: see the head of the room.
        unsafe {
            let op = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEACLS;
            let answer = self.ask(op, "deleteAcls", |call| {
                c::rd_kafka_DeleteAcls(call.rk, filters_at.as_mut_ptr(), filters_at.len(), call.options, call.queue);
            })?;
            let result = c::rd_kafka_event_DeleteAcls_result(answer.event());
            let mut deleted = Vec::new();
            for response in array(|count| c::rd_kafka_DeleteAcls_result_responses(result, count)) {
                failure_at(c::rd_kafka_DeleteAcls_result_response_error(*response)).map_or(Ok(()), Err)?;
                let matching = array(|count| c::rd_kafka_DeleteAcls_result_response_matching_acls(*response, count));
                deleted.extend(rules(matching));
            }
            Ok(deleted)
        }
    }
}

/// # Safety
/// Rules that live for the call.
unsafe fn rules(found: &[*const c::rd_kafka_AclBinding_t]) -> Vec<Acl> {
    // SAFETY: as the caller promises.
    let rule = |at: &*const c::rd_kafka_AclBinding_t| unsafe {
        Acl {
            resource: of_resource(c::rd_kafka_AclBinding_restype(*at)),
            name: text_at(c::rd_kafka_AclBinding_name(*at)),
            pattern: of_pattern(c::rd_kafka_AclBinding_resource_pattern_type(*at)),
            principal: text_at(c::rd_kafka_AclBinding_principal(*at)),
            host: text_at(c::rd_kafka_AclBinding_host(*at)),
            operation: of_operation(c::rd_kafka_AclBinding_operation(*at)),
            permission: of_permission(c::rd_kafka_AclBinding_permission_type(*at)),
        }
    };
    let mut rules: Vec<_> = found.iter().map(rule).collect();
    rules.sort();
    rules
}
