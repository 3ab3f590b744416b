//! The promises on the real livekit-server, and over a network whose cable can be cut.
//!
//! Owns one file for each side of it: dispatches of every kind, the drain, the server's own restarts, the
//! network, wedged neighbours, load, the wire, and the example of the README. Refuses times: they are
//! printed as figures (`--nocapture` shows them) and only bounded so that a hang ends.

mod desk;
mod dispatch;
mod drain;
mod echo;
mod hello;
mod load;
mod network;
mod rescue;
mod restart;
mod rooms;
mod scene;
mod server_log;
mod wedged;
mod wire;
