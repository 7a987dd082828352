//! The native node types in this build: the only file that names a plugin.

use forebay_sdk::Plugin;

/// Every plugin that this build has, in the order in which `forebay nodes` lists them.
pub fn all() -> Vec<&'static Plugin> {
    vec![
        #[cfg(feature = "forebay-modbus")]
        &forebay_modbus::PLUGIN,
        #[cfg(feature = "forebay-mqtt")]
        &forebay_mqtt::PLUGIN,
        #[cfg(feature = "forebay-http")]
        &forebay_http::PLUGIN,
        #[cfg(feature = "forebay-broker")]
        &forebay_broker::PLUGIN,
        #[cfg(feature = "forebay-script")]
        &forebay_script::PLUGIN,
        #[cfg(feature = "forebay-map")]
        &forebay_map::PLUGIN,
        #[cfg(feature = "forebay-timer")]
        &forebay_timer::PLUGIN,
        #[cfg(feature = "forebay-log")]
        &forebay_log::PLUGIN,
        #[cfg(feature = "forebay-file")]
        &forebay_file::PLUGIN,
    ]
}
