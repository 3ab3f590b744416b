//! Owns Opus, and the rates that it does not know. Refuses packets and timestamps.

use opus::{Application, Bitrate, Channels};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use super::AudioError;

/// The longest packet that Opus makes, in bytes.
const LONGEST: usize = 1275;

/// The rate that Opus works at for this one: its own are as good as any, and cost no resampling.
fn codec_rate(sample_rate: u32) -> u32 {
    if matches!(sample_rate, 8_000 | 12_000 | 16_000 | 24_000) { sample_rate } else { 48_000 }
}

fn opus_channels(channels: u16) -> Channels {
    if channels == 2 { Channels::Stereo } else { Channels::Mono }
}

fn codec_error(error: impl std::fmt::Display) -> AudioError {
    AudioError::Codec(error.to_string())
}

/// From one rate to another, 20 ms at a time.
struct Rates {
    resampler: Fft<f32>,
    channels: usize,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Rates {
    /// `None` where both are the same.
    fn between(from: u32, to: u32, channels: u16) -> Result<Option<Self>, AudioError> {
        if from == to {
            return Ok(None);
        }
        let channels = usize::from(channels);
        let (input, output) = (from as usize / 50, to as usize / 50);
        let resampler =
            Fft::new(from as usize, to as usize, input, channels, FixedSync::Both).map_err(codec_error)?;
        Ok(Some(Self {
            resampler,
            channels,
            input: vec![0.0; input * channels],
            output: vec![0.0; output * channels],
        }))
    }

    /// Exactly 20 ms in, 20 ms out.
    fn convert(&mut self, samples: &mut Vec<i16>) {
        for (to, from) in self.input.iter_mut().zip(samples.iter()) {
            *to = f32::from(*from) / 32_768.0;
        }
        let (inputs, outputs) = (self.input.len() / self.channels, self.output.len() / self.channels);
        let Ok(input) = InterleavedSlice::new(&self.input, self.channels, inputs) else { return };
        let Ok(mut output) = InterleavedSlice::new_mut(&mut self.output, self.channels, outputs) else {
            return;
        };
        if let Err(error) = self.resampler.process_into_buffer(&input, &mut output, None) {
            tracing::debug!(%error, "a block of audio can't be resampled");
        }
        samples.clear();
        samples
            .extend(self.output.iter().map(|sample| (sample * 32_768.0).clamp(-32_768.0, 32_767.0) as i16));
    }
}

pub(super) struct Encoder {
    opus: opus::Encoder,
    rates: Option<Rates>,
    buffer: [u8; LONGEST],
}

/// How a track is encoded.
pub(super) struct Encoding {
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
    pub(super) bitrate: u32,
    pub(super) dtx: bool,
    /// Each packet holds the one before in a coarse form. Not needed where each is sent twice.
    pub(super) fec: bool,
}

impl Encoder {
    pub(super) fn new(encoding: &Encoding) -> Result<Self, AudioError> {
        super::check(encoding.sample_rate, encoding.channels)?;
        let rate = codec_rate(encoding.sample_rate);
        // The voice mode has the FEC, and takes twice the work of the other, which at these bitrates is as good for voice and
        // better for the rest.
        let voice = encoding.fec && encoding.channels == 1;
        let application = if voice { Application::Voip } else { Application::Audio };
        let mut opus =
            opus::Encoder::new(rate, opus_channels(encoding.channels), application).map_err(codec_error)?;
        let bitrate = i32::try_from(encoding.bitrate).map_err(codec_error)?;
        opus.set_bitrate(Bitrate::Bits(bitrate)).map_err(codec_error)?;
        opus.set_dtx(encoding.dtx).map_err(codec_error)?;
        opus.set_inband_fec(encoding.fec).map_err(codec_error)?;
        // What FEC is made for, in percent.
        opus.set_packet_loss_perc(if encoding.fec { 10 } else { 0 }).map_err(codec_error)?;
        // Half the work of the highest, and no ear tells them apart at speech.
        opus.set_complexity(5).map_err(codec_error)?;
        Ok(Self {
            opus,
            rates: Rates::between(encoding.sample_rate, rate, encoding.channels)?,
            buffer: [0; LONGEST],
        })
    }

    /// Exactly 20 ms, which are resampled in place; `None` if they are silence that is not sent.
    pub(super) fn encode(&mut self, samples: &mut Vec<i16>) -> Option<&[u8]> {
        if let Some(rates) = &mut self.rates {
            rates.convert(samples);
        }
        match self.opus.encode(samples, &mut self.buffer) {
            // One or two bytes say that there is nothing to say.
            Ok(length) => (length > 2).then(|| &self.buffer[..length]),
            Err(error) => {
                tracing::debug!(%error, "a frame can't be encoded");
                None
            }
        }
    }
}

pub(super) struct Decoder {
    opus: opus::Decoder,
    rates: Option<Rates>,
    /// Of what Opus gives.
    rate: u32,
    channels: usize,
    buffer: Vec<i16>,
    /// What is not yet 20 ms to resample.
    rest: Vec<i16>,
    block: Vec<i16>,
}

impl Decoder {
    pub(super) fn new(sample_rate: u32, channels: u16) -> Result<Self, AudioError> {
        super::check(sample_rate, channels)?;
        let rate = codec_rate(sample_rate);
        let opus = opus::Decoder::new(rate, opus_channels(channels)).map_err(codec_error)?;
        let rates = Rates::between(rate, sample_rate, channels)?;
        let channels = usize::from(channels);
        // 120 ms, the longest that a packet can be.
        let buffer = vec![0; rate as usize / 25 * 3 * channels];
        Ok(Self { opus, rates, rate, channels, buffer, rest: Vec::new(), block: Vec::new() })
    }

    /// A packet's sound.
    pub(super) fn decode(&mut self, packet: &[u8], into: impl FnMut(&[i16])) {
        self.opus_decode(packet, super::jitter::duration(packet), false, into);
    }

    /// The sound of `clock` samples of RTP's clock before `next`, from what `next` has of them.
    pub(super) fn recover(&mut self, next: &[u8], clock: u32, into: impl FnMut(&[i16])) {
        self.opus_decode(next, clock, true, into);
    }

    /// The sound of a packet that nobody has, guessed.
    pub(super) fn conceal(&mut self, clock: u32, into: impl FnMut(&[i16])) {
        self.opus_decode(&[], clock, false, into);
    }

    /// Nothing, for so long.
    pub(super) fn silence(&mut self, clock: u32, into: impl FnMut(&[i16])) {
        let length = self.of(clock).min(self.buffer.len());
        self.buffer[..length].fill(0);
        self.give(length, into);
    }

    fn of(&self, clock: u32) -> usize {
        clock as usize * self.rate as usize / super::CLOCK as usize * self.channels
    }

    fn opus_decode(&mut self, packet: &[u8], clock: u32, fec: bool, into: impl FnMut(&[i16])) {
        // A packet says itself how long it is; what is guessed has to be told.
        let guessed = fec || packet.is_empty();
        let length = if guessed { self.of(clock).min(self.buffer.len()) } else { self.buffer.len() };
        match self.opus.decode(packet, &mut self.buffer[..length], fec) {
            Ok(moments) => self.give((moments * self.channels).min(length), into),
            // What can't be decoded is as lost as what did not come.
            Err(_) if packet.is_empty() => {}
            Err(_) => self.conceal(clock, into),
        }
    }

    fn give(&mut self, length: usize, mut into: impl FnMut(&[i16])) {
        let Some(rates) = &mut self.rates else { return into(&self.buffer[..length]) };
        self.rest.extend_from_slice(&self.buffer[..length]);
        let whole = self.rate as usize / 50 * self.channels;
        while self.rest.len() >= whole {
            self.block.clear();
            self.block.extend(self.rest.drain(..whole));
            rates.convert(&mut self.block);
            into(&self.block);
        }
    }
}
