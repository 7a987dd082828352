//! The promises, kept against real peers: Mosquitto, a Modbus server that others wrote, and the
//! built program itself. `tests/run` installs what is needed and runs everything.

mod support;

mod arm64;
mod black_hole;
mod bridges;
mod crash;
mod cut_links;
mod devices;
mod disk_buffer;
mod disk_trouble;
mod doctor;
mod first_boot;
mod gpio;
mod hostile;
mod hub;
mod image;
mod last_good;
mod live;
mod many_askers;
mod modbus;
mod mqtt5;
mod mqtt_payloads;
mod node_red;
mod outage;
mod plugins;
mod reload;
mod remembered;
mod router;
mod services;
mod stop;
mod transforms;
mod transports;

mod bad_input;
mod broken;
mod buffer;
mod editor;
mod examples;
mod expressions;
mod mutations;
mod page;
mod release;
mod schemas;
mod secrets;
mod seeing;
mod tidy;
mod tools;
mod verbs;
