//! The proxies of the child's environment, each with a stand-in on loopback: a worker that asks its proxy for guard
//! finds guard, and for everything else that proxy.
//!
//! Owns the stand-ins and the variables that name them. Refuses to choose a proxy: which variable counts for what is
//! the client's own reading of them.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use tokio::task::AbortHandle;

use super::front::{Front, accept, listen};
use super::relay::{self, Answer, Hop, refusal};
use crate::error::StartError;
use crate::socket::Proxy;

/// The variables of proxies that workers read: the SDK in Python hands them to its client itself, and asks none of them
/// whether the address is local.
const VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

/// The running stand-ins. Dropped, they close.
#[derive(Debug)]
pub(crate) struct Forward {
    stand_ins: Vec<StandIn>,
}

#[derive(Debug)]
struct StandIn {
    variable: &'static str,
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a stand-in for each variable that names a proxy, on the thread of `front`; none where there is none.
///
/// # Errors
/// When the system has no port.
pub(crate) fn start(
    front: &Front,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Forward>, StartError> {
    let mut stand_ins = Vec::new();
    for name in VARIABLES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        let Some(proxy) = Proxy::parse(&value) else {
            tracing::warn!(
                "{name} names no http:// proxy, so the child keeps it: a worker that asks it for guard's address on loopback does not register"
            );
            continue;
        };
        let failed = |error| StartError::System { what: "port on loopback for the child's proxy", error };
        let listener = listen().map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let route = Arc::new(Route { guard: front.address, proxy: Arc::new(proxy) });
        let serving = accept(listener, move |tcp| {
            let route = Arc::clone(&route);
            async move { relay::serve(tcp, |request| route.choose(request)).await }
        });
        let task = front.runtime.spawn(serving).abort_handle();
        stand_ins.push(StandIn { variable: name, address, task });
    }
    Ok((!stand_ins.is_empty()).then_some(Forward { stand_ins }))
}

impl Forward {
    /// Gives the child the stand-ins in place of the proxies.
    pub(crate) fn environment(&self, command: &mut Command) {
        for StandIn { variable, address, task: _ } in &self.stand_ins {
            command.env(variable, format!("http://{address}"));
        }
    }
}

/// Where a request goes.
struct Route {
    guard: SocketAddr,
    proxy: Arc<Proxy>,
}

impl Route {
    fn choose(&self, request: &mut Parts) -> Result<Hop, Box<Answer>> {
        let Some(authority) = request.uri.authority() else {
            let text = "this is guard's stand-in for a proxy: name a host in the request line";
            return Err(Box::new(refusal(request, StatusCode::BAD_REQUEST, text)));
        };
        if self.is_guard(authority) {
            return Ok(Hop::Here(self.guard));
        }
        if let Some(credentials) = self.proxy.credentials() {
            request.headers.insert(PROXY_AUTHORIZATION, credentials.clone());
        }
        Ok(Hop::Proxy(Arc::clone(&self.proxy)))
    }

    fn is_guard(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let local = host.eq_ignore_ascii_case("localhost") || host.parse() == Ok(self.guard.ip());
        local && authority.port_u16() == Some(self.guard.port())
    }
}

#[cfg(test)]
mod tests;
