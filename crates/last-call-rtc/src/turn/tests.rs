//! URLs, and the client in conversation with turn-server-proto's server.
