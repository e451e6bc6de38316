//! Access rules. There is no authorizer yet, so they answer what a Kafka broker without `authorizer.class.name` does; clients and
//! consoles that look for rules take that for "there are none", where an API that is missing is an error to them.

pub mod create_acls;
pub mod delete_acls;
pub mod describe_acls;

/// What a Kafka broker without an authorizer says.
const NO_AUTHORIZER: &str = "No Authorizer is configured.";
