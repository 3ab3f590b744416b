//! The server as a program meets it: official SDKs, hostile clients, followers of its events and webhooks.

mod bounds;
mod events;
mod running;
mod sdk;
mod webhooks;
