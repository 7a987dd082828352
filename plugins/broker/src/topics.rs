//! Topics that are the broker's own. Wildcards do not find them: they begin with `$`.

const PRIVATE: &str = "$forebay/";

/// Whether a topic, or a filter, shared or not, is the broker's own.
pub fn is_private(topic: &str) -> bool {
    mqtt5::parse_shared_subscription(topic).0.starts_with(PRIVATE)
}
