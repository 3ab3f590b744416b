//! The server as programs and people meet it: official SDKs, hostile clients, followers of its events and webhooks, a
//! browser.

mod bounds;
mod browser;
mod events;
mod page;
mod running;
mod sdk;
mod webhooks;
