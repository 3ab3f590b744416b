//! The label values of the metrics, as closed sets.
//!
//! Owns their spelling. Refuses free text: an open label is a memory leak with a network port.

use std::marker::PhantomData;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry::{Metric, Registry};

/// A closed set of values of one label.
pub(crate) trait LabelValue: Copy + 'static {
    /// Every value, in the order of [`index`](Self::index).
    const ALL: &'static [Self];

    /// The value's place in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// The value as it appears in the label.
    fn text(self) -> &'static str;
}

/// Defines an enum of label values.
macro_rules! label_values {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$each])* $variant,)+ }

        impl LabelValue for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label_values! {
    /// Why an offer was declined.
    DeclineReason {
        /// The worker drains.
        Draining = "draining",
        /// An operator asked it to be quiet.
        Quiet = "quiet",
        /// Every slot is taken.
        Full = "full",
        /// The load is at the threshold.
        Load = "load",
        /// User code stopped answering heartbeats.
        Wedged = "wedged",
        /// User code lives but did not decide in time.
        Slow = "slow",
        /// User code said no.
        Handler = "handler",
        /// The job is here already.
        Duplicate = "duplicate",
        /// The server asked for the connection to be left.
        Leaving = "leaving",
        /// The server ended the job before it was answered.
        Ended = "ended",
    }
}

label_values! {
    /// How a job ended.
    Outcome {
        /// The entrypoint returned.
        Success = "success",
        /// The entrypoint failed or panicked, or its process died.
        Failed = "failed",
    }
}

label_values! {
    /// What became of a call whose agent died.
    Rescued {
        /// It was dispatched again, and a worker took it.
        Again = "rescued",
        /// Nobody waits, or it was dispatched again by somebody else.
        NotNeeded = "not_needed",
        /// It has lost as many agents as a call may.
        TooOften = "too_often",
        /// Its job was for a participant.
        Targeted = "targeted",
        /// The server refused, or could not be asked.
        Failed = "failed",
    }
}

label_values! {
    /// Why a frame from the server was not used.
    Rejected {
        /// It is no message of the protocol.
        Undecodable = "undecodable",
        /// It is a text frame.
        Text = "text",
        /// It is larger than any message may be.
        Oversized = "oversized",
        /// The message is of a kind unknown here.
        Unknown = "unknown",
        /// The message makes no sense in this state.
        OutOfOrder = "out_of_order",
    }
}

label_values! {
    /// A stretch of a job's way into the worker.
    Stage {
        /// From the offer's arrival to the answer's departure.
        OfferedToAnswered = "offered_to_answered",
        /// From there to the assignment's arrival.
        AnsweredToAssigned = "answered_to_assigned",
        /// From there to the start of the entrypoint.
        AssignedToStarted = "assigned_to_started",
    }
}

/// One metric for each value of a label. All exist from the start: a series that appears with its first
/// event hides that event from `rate()`.
#[derive(Debug)]
pub(crate) struct By<V, M> {
    metrics: Vec<M>,
    values: PhantomData<V>,
}

impl<V: LabelValue, M: Metric + prometheus_client::metrics::TypedMetric + Clone> By<V, M> {
    /// Registers `name` with `label`, its metrics made by `new`.
    pub(super) fn register<C>(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        new: C,
    ) -> Self
    where
        C: MetricConstructor<M> + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::<[(&str, &str); 1], M, C>::new_with_constructor(new);
        let metrics = V::ALL.iter().map(|value| family.get_or_create_owned(&[(label, value.text())]));
        let metrics = metrics.collect();
        registry.register(name, help, family);
        Self { metrics, values: PhantomData }
    }

    /// The metric of `value`.
    pub(crate) fn of(&self, value: V) -> &M {
        &self.metrics[value.index()]
    }
}
