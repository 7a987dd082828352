//! The rules of this folder.

use forebay_sdk::Rule;

/// A bridge publishes what it subscribes to, on a connection that brings it back.
pub static BRIDGE_ECHO: Rule = Rule::new("bridge-echo", include_str!("../rules/bridge-echo.md"));
/// A bridge subscribes on a session that the broker forgets.
pub static FORGETFUL_BRIDGE: Rule =
    Rule::new("forgetful-bridge", include_str!("../rules/forgetful-bridge.md"));
/// A topic holds a placeholder, and nothing is put in its place.
pub static LITERAL_PLACEHOLDER: Rule =
    Rule::new("literal-placeholder", include_str!("../rules/literal-placeholder.md"));
/// A client id may be longer than the broker takes.
pub static LONG_CLIENT_ID: Rule =
    Rule::new("long-client-id", include_str!("../rules/long-client-id.md"));
/// A setting is for MQTT 5, and the connection speaks 3.1.1.
pub static NEEDS_MQTT_5: Rule = Rule::new("needs-mqtt-5", include_str!("../rules/needs-mqtt-5.md"));
/// One topic filter of a source asks for what another asks for too.
pub static OVERLAPPING_FILTERS: Rule =
    Rule::new("overlapping-filters", include_str!("../rules/overlapping-filters.md"));
/// The port belongs to the other kind of connection: with TLS, or without.
pub static PORT_MISMATCH: Rule =
    Rule::new("port-mismatch", include_str!("../rules/port-mismatch.md"));
/// The service behind a connection does not take what is asked of it.
pub static REFUSED_BY_SERVICE: Rule =
    Rule::new("refused-by-service", include_str!("../rules/refused-by-service.md"));
/// A topic filter stands twice in one list.
pub static REPEATED_FILTER: Rule =
    Rule::new("repeated-filter", include_str!("../rules/repeated-filter.md"));
/// A node publishes to a topic that is not there for clients.
pub static RESERVED_TOPIC: Rule =
    Rule::new("reserved-topic", include_str!("../rules/reserved-topic.md"));
/// The broker of a service that has ended.
pub static RETIRED_BROKER: Rule =
    Rule::new("retired-broker", include_str!("../rules/retired-broker.md"));
/// A session that the broker is to keep has no client id.
pub static SESSION_WITHOUT_ID: Rule =
    Rule::new("session-without-id", include_str!("../rules/session-without-id.md"));
/// A keep-alive that the way to the broker may not bear.
pub static UNFIT_KEEP_ALIVE: Rule =
    Rule::new("unfit-keep-alive", include_str!("../rules/unfit-keep-alive.md"));
/// A will is not kept for who subscribes later; or a birth message stays at the broker, and the will that would replace it does not.
pub static UNRETAINED_WILL: Rule =
    Rule::new("unretained-will", include_str!("../rules/unretained-will.md"));

/// All of them.
pub static RULES: [&Rule; 14] = [
    &BRIDGE_ECHO,
    &FORGETFUL_BRIDGE,
    &LITERAL_PLACEHOLDER,
    &LONG_CLIENT_ID,
    &NEEDS_MQTT_5,
    &OVERLAPPING_FILTERS,
    &PORT_MISMATCH,
    &REFUSED_BY_SERVICE,
    &REPEATED_FILTER,
    &RESERVED_TOPIC,
    &RETIRED_BROKER,
    &SESSION_WITHOUT_ID,
    &UNFIT_KEEP_ALIVE,
    &UNRETAINED_WILL,
];
