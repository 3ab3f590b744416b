//! Owns one direction of one connection: a reader that says when each piece is due, and a writer that keeps to it. Refuses to reorder but
//! where the script asks for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::script::{Cutter, Frame, Piece, Verdict};
use super::{Direction, End, Lane, Shared, Way};
use crate::cut::Cut;

/// Pieces between reader and writer: a frozen direction soon fills the sender's buffers, and a delay still has room to work.
const UNDER_WAY: usize = 256;
/// Bytes per read.
const READ: usize = 16 * 1024;

/// Bytes and when they may be written.
struct Due {
    at: Instant,
    bytes: Bytes,
}

pub(super) struct Pump {
    shared: Arc<Shared>,
    connection: u64,
    direction: Direction,
    end: watch::Sender<Option<End>>,
    lane: watch::Receiver<Lane>,
    /// Half-closes ordered before this connection came.
    closes: u64,
}

impl Pump {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: u64,
        direction: Direction,
        end: watch::Sender<Option<End>>,
    ) -> Self {
        let lane = shared.way(direction).lane.subscribe();
        let closes = lane.borrow().closes;
        Self { shared, connection, direction, end, lane, closes }
    }

    /// Carries bytes until the sender ends or a half-close is ordered, and then ends the receiver's side.
    pub(super) async fn run(self, from: ReadHalf<TcpStream>, mut to: WriteHalf<TcpStream>) {
        let (due, pieces) = mpsc::channel(UNDER_WAY);
        let mut lane = self.lane.clone();
        let closes = self.closes;
        let shared = Arc::clone(&self.shared);
        let way = shared.way(self.direction);
        let carried = async {
            let (_, _) = tokio::join!(self.read(from, due), write(&mut to, way, pieces));
        };
        tokio::select! {
            () = carried => {}
            _ = lane.wait_for(|lane| lane.closes > closes) => {}
        }
        // The receiver may be gone already.
        let _ = to.shutdown().await;
    }

    async fn read(self, mut from: ReadHalf<TcpStream>, due: mpsc::Sender<Due>) {
        let mut buffer = vec![0; READ];
        let mut cutter = Cutter::default();
        let mut held: Option<Bytes> = None;
        let mut last = Instant::now();
        let mut chance = 0;
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let lateness = self.lateness(&mut chance);
            if !self.shared.script.is_some() {
                last = last.max(Instant::now() + lateness);
                let bytes = Bytes::copy_from_slice(&buffer[..read]);
                if due.send(Due { at: last, bytes }).await.is_err() {
                    return;
                }
                continue;
            }
            cutter.push(&buffer[..read]);
            while let Some(piece) = cutter.next() {
                let Some((later, bytes)) = self.judge(piece, &mut held) else { return };
                last = last.max(Instant::now() + lateness + later);
                for bytes in bytes {
                    if due.send(Due { at: last, bytes }).await.is_err() {
                        return;
                    }
                }
            }
        }
        if self.direction == Direction::ToServer {
            self.shared.left().insert(self.connection);
        }
        // A frame that was to go behind the next, and the half of one, still arrive before the end.
        for bytes in held.into_iter().chain([cutter.rest()]) {
            let _ = due.send(Due { at: last, bytes }).await;
        }
    }

    /// What goes on of a piece, and how much later; `None` when the connection is to end.
    fn judge(&self, piece: Piece, held: &mut Option<Bytes>) -> Option<(Duration, Vec<Bytes>)> {
        let wire = match piece {
            Piece::Plain(bytes) => return Some((Duration::ZERO, vec![bytes])),
            Piece::Frame(wire) => wire,
        };
        let Ok(frame) = Frame::open(self.connection, self.direction, wire.clone()) else {
            return Some((Duration::ZERO, vec![wire]));
        };
        let (later, passed) = match self.shared.script.judge(&frame) {
            Verdict::Pass => (Duration::ZERO, wire),
            Verdict::Delay(later) => (later, wire),
            Verdict::Replace(bytes) => (Duration::ZERO, bytes),
            Verdict::Drop => return Some((Duration::ZERO, Vec::new())),
            Verdict::Hold => {
                let before = held.replace(wire);
                return Some((Duration::ZERO, before.into_iter().collect()));
            }
            Verdict::Close => {
                self.end.send_replace(Some(End::Cut(Cut::Fin)));
                return None;
            }
        };
        Some((later, [passed].into_iter().chain(held.take()).collect()))
    }

    fn lateness(&self, chance: &mut u64) -> Duration {
        let lane = self.lane.borrow();
        let faults = &lane.faults;
        *chance += 1;
        let share = (split_mix(faults.seed.wrapping_add(*chance)) >> 11) as f64 / (1_u64 << 53) as f64;
        faults.delay + faults.jitter.mul_f64(share)
    }
}

/// SplitMix64: well-mixed numbers from a counter.
pub(crate) fn split_mix(counter: u64) -> u64 {
    let mut mixed = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

async fn write(to: &mut WriteHalf<TcpStream>, way: &Way, mut pieces: mpsc::Receiver<Due>) {
    let mut lane = way.lane.subscribe();
    while let Some(Due { at, mut bytes }) = pieces.recv().await {
        tokio::time::sleep_until(at).await;
        while !bytes.is_empty() {
            let Ok((faults, budget)) =
                lane.wait_for(|lane| !lane.frozen).await.map(|lane| (lane.faults.clone(), lane.budget))
            else {
                return;
            };
            if faults.blackhole {
                break;
            }
            let largest = faults.chunk.unwrap_or(if faults.rate.is_some() { 1024 } else { READ }).max(1);
            let allowed = budget.map_or(largest, |budget| largest.min(budget.min(READ as u64) as usize));
            let chunk = bytes.split_to(allowed.min(bytes.len()));
            if to.write_all(&chunk).await.is_err() {
                return;
            }
            spend(way, chunk.len() as u64);
            if let Some(rate) = faults.rate {
                tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate.max(1) as f64)).await;
            }
        }
    }
    // An end arrives as little as a byte does.
    let _ = lane.wait_for(|lane| !lane.frozen).await;
}

/// Counts bytes that have arrived, and freezes the direction when its budget is used up.
fn spend(way: &Way, bytes: u64) {
    way.bytes.fetch_add(bytes, Ordering::Relaxed);
    way.lane.send_if_modified(|lane| {
        let Some(budget) = lane.budget.as_mut() else { return false };
        *budget = budget.saturating_sub(bytes);
        lane.frozen |= *budget == 0;
        lane.frozen
    });
}
