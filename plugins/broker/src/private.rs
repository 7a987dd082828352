//! Topics that the broker has for itself.

/// What is below is for nobody else.
const PRIVATE: &str = "$forebay/";

/// Whether a topic or filter is the broker's own. Wildcards do not find what begins with `$`.
pub fn is_private(topic: &str) -> bool {
    mqtt5::parse_shared_subscription(topic).0.starts_with(PRIVATE)
}
