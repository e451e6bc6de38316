//! Configs as clients are shown them: value in force, where it comes from, type, doc and synonyms.

use metadata::model::topic_config::{DEFINITIONS, Definition, Effect, Kind};

use crate::options::kafka::{KafkaSettings, SETTINGS, Setting};

/// Where a value comes from (Kafka's `ConfigEntry.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The topic's own.
    Topic,
    /// The gateway's configuration.
    StaticBroker,
    /// Built in.
    Default,
}

impl Source {
    /// Its number on the wire.
    pub fn number(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// One config with everything there is to say of it.
#[derive(Debug, Clone)]
pub struct Described {
    /// Kafka's name.
    pub name: &'static str,
    /// Value in force.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// Kafka's number of the type (`ConfigDef.Type`).
    pub kind: i8,
    /// Whether no request can change it.
    pub read_only: bool,
    /// What it means.
    pub doc: String,
    /// Every name that could have set it, nearest first, with the value each gives.
    pub synonyms: Vec<(&'static str, String, Source)>,
}

/// Every config of a topic whose own values `own` looks up, in name order.
pub fn topic_configs<'a>(
    kafka: &'a KafkaSettings,
    own: impl Fn(&str) -> Option<&'a str> + 'a,
) -> impl Iterator<Item = Described> + 'a {
    DEFINITIONS.iter().map(move |definition| {
        let mut synonyms = Vec::new();
        if let Some(value) = own(definition.name) {
            synonyms.push((definition.name, value.to_owned(), Source::Topic));
        }
        synonyms.extend(broker_synonyms(kafka, definition));
        describe(definition.name, definition.kind, doc(definition), false, synonyms)
    })
}

/// Every setting of the gateway, in name order.
pub fn broker_configs(kafka: &KafkaSettings) -> Vec<Described> {
    let settings = SETTINGS.iter().map(|setting: &Setting| {
        let mut synonyms = Vec::new();
        if let Some(value) = kafka.explicit(setting.name) {
            synonyms.push((setting.name, value.to_owned(), Source::StaticBroker));
        }
        synonyms.push((setting.name, setting.default.to_owned(), Source::Default));
        describe(setting.name, setting.kind, setting.doc.to_owned(), true, synonyms)
    });
    let defaults = DEFINITIONS.iter().filter_map(|definition| {
        let name = definition.broker_name?;
        Some(describe(name, definition.kind, doc(definition), true, broker_synonyms(kafka, definition)))
    });
    let mut all: Vec<_> = settings.chain(defaults).collect();
    all.sort_by_key(|described| described.name);
    all.dedup_by_key(|described| described.name);
    all
}

fn broker_synonyms(kafka: &KafkaSettings, definition: &Definition) -> Vec<(&'static str, String, Source)> {
    let name = definition.broker_name.unwrap_or(definition.name);
    let set = kafka.topic_default(definition.name).map(|value| (name, value.to_owned(), Source::StaticBroker));
    set.into_iter().chain([(name, definition.default.to_owned(), Source::Default)]).collect()
}

fn describe(
    name: &'static str,
    kind: Kind,
    doc: String,
    read_only: bool,
    synonyms: Vec<(&'static str, String, Source)>,
) -> Described {
    let (value, source) = synonyms.first().map_or((String::new(), Source::Default), |(_, v, s)| (v.clone(), *s));
    Described { name, value, source, kind: number(kind), read_only, doc, synonyms }
}

fn doc(definition: &Definition) -> String {
    match definition.effect {
        Effect::Acts => definition.doc.to_owned(),
        Effect::NoEffect(why) => format!("{} Accepted without effect: {why}.", definition.doc),
    }
}

fn number(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Choice(_) => 2,
        Kind::Int(..) => 3,
        Kind::Long(..) => 5,
        Kind::Double(..) => 6,
        Kind::List(_) => 7,
    }
}
