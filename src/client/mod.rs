//! What runs beside the person: their agent and keys, and the API over HTTP. For the CLI and for
//! hosts; nothing here decides anything.

pub mod agent;
pub mod api;
pub mod certificate;
pub mod host;
pub mod identity;
pub mod own_agent;
pub mod published;
pub mod state;
pub mod subject;
