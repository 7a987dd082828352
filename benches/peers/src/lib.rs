//! What the programs of the comparison share: their arguments, the message, and looking at processes.

pub mod arguments;
pub mod processes;
pub mod reading;
