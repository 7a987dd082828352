//! What a node is given beside its settings.

use std::{any::Any, path::Path, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{connection::Shared, held::Saved, link::Links, voice::Voice, world::World};

/// Where a node stands: its name, its folders, what it may use, and what one of its name remembered.
#[derive(Clone)]
pub struct Site {
    /// The node's name, as `pipeline/node`, or the name of the connection.
    pub name: Arc<str>,
    /// The folder of the configuration: names of files in settings are relative to it.
    pub folder: Arc<Path>,
    /// A folder of the node's own, for what must survive a restart. Made by whoever first writes.
    pub data: Arc<Path>,
    /// The connection it uses, when its type uses one.
    pub connection: Option<Shared>,
    /// The entries of `from:`, as written: what [`crate::Input::from`] can be.
    pub inputs: Arc<[Arc<str>]>,
    /// What a node of this name remembered.
    pub memory: Option<Saved>,
    /// The way outside.
    pub world: World,
    /// Tells how the node is.
    pub voice: Voice,
    /// How the links to the outside are. A connection that knows one tells it by its own name.
    pub links: Links,
}

impl Site {
    /// The connection, when it is a `T`.
    pub fn connection<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.connection.as_ref()?.get()
    }

    /// What a node of this name remembered, when it is of this version. What is of another, or does
    /// not fit, is forgotten, and the log says so.
    pub fn remembered<T: DeserializeOwned>(&self, version: u32) -> Option<T> {
        let saved = self.memory.as_ref()?;
        let read = saved.read(version);
        if read.is_none() {
            self.voice.trouble(&anyhow::anyhow!(
                "what the node remembered is of another version ({}, expected {version}) and is \
                 forgotten",
                saved.version
            ));
        }
        read
    }
}
