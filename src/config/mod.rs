//! Text to graph: a folder of files becomes a [`Draft`], and a draft without errors a [`Graph`].
//! Every key and value keeps its place.

pub mod buffer;
pub mod common;
pub mod draft;
pub mod drop_in;
pub mod envelope;
#[cfg(test)]
pub(crate) mod example;
mod expand;
pub mod filled;
pub mod folder;
pub mod graph;
mod inside;
pub mod link;
mod load;
pub mod loader;
mod modules;
mod overlooked;
mod pipeline;
pub mod places;
mod profile;
mod read_part;
pub mod runtime;
mod secrets;
#[cfg(test)]
pub(crate) mod tests;
pub mod texts;
pub mod types;
pub mod variables;
pub mod watch;
mod watched;

pub use self::{
    buffer::{Batch, Buffer, Order, Store, WhenFull},
    common::{Common, StateKept},
    draft::{Draft, How, Part, Pipeline, Upstream, Uses},
    drop_in::{DropIns, Standard},
    envelope::EnvelopeSettings,
    filled::Unshown,
    folder::{Copy, Folder, Place},
    graph::{ConnectionSpec, Graph, Name, NodeSpec, Output, Wire, Wires},
    link::{KnownLinks, LinkRule},
    load::{WHOLE, load, load_copy, load_instead, load_part, load_whole},
    loader::{Loader, Reading},
    places::Places,
    runtime::Runtime,
    texts::Texts,
    types::{ExpansionEntry, NodeTypeEntry, Types},
    variables::Environment,
    watched::Watched,
};
