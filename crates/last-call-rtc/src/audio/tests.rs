//! Owns a tone on its way from a source to a stream, over a network that loses and delays. Refuses sockets and clocks: the
//! network is a list, and time is a number.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use proptest::prelude::*;

use super::jitter::{JitterBuffer, Pace, Pull};
use super::stretch::Stretch;
use super::*;

const TONE: f64 = 440.0;

/// The tone, for so many frames of 20 ms.
fn tone(source: &AudioSource, frames: u32) {
    let (rate, channels) = (source.sample_rate(), source.channels());
    let samples = (0..rate / 50 * frames).flat_map(|moment| {
        let sample = 10_000.0 * (f64::from(moment) / f64::from(rate) * TONE * std::f64::consts::TAU).sin();
        std::iter::repeat_n(sample as i16, usize::from(channels))
    });
    let frame = AudioFrame { samples: samples.collect(), sample_rate: rate, channels };
    let mut context = Context::from_waker(Waker::noop());
    let mut captured = std::pin::pin!(source.capture(&frame));
    assert_eq!(captured.as_mut().poll(&mut context), Poll::Ready(Ok(())));
}

/// What the stream has, all of it.
fn heard(stream: &mut AudioStream) -> Vec<i16> {
    let mut context = Context::from_waker(Waker::noop());
    let mut samples = Vec::new();
    while let Poll::Ready(Some(frame)) = std::pin::Pin::new(&mut *stream).poll_next(&mut context) {
        samples.extend(frame.samples);
    }
    samples
}

/// The tone's share of the power, in the mean of all tenths of a second: where a packet is guessed the phase may leap.
fn purity(samples: &[i16], rate: u32) -> f64 {
    let windows = samples.chunks_exact(rate as usize / 10);
    let count = windows.len() as f64;
    windows.map(|window| purity_of(window, rate)).sum::<f64>() / count
}

fn purity_of(samples: &[i16], rate: u32) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * TONE / f64::from(rate)).cos();
    let (mut one, mut two, mut power) = (0.0, 0.0, 0.0);
    for sample in samples.iter().map(|sample| f64::from(*sample)) {
        (two, one) = (one, sample + turn * one - two);
        power += sample * sample;
    }
    if power == 0.0 {
        return 0.0;
    }
    2.0 * (one * one + two * two - turn * one * two) / (power * samples.len() as f64)
}

fn stream(track: &mut ReceiveTrack, sample_rate: u32, channels: u16) -> AudioStream {
    let queue = Duration::from_secs(60);
    let options = AudioStreamOptions { sample_rate, channels, queue, ..AudioStreamOptions::default() };
    let (stream, attached) = AudioStream::new(&options).expect("options that can be");
    track.attach(attached);
    stream
}

/// A source, its way to a stream, and the time, which goes on by milliseconds.
struct Line {
    begin: Instant,
    now: Instant,
    source: AudioSource,
    sending: SendTrack,
    sent: u32,
    way: Vec<(Instant, u32, OutPacket)>,
    track: ReceiveTrack,
    stream: AudioStream,
}

impl Line {
    fn new(rate: u32, channels: u16, red: bool) -> Self {
        let source = AudioSource::with_queue(rate, channels, Duration::from_secs(200));
        let options = SendOptions { red, dtx: false, bitrate: 48_000 };
        // Just before the timestamps wrap.
        let sending = SendTrack::new(&source, options, u32::MAX - 20 * PACKET).expect("a format that can be");
        let mut track = ReceiveTrack::default();
        let stream = stream(&mut track, rate, channels);
        let begin = Instant::now();
        Self { begin, now: begin, source, sending, sent: 0, way: Vec::new(), track, stream }
    }

    /// A millisecond, in which each packet is lost or delayed as `fate` says (`None`, or milliseconds).
    fn step(&mut self, mut fate: impl FnMut(u32) -> Option<u64>) -> Vec<i16> {
        self.now += Duration::from_millis(1);
        let now = self.now;
        while self.sending.due(now).is_some_and(|at| at <= now) {
            let Some(packet) = self.sending.tick(now) else { continue };
            if let Some(late) = fate(self.sent) {
                self.way.push((now + Duration::from_millis(late), self.sent, packet));
            }
            self.sent += 1;
        }
        self.way.sort_by_key(|(at, sequence, _)| (*at, *sequence));
        while self.way.first().is_some_and(|(at, ..)| *at <= now) {
            let (at, sequence, packet) = self.way.remove(0);
            self.track.packet(at, packet.red, sequence.into(), packet.timestamp, &packet.payload);
        }
        if self.track.due().is_some_and(|at| at <= now) {
            self.track.tick(now);
        }
        heard(&mut self.stream)
    }

    fn milliseconds(&self) -> u64 {
        self.now.duration_since(self.begin).as_millis() as u64
    }
}

fn say(source: &AudioSource, samples: Vec<i16>) {
    let frame = AudioFrame { samples, sample_rate: source.sample_rate(), channels: source.channels() };
    let mut context = Context::from_waker(Waker::noop());
    let mut captured = std::pin::pin!(source.capture(&frame));
    assert_eq!(captured.as_mut().poll(&mut context), Poll::Ready(Ok(())));
}

/// Frames of 20 ms, said live from some moment on, one in thirteen loud: how long each of these takes to the stream.
fn ways(phase: u64, mut fate: impl FnMut(u32) -> Option<u64>) -> Vec<u64> {
    let mut line = Line::new(48_000, 1, true);
    let (mut said, mut ways) = (None, Vec::new());
    for frame in 0..1_000 {
        for at in 0..20 {
            if at == phase && frame % 13 == 12 {
                tone(&line.source, 1);
                said = Some(line.milliseconds());
            } else if at == phase {
                say(&line.source, vec![0; 960]);
            }
            if line.step(&mut fate).iter().any(|sample| sample.unsigned_abs() > 500) {
                ways.extend(said.take().map(|said| line.milliseconds() - said));
            }
        }
    }
    ways
}

/// Whenever it is said: nobody's clock is waited for.
#[test]
fn a_good_network_is_heard_after_little_more_than_a_packet() {
    for phase in [0, 5, 10, 19] {
        let ways = ways(phase, |_| Some(1));
        assert!(ways.len() > 70 && ways.iter().all(|way| *way <= 25), "said at {phase} ms: {ways:?}");
    }
    // It gets bad, and good again: what the delay has grown by is taken back.
    let mut seed = fastrand::Rng::with_seed(7);
    let ways = ways(3, |packet| Some(if (100..400).contains(&packet) { seed.u64(0..100) } else { 1 }));
    let (bad, good) = (ways[20], ways[ways.len() - 1]);
    assert!((80..150).contains(&bad) && good <= 45, "{bad} ms, then {good} ms: {ways:?}");
}

/// All of it after a wait, and then in time: what waits too long is taken out of the wave, and nobody hears it.
#[test]
fn a_tone_that_is_caught_up_stays_a_tone() {
    for (rate, channels) in [(48_000, 1), (44_100, 2), (16_000, 1)] {
        let mut line = Line::new(rate, channels, true);
        tone(&line.source, 500);
        let (second, mut samples) = (rate as usize * usize::from(channels), Vec::new());
        for _ in 0..9_000 {
            // The network stands still, and brings the first fifteen at once.
            samples.extend(line.step(|packet| Some(300_u64.saturating_sub(u64::from(packet) * 20) + 1)));
        }
        assert!(line.track.counts().skipped >= 5, "{:?}", line.track.counts());
        let missing = 9_000 - samples.len() / (second / 1000);
        assert!(missing < 400, "{missing} ms of nine seconds are missing");
        let left: Vec<i16> = samples.iter().step_by(usize::from(channels)).copied().collect();
        let worst = worst(&left[rate as usize / 10..], rate);
        assert!(worst > 0.95, "{rate} Hz, {channels} channels: {worst}");
    }
}

/// The delays of packets grow, and what is heard with them: something is put into the wave before anything is missing.
#[test]
fn a_delay_that_grows_is_a_tone_too() {
    let mut line = Line::new(48_000, 1, true);
    tone(&line.source, 1_000);
    let mut seed = fastrand::Rng::with_seed(7);
    let mut samples = Vec::new();
    for _ in 0..20_000 {
        samples.extend(line.step(|packet| Some(seed.u64(0..=u64::from(packet / 10)))));
    }
    let counts = line.track.counts();
    assert!(counts.stalled == 0 && counts.lost < 5, "{counts:?}");
    let purity = purity(&samples[4_800..], 48_000);
    assert!(purity > 0.98, "{purity}");
}

/// The smallest share of the tone in any 20 ms.
fn worst(samples: &[i16], rate: u32) -> f64 {
    let windows = samples.chunks_exact(rate as usize / 50);
    windows.map(|window| purity_of(window, rate)).fold(1.0, f64::min)
}

#[test]
fn what_is_put_in_and_taken_out_is_not_heard() {
    for rate in [8_000, 48_000] {
        let mut stretch = Stretch::new(rate, 1);
        let packet = rate as usize / 50;
        let wave: Vec<i16> = (0..packet * 30)
            .map(|moment| {
                (10_000.0 * (moment as f64 / f64::from(rate) * TONE * std::f64::consts::TAU).sin()) as i16
            })
            .collect();
        let (mut samples, mut longer) = (Vec::new(), 0);
        for (index, part) in wave.chunks_exact(packet).enumerate() {
            stretch.push(part);
            if index < 15 {
                stretch.lengthen(PACKET)
            } else {
                stretch.shorten()
            }
            if index < 15 && stretch.has(PACKET) {
                stretch.spend(PACKET);
                longer += 1;
            }
            stretch.give(|given| samples.extend_from_slice(given));
        }
        assert!(longer >= 3 && stretch.is_even(), "{longer} packets longer");
        assert!(
            (samples.len() / packet).abs_diff(30 + longer) <= 1,
            "{} of {longer}",
            samples.len() / packet
        );
        let worst = worst(&samples, rate);
        assert!(worst > 0.95, "{rate} Hz: {worst}");
    }
}

#[test]
fn packets_of_any_length_are_heard() {
    for (milliseconds, lost, least) in
        [(10, 0, 0.99), (40, 0, 0.99), (60, 0, 0.99), (10, 10, 0.75), (40, 10, 0.75), (60, 10, 0.75)]
    {
        let mut encoder =
            opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).expect("an encoder");
        encoder.set_bitrate(opus::Bitrate::Bits(24_000)).expect("a bitrate");
        encoder.set_inband_fec(true).expect("FEC");
        encoder.set_packet_loss_perc(10).expect("a loss");
        let mut track = ReceiveTrack::default();
        let mut stream = stream(&mut track, 48_000, 1);
        let (begin, mut samples) = (Instant::now(), Vec::new());
        for at in 0..6_000_u32 {
            let now = begin + Duration::from_millis(at.into());
            let (index, moments) = (at / milliseconds, milliseconds * 48);
            if at % milliseconds == 0 && (lost == 0 || index % lost != 5) {
                let wave: Vec<i16> = (index * moments..(index + 1) * moments)
                    .map(|moment| {
                        (10_000.0 * (f64::from(moment) / 48_000.0 * TONE * std::f64::consts::TAU).sin())
                            as i16
                    })
                    .collect();
                let payload = encoder.encode_vec(&wave, 1_275).expect("a packet");
                track.packet(now, false, index.into(), index * moments, &payload);
            }
            if track.due().is_some_and(|at| at <= now) {
                track.tick(now);
            }
            samples.extend(heard(&mut stream));
        }
        let heard = samples.len() / 48;
        assert!((5_900..=6_000).contains(&heard), "{milliseconds} ms: {heard} ms are heard");
        let purity = purity(&samples[48_000..], 48_000);
        assert!(purity > least, "packets of {milliseconds} ms, {lost}: {purity}");
    }
}

/// Ten seconds of the tone, over a network as `fate` says.
fn over(rate: u32, channels: u16, red: bool, mut fate: impl FnMut(u32) -> Option<u64>) -> Vec<i16> {
    let mut line = Line::new(rate, channels, red);
    tone(&line.source, 500);
    let samples: Vec<i16> = (0..11_000).flat_map(|_| line.step(&mut fate)).collect();
    // Without the beginning, which is silence, and the end.
    let second = rate as usize * usize::from(channels);
    samples[second..second * 9].to_vec()
}

/// The longest run of silence, in milliseconds.
fn silence(samples: &[i16], rate: u32) -> usize {
    let loud = samples.split(|sample| sample.unsigned_abs() > 64).map(<[i16]>::len).max();
    loud.unwrap_or(0) * 1000 / rate as usize
}

#[test]
fn a_tone_arrives_whole_at_every_rate() {
    for (rate, channels) in [(8_000, 1), (16_000, 1), (24_000, 1), (44_100, 1), (48_000, 1), (48_000, 2)] {
        let samples = over(rate, channels, true, |_| Some(0));
        let left: Vec<i16> = samples.iter().step_by(usize::from(channels)).copied().collect();
        let purity = purity(&left, rate);
        assert!(purity > 0.99, "{rate} Hz, {channels} channels: {purity}");
        assert!(silence(&left, rate) < 5, "{rate} Hz: a gap of {} ms", silence(&left, rate));
    }
}

#[test]
fn redundancy_fills_losses_and_the_buffer_rides_out_jitter() {
    // One in twenty is lost, never two in a row.
    let samples = over(48_000, 1, true, |tick| (tick % 20 != 7).then_some(0));
    assert!(purity(&samples, 48_000) > 0.98, "{}", purity(&samples, 48_000));
    assert!(silence(&samples, 48_000) < 20, "a gap of {} ms", silence(&samples, 48_000));
    // Up to 100 ms late, and so out of order.
    let mut seed = fastrand::Rng::with_seed(7);
    let samples = over(48_000, 1, true, |_| Some(seed.u64(0..100)));
    assert!(purity(&samples, 48_000) > 0.9, "{}", purity(&samples, 48_000));
}

/// A fifth is lost, anyhow: sent twice, most of it is whole; sent once, it is guessed.
#[test]
fn a_fifth_lost_is_still_a_tone() {
    for (red, least) in [(true, 0.85), (false, 0.6)] {
        let mut seed = fastrand::Rng::with_seed(7);
        let samples = over(48_000, 1, red, |_| (seed.u32(0..5) != 0).then_some(0));
        let purity = purity(&samples, 48_000);
        assert!(purity > least, "red: {red}, {purity}");
    }
}

#[test]
fn redundant_packets_read_back_and_arbitrary_ones_do_no_harm() {
    let mut writer = red::RedWriter::default();
    let first = writer.write(111, 1000, &[1, 2, 3]);
    let second = writer.write(111, 1960, &[4, 5]);
    let far = writer.write(111, 1960 + 20_000, &[6]);
    let read = |packet: &[u8]| -> Vec<(u32, Vec<u8>)> {
        let blocks = red::blocks(packet).expect("well formed");
        blocks.map(|block| (block.offset, block.payload.to_vec())).collect()
    };
    assert_eq!(read(&first), [(0, vec![1, 2, 3])]);
    assert_eq!(read(&second), [(960, vec![1, 2, 3]), (0, vec![4, 5])]);
    assert_eq!(read(&far), [(0, vec![6])], "too far from the one before");
    assert!(red::blocks(&second[..3]).is_err() && red::blocks(&[]).is_err());
}

/// Once all buffers are there, the engine's part of a second of audio costs the packets that it sends, and nothing else;
/// the stream's reader gets a frame that is its own.
#[test]
fn audio_costs_no_memory_but_its_packets_and_frames() {
    for (rate, red) in [(48_000, true), (44_100, false)] {
        let source = AudioSource::new(rate, 1);
        let options = SendOptions { red, dtx: false, bitrate: 48_000 };
        let mut sending = SendTrack::new(&source, options, 0).expect("a format that can be");
        let mut track = ReceiveTrack::default();
        let mut stream = stream(&mut track, rate, 1);
        let mut now = Instant::now();
        let frame = AudioFrame { samples: vec![1_000; rate as usize / 50], sample_rate: rate, channels: 1 };
        let mut context = Context::from_waker(Waker::noop());
        let mut sent = 0;
        let mut second = || {
            for _ in 0..50 {
                now += Duration::from_millis(20);
                let mut captured = std::pin::pin!(source.capture(&frame));
                assert!(captured.as_mut().poll(&mut context).is_ready());
                let packet = sending.tick(now).expect("a packet");
                track.packet(now, packet.red, sent, packet.timestamp, &packet.payload);
                sent += 1;
                track.tick(now);
                while std::pin::Pin::new(&mut stream).poll_next(&mut context).is_ready() {}
            }
        };
        // As many as the history of delays holds.
        (0..6).for_each(|_| second());
        let costs = allocation_counter::measure(second);
        assert!(costs.count_total <= 2 * 50, "{rate} Hz, red: {red}: {costs:?}");
    }
}

/// Opus, as a byte of contents says it: one frame of 20 ms.
const OPUS: [u8; 2] = [0x78, 0];

fn buffer(now: Instant, sequences: &[u64]) -> JitterBuffer {
    let mut buffer = JitterBuffer::new();
    for sequence in sequences {
        buffer.insert(now, *sequence, *sequence as u32 * PACKET, &OPUS);
    }
    buffer
}

#[test]
fn what_comes_twice_or_out_of_order_is_played_once_and_in_order() {
    let now = Instant::now();
    let mut buffer = buffer(now, &[3, 1, 2, 2, 1]);
    let later = now + Duration::from_secs(1);
    for _ in 0..3 {
        assert_eq!(buffer.pull(later), Pull::Frame(&OPUS));
    }
    assert_eq!(buffer.pull(later), Pull::Conceal(PACKET), "nothing more is there");
    buffer.insert(later, 1, PACKET, &OPUS);
    assert_eq!(buffer.counts.late, 1);
}

#[test]
fn one_loss_is_recovered_from_the_next_packet_and_many_are_guessed_for_a_while() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut one = buffer(now, &[1, 3]);
    assert_eq!(one.pull(later), Pull::Frame(&OPUS));
    assert_eq!(one.pull(later), Pull::Recover(&OPUS, PACKET));
    assert_eq!(one.pull(later), Pull::Frame(&OPUS));
    let mut many = buffer(now, &[1, 12]);
    assert_eq!(many.pull(later), Pull::Frame(&OPUS));
    let guessed = (0..10).filter(|_| many.pull(later) == Pull::Conceal(PACKET)).count();
    assert_eq!(guessed, 5);
    assert_eq!(many.pull(later), Pull::Frame(&OPUS));
}

#[test]
fn what_was_never_sent_is_silence_and_makes_nothing_late() {
    let now = Instant::now();
    let mut buffer = buffer(now, &[1]);
    // The sender was silent for eight packets: the numbers go on, the timestamps have leapt.
    buffer.insert(now + Duration::from_millis(180), 2, 10 * PACKET, &OPUS);
    let later = now + Duration::from_secs(1);
    assert_eq!(buffer.pull(later), Pull::Frame(&OPUS));
    for _ in 0..8 {
        assert_eq!(buffer.pull(later), Pull::Silence(PACKET));
    }
    assert_eq!(buffer.pull(later), Pull::Frame(&OPUS));
    assert_eq!(buffer.counts.lost, 0);
}

#[test]
fn another_clock_begins_anew() {
    let now = Instant::now();
    let mut buffer = buffer(now, &[1, 2, 3]);
    buffer.insert(now, 4, 0x8000_0000, &OPUS);
    assert_eq!(buffer.len(), 1);
    assert_eq!(buffer.pull(now + Duration::from_secs(1)), Pull::Frame(&OPUS));
}

/// Ten minutes of a sender whose clock runs 0.02 % fast: what waits does not grow.
#[test]
fn a_drift_is_caught_up() {
    let (begin, mut buffer) = (Instant::now(), JitterBuffer::new());
    let mut sent = 0_u64;
    for tick in 0..30_000_u32 {
        let now = begin + Duration::from_millis(20) * tick;
        while f64::from(tick) * 1.0002 >= sent as f64 {
            buffer.insert(now, sent, sent as u32 * PACKET, &OPUS);
            sent += 1;
        }
        if buffer.pace(now) == Pace::Faster {
            buffer.pull(now);
        }
        buffer.pull(now);
        assert!(buffer.len() <= 8, "{} packets wait after {tick} ticks", buffer.len());
    }
    assert!(buffer.counts.skipped > 0 && buffer.target() < Duration::from_millis(60), "{:?}", buffer.counts);
}

#[test]
fn a_source_is_bounded_and_can_be_cleared() {
    let source = AudioSource::with_queue(8_000, 1, Duration::from_millis(100));
    tone(&source, 5);
    assert_eq!(source.queued(), Duration::from_millis(100));
    let more = AudioFrame { samples: vec![0; 160], sample_rate: 8_000, channels: 1 };
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = std::pin::pin!(source.capture(&more));
    assert!(waiting.as_mut().poll(&mut context).is_pending(), "it is full");
    source.clear();
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    let mut played = std::pin::pin!(source.wait_for_playout());
    assert!(played.as_mut().poll(&mut context).is_pending());
    let mut block = Vec::new();
    assert!(source.take(&mut block) && block.len() == 160);
    assert!(played.as_mut().poll(&mut context).is_ready());
    assert!(!source.take(&mut block), "nothing waits");
    let stereo = AudioFrame { channels: 2, ..more.clone() };
    let mut refused = std::pin::pin!(source.capture(&stereo));
    assert!(matches!(refused.as_mut().poll(&mut context), Poll::Ready(Err(AudioError::Format { .. }))));
}

#[test]
fn a_stream_that_nobody_reads_drops_its_oldest_and_ends_with_its_track() {
    let options = AudioStreamOptions {
        sample_rate: 8_000,
        frame: Duration::from_millis(30),
        queue: Duration::from_millis(60),
        ..AudioStreamOptions::default()
    };
    let (mut stream, attached) = AudioStream::new(&options).expect("options that can be");
    (0..4_i16).for_each(|value| attached.push(&[value; 240]));
    assert_eq!(stream.dropped(), 480);
    drop(attached);
    assert_eq!(heard(&mut stream), [[2; 240], [3; 240]].concat());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(std::pin::Pin::new(&mut stream).poll_next(&mut context), Poll::Ready(None));
}

proptest! {
    /// Whatever a sender sends: nothing panics, and what is kept has a bound.
    #[test]
    fn arbitrary_packets_are_bounded(
        packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..300),
    ) {
        let mut track = ReceiveTrack::default();
        let mut stream = stream(&mut track, 8_000, 1);
        let mut buffer = JitterBuffer::new();
        let begin = Instant::now();
        for (tick, (sequence, timestamp, red, payload)) in (0_u32..).zip(packets) {
            let now = begin + Duration::from_millis(20) * tick;
            track.packet(now, red, sequence.into(), timestamp, &payload);
            track.tick(now);
            buffer.insert(now, sequence.into(), timestamp % 100_000, &payload);
            prop_assert!(buffer.len() <= 100);
        }
        drop(track);
        heard(&mut stream);
    }
}
