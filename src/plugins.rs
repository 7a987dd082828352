//! The native plugins in this build: the only file that names one.

use forebay_sdk::Plugin;

/// Every plugin that this build has.
pub fn all() -> Vec<Plugin> {
    vec![
        #[cfg(feature = "forebay-modbus")]
        forebay_modbus::plugin(),
        #[cfg(feature = "forebay-mqtt")]
        forebay_mqtt::plugin(),
        #[cfg(feature = "forebay-http")]
        forebay_http::plugin(),
        #[cfg(feature = "forebay-broker")]
        forebay_broker::plugin(),
        #[cfg(feature = "forebay-script")]
        forebay_script::plugin(),
        #[cfg(feature = "forebay-map")]
        forebay_map::plugin(),
        #[cfg(feature = "forebay-dedupe")]
        forebay_dedupe::plugin(),
        #[cfg(feature = "forebay-deadband")]
        forebay_deadband::plugin(),
        #[cfg(feature = "forebay-throttle")]
        forebay_throttle::plugin(),
        #[cfg(feature = "forebay-debounce")]
        forebay_debounce::plugin(),
        #[cfg(feature = "forebay-delay")]
        forebay_delay::plugin(),
        #[cfg(feature = "forebay-split")]
        forebay_split::plugin(),
        #[cfg(feature = "forebay-batch")]
        forebay_batch::plugin(),
        #[cfg(feature = "forebay-counter")]
        forebay_counter::plugin(),
        #[cfg(feature = "forebay-alarm")]
        forebay_alarm::plugin(),
        #[cfg(feature = "forebay-window")]
        forebay_window::plugin(),
        #[cfg(feature = "forebay-timer")]
        forebay_timer::plugin(),
        #[cfg(feature = "forebay-log")]
        forebay_log::plugin(),
        #[cfg(feature = "forebay-file")]
        forebay_file::plugin(),
    ]
}
