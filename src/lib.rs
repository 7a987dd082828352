//! Forebay: pipelines as YAML files in a folder. `README.md` beside this file has the map.

pub mod api;
pub mod cli;
pub mod config;
pub mod engine;
pub mod lint;
pub mod plugins;
pub mod rules;
pub mod warnings;
