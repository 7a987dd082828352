//! The plugins in this build: the only file that names one.

use std::sync::Arc;

use forebay_sdk::{Plugin, world::Web};

use crate::config::Types;
#[cfg(feature = "forebay-script")]
use crate::config::{DropIns, Standard};

/// The types of this build, with those that a folder brings along.
pub fn types() -> Types {
    let types = Types::new(all().into_iter().chain(standard()).collect());
    #[cfg(feature = "forebay-script")]
    let types = types.loading(drop_ins());
    types
}

/// Every native plugin that this build has.
pub fn all() -> Vec<Plugin> {
    #[cfg(feature = "forebay-script")]
    forebay_sdk::expression::learn(&forebay_script::Rhai);
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
        #[cfg(feature = "forebay-join")]
        forebay_join::plugin(),
        #[cfg(feature = "forebay-schedule")]
        forebay_schedule::plugin(),
        #[cfg(feature = "forebay-bridge")]
        forebay_bridge::plugin(),
        #[cfg(feature = "forebay-codec")]
        forebay_codec::plugin(),
        #[cfg(feature = "forebay-validate")]
        forebay_validate::plugin(),
        #[cfg(feature = "forebay-gpio")]
        forebay_gpio::plugin(),
        #[cfg(feature = "forebay-router")]
        forebay_router::plugin(),
        #[cfg(feature = "forebay-self")]
        forebay_self::plugin(),
        #[cfg(feature = "forebay-timer")]
        forebay_timer::plugin(),
        #[cfg(feature = "forebay-log")]
        forebay_log::plugin(),
        #[cfg(feature = "forebay-file")]
        forebay_file::plugin(),
    ]
}

/// Every script plugin that this build has. One of the same name in a folder takes its place.
pub fn standard() -> Vec<Plugin> {
    #[cfg(feature = "forebay-script")]
    let plugins = STANDARD.iter().map(|plugin| drop_ins().standard(plugin)).collect();
    #[cfg(not(feature = "forebay-script"))]
    let plugins = Vec::new();
    plugins
}

/// Who speaks HTTP for nodes that do not.
pub fn web() -> Option<Arc<dyn Web>> {
    #[cfg(feature = "forebay-http")]
    let web: Option<Arc<dyn Web>> = Some(Arc::new(forebay_http::Http));
    #[cfg(not(feature = "forebay-http"))]
    let web = None;
    web
}

/// What scripts see and call, as a file that editors read.
pub fn definitions() -> String {
    #[cfg(feature = "forebay-script")]
    let text = drop_ins().0.definitions();
    #[cfg(not(feature = "forebay-script"))]
    let text = String::new();
    text
}

#[cfg(feature = "forebay-script")]
fn drop_ins() -> DropIns {
    DropIns(Arc::new(forebay_script::Rhai))
}

/// Their folders.
#[cfg(feature = "forebay-script")]
pub const STANDARD: &[Standard] = &[
    Standard {
        name: "degree-days",
        manifest: include_str!("../plugins/degree-days/plugin.yaml"),
        script: include_str!("../plugins/degree-days/degree-days.rhai"),
    },
    Standard {
        name: "geofence",
        manifest: include_str!("../plugins/geofence/plugin.yaml"),
        script: include_str!("../plugins/geofence/geofence.rhai"),
    },
    Standard {
        name: "heat",
        manifest: include_str!("../plugins/heat/plugin.yaml"),
        script: include_str!("../plugins/heat/heat.rhai"),
    },
    Standard {
        name: "home-assistant",
        manifest: include_str!("../plugins/home-assistant/plugin.yaml"),
        script: include_str!("../plugins/home-assistant/home-assistant.rhai"),
    },
    Standard {
        name: "oee",
        manifest: include_str!("../plugins/oee/plugin.yaml"),
        script: include_str!("../plugins/oee/oee.rhai"),
    },
    Standard {
        name: "shelly",
        manifest: include_str!("../plugins/shelly/plugin.yaml"),
        script: include_str!("../plugins/shelly/shelly.rhai"),
    },
    Standard {
        name: "tasmota",
        manifest: include_str!("../plugins/tasmota/plugin.yaml"),
        script: include_str!("../plugins/tasmota/tasmota.rhai"),
    },
    Standard {
        name: "topic-names",
        manifest: include_str!("../plugins/topic-names/plugin.yaml"),
        script: include_str!("../plugins/topic-names/topic-names.rhai"),
    },
    Standard {
        name: "track",
        manifest: include_str!("../plugins/track/plugin.yaml"),
        script: include_str!("../plugins/track/track.rhai"),
    },
    Standard {
        name: "unit-convert",
        manifest: include_str!("../plugins/unit-convert/plugin.yaml"),
        script: include_str!("../plugins/unit-convert/unit-convert.rhai"),
    },
];
