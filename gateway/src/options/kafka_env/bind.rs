//! `listeners`, `advertised.listeners`, `listener.security.protocol.map`: several doors, each with its own address outside.

use std::collections::BTreeMap;

use toml::Value;

use super::super::listeners::HostPort;
use super::super::load::OptionsError;
use super::{Properties, Property, Surroundings, Translated, refusal};

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const PROTOCOLS: &str = "listener.security.protocol.map";
const CONTROLLERS: &str = "controller.listener.names";
/// The controllers' listener where nobody says so; every example calls it this.
const CONTROLLER: &str = "CONTROLLER";

/// What an image serves when nobody says anything.
const IMAGE_LISTENERS: &str = "PLAINTEXT://:9092";

const NO_SECURITY: &str = "listeners with SSL or SASL are not built yet, and serving this one without would leave it open; \
                           give it the protocol PLAINTEXT, or keep Kafka for it";

/// Writes `listen` and `advertise`.
pub(super) fn listeners(
    properties: &Properties,
    around: &Surroundings,
    to: &mut Translated,
) -> Result<(), OptionsError> {
    let set = |name: &str| properties.get(name).filter(|property| !property.value.is_empty());
    let (listeners, advertised) = (set(LISTENERS), set(ADVERTISED));
    if listeners.is_none() && advertised.is_none() && !around.image {
        return Ok(());
    }
    let controllers = controllers(set(CONTROLLERS));
    let protocols = set(PROTOCOLS).map(protocols).transpose()?.unwrap_or_default();
    let told = match advertised {
        Some(property) => places(property, ADVERTISED, &controllers)?,
        None => Vec::new(),
    };
    let binds = match (listeners, advertised) {
        (Some(property), _) => places(property, LISTENERS, &controllers)?,
        // The images listen on the advertised ports then.
        (None, Some(_)) => {
            told.iter().map(|(name, at)| (name.clone(), HostPort { host: String::new(), port: at.port })).collect()
        }
        (None, None) => {
            let is_bitnami = |origin: &str| origin.starts_with("KAFKA_CFG_") || origin == "ALLOW_PLAINTEXT_LISTENER";
            let bitnami = properties.values().any(|property| is_bitnami(&property.origin));
            // Of a Bitnami container the name is told, of the others localhost, as their own defaults do.
            let host = if bitnami { around.host.as_str() } else { "localhost" };
            to.table.insert("listen".into(), Value::String(IMAGE_LISTENERS.into()));
            to.table.insert("advertise".into(), Value::String(format!("PLAINTEXT://{host}:9092")));
            return Ok(());
        }
    };
    let source = listeners.or(advertised).expect("both absent has returned above");
    let source_name = if listeners.is_some() { LISTENERS } else { ADVERTISED };
    if binds.is_empty() {
        return Err(refusal(source, source_name, "has no listener for clients"));
    }
    let (mut listen, mut advertise) = (Vec::new(), Vec::new());
    for (name, bind) in &binds {
        let protocol = protocols.get(name).map_or(name.as_str(), String::as_str);
        match protocol {
            "PLAINTEXT" => {}
            "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => {
                return Err(refusal(source, source_name, &format!("{name} is {protocol}: {NO_SECURITY}")));
            }
            _ => {
                let reason = format!("listener {name} has no protocol; add {name}:PLAINTEXT to {PROTOCOLS}");
                return Err(refusal(source, source_name, &reason));
            }
        }
        let place = match (told.iter().find(|(other, _)| other == name), advertised) {
            (Some((_, place)), _) => place.clone(),
            (None, Some(property)) => {
                return Err(refusal(property, ADVERTISED, &format!("names no address for listener {name}")));
            }
            (None, None) => bind.clone(),
        };
        if !place.host.is_empty() && place.is_wildcard() {
            let (at, key) = advertised.map_or((source, LISTENERS), |property| (property, ADVERTISED));
            let reason = format!("clients of {name} would be told {place}, where nobody can connect; set {ADVERTISED}");
            return Err(refusal(at, key, &reason));
        }
        let host = if place.host.is_empty() { around.host.clone() } else { place.host };
        listen.push(format!("{name}://{bind}"));
        advertise.push(format!("{name}://{}", HostPort { host, port: place.port }));
    }
    if let (Some((name, _)), Some(property)) =
        (told.iter().find(|(name, _)| !binds.iter().any(|(other, _)| other == name)), advertised)
    {
        return Err(refusal(property, ADVERTISED, &format!("there is no listener {name} in {LISTENERS}")));
    }
    to.remarks.origins.insert("listen".into(), source.origin.clone());
    to.remarks.origins.insert("advertise".into(), advertised.unwrap_or(source).origin.clone());
    to.table.insert("listen".into(), Value::String(listen.join(",")));
    to.table.insert("advertise".into(), Value::String(advertise.join(",")));
    Ok(())
}

fn controllers(property: Option<&Property>) -> Vec<String> {
    let named = property.map(|p| p.value.split(',').map(|name| name.trim().to_uppercase()).collect::<Vec<_>>());
    let mut names = named.unwrap_or_default();
    names.push(CONTROLLER.to_owned());
    names
}

fn protocols(property: &Property) -> Result<BTreeMap<String, String>, OptionsError> {
    let pairs = property.value.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| {
        let (name, protocol) = pair
            .split_once(':')
            .ok_or_else(|| refusal(property, PROTOCOLS, &format!("`{pair}` must be NAME:PROTOCOL")))?;
        let protocol = protocol.trim().to_uppercase();
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            return Err(refusal(property, PROTOCOLS, &format!("there is no protocol `{protocol}`")));
        }
        Ok((name.trim().to_uppercase(), protocol))
    });
    read.collect()
}

/// The listeners of a list, without the controllers'.
fn places(property: &Property, key: &str, controllers: &[String]) -> Result<Vec<(String, HostPort)>, OptionsError> {
    let parts = property.value.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read = parts.map(|part| {
        let bad = || refusal(property, key, &format!("`{part}` must be NAME://host:port"));
        let (name, address) = part.split_once("://").ok_or_else(bad)?;
        Ok((name.to_uppercase(), HostPort::parse(address).ok_or_else(bad)?))
    });
    let all = read.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|(name, _)| !controllers.contains(name)).collect())
}
