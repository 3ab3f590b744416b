//! Owns a DNS server that knows one name, on UDP port 53 of an address in a namespace. Refuses zones, TCP and every type but A: a program
//! that finds its server through this one asked the network for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;

use crate::host::Host;

const PORT: u16 = 53;
const HEADER: usize = 12;
/// A response, with recursion, as the question wished it.
const ANSWERED: [u8; 2] = [0x81, 0x80];
const NO_SUCH_NAME: [u8; 2] = [0x81, 0x83];
/// Type A in class IN, as a question ends.
const AN_ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// A running DNS server. Its port closes when it is dropped.
#[derive(Debug)]
pub struct Dns {
    asked: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
    _host: Host,
}

impl Dns {
    /// Listens on port 53 of `bind`, in the network namespace `netns`, and answers that `name` is at `address`.
    ///
    /// # Errors
    /// When the namespace or the port is refused.
    pub fn start(netns: &str, bind: IpAddr, name: &str, address: Ipv4Addr) -> Result<Self> {
        let host = Host::start("dns", Some(netns))?;
        let socket = host.call(async move {
            let bind = SocketAddr::new(bind, PORT);
            UdpSocket::bind(bind).await.with_context(|| format!("cannot bind {bind}"))
        })?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let gone = Arc::new(AtomicBool::new(false));
        let (heard, silent, name) = (Arc::clone(&asked), Arc::clone(&gone), name.to_owned());
        host.spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Some((question, end)) = question(&buffer[..length]) else { continue };
                let known = question == name;
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(question);
                if silent.load(Ordering::Relaxed) {
                    continue;
                }
                // Whoever asked may be gone.
                let _ = socket.send_to(&answer(&buffer[..end], known, address), from).await;
            }
        });
        Ok(Self { asked, gone, _host: host })
    }

    /// Whether it leaves questions without an answer from now on.
    pub fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    /// The names that were asked for so far, in order, once for each question.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name in the first question of a packet, and where that question ends.
fn question(packet: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let end = at + AN_ADDRESS.len();
    (end <= packet.len()).then(|| (labels.join("."), end))
}

/// The answer to a packet that ends with its one question: the address where it was asked for, nothing for other types.
fn answer(packet: &[u8], known: bool, address: Ipv4Addr) -> Vec<u8> {
    let found = known && packet.ends_with(&AN_ADDRESS);
    let mut answer = packet.to_vec();
    answer[2..4].copy_from_slice(if known { &ANSWERED } else { &NO_SUCH_NAME });
    // One question, as many answers, and nothing else: what the question carried behind it is cut off.
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    if found {
        // The name, by pointing at the question; the type; a minute to live; four bytes.
        answer.extend([0xC0, 12]);
        answer.extend(AN_ADDRESS);
        answer.extend([0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
