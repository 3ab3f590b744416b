//! The span of each job, as LiveKit's SDKs name it and its attributes: `job_entrypoint`.
//!
//! Owns the spans of the jobs that run. Refuses whatever is personal but the room's name, which is marked as
//! such (`lk.pii.…`), and to run a sampler or a processor on the link: under `Worker::serve` they are the
//! program's, and may block or panic. The link says what happens, and the job's own task makes a span of it.

use std::collections::HashMap;
use std::future::Future;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use last_call_proto::{End, JobId};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::runtime::Handle;

use super::SCOPE;
use crate::job::JobInfo;

/// The one field that a trace travels in.
const TRACEPARENT: &str = "traceparent";

/// More than the link has to say of one job; what does not fit is dropped.
const TOLD: usize = 16;

/// What the link knows of a job.
enum Told {
    Happened(&'static str, SystemTime),
    Ended(End),
}

/// The link's ends of the ways to the jobs that run.
#[derive(Default)]
pub(crate) struct JobSpans(HashMap<JobId, SyncSender<Told>>);

impl JobSpans {
    /// A job was assigned just now, so long after its offer was accepted: what its tasks run in.
    pub(crate) fn begin(&mut self, id: &JobId, info: &Arc<JobInfo>, accepted: Option<Duration>) -> JobTrace {
        let (tell, told) = sync_channel(TOLD);
        self.0.insert(id.clone(), tell);
        let assigned = SystemTime::now();
        JobTrace(Arc::new(Trace {
            info: info.clone(),
            assigned,
            accepted: accepted.and_then(|ago| assigned.checked_sub(ago)),
            told: Mutex::new(told),
            context: OnceLock::new(),
            ended: AtomicBool::new(false),
        }))
    }

    /// Something happened to a running job just now.
    pub(crate) fn happened(&mut self, id: &JobId, what: &'static str) {
        if let Some(tell) = self.0.get(id) {
            let _ = tell.try_send(Told::Happened(what, SystemTime::now()));
        }
    }

    /// The job is over.
    pub(crate) fn end(&mut self, id: &JobId, end: &End) {
        if let Some(tell) = self.0.remove(id) {
            let _ = tell.try_send(Told::Ended(end.clone()));
        }
    }
}

/// What the tasks of one job run in, so that spans which they open are children of the job's.
#[derive(Clone)]
pub(crate) struct JobTrace(Arc<Trace>);

struct Trace {
    info: Arc<JobInfo>,
    assigned: SystemTime,
    accepted: Option<SystemTime>,
    told: Mutex<Receiver<Told>>,
    context: OnceLock<Context>,
    ended: AtomicBool,
}

impl JobTrace {
    /// `future`, inside the job's span, which the first call starts. For the job's tasks: it may block.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.with_context(self.0.context().clone())
    }

    /// As it travels to the job's process: a W3C `traceparent`, or nothing.
    pub(crate) fn carried(&self) -> String {
        let mut fields = HashMap::new();
        TraceContextPropagator::new().inject_context(self.0.context(), &mut fields);
        fields.remove(TRACEPARENT).unwrap_or_default()
    }

    /// As it came from the worker, whose span it is, and who ends it.
    pub(crate) fn continued(info: &Arc<JobInfo>, carried: &str) -> Self {
        let fields = HashMap::from([(TRACEPARENT.to_owned(), carried.to_owned())]);
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &fields);
        Self(Arc::new(Trace {
            info: info.clone(),
            assigned: SystemTime::now(),
            accepted: None,
            told: Mutex::new(sync_channel(0).1),
            context: OnceLock::from(context),
            ended: AtomicBool::new(true),
        }))
    }

    /// User code failed: an `exception` event, as OpenTelemetry writes one. For the job's tasks, as `run`.
    pub(crate) fn exception(&self, kind: &str, text: &str) {
        let attributes = vec![
            KeyValue::new("exception.type", kind.to_owned()),
            KeyValue::new("exception.message", text.to_owned()),
        ];
        guarded(|| self.0.context().span().add_event("exception", attributes));
    }

    /// The job is over: its span goes to the processors. For the job's tasks, as `run`.
    pub(crate) fn end(&self, end: &End) {
        let told: Vec<_> = self.0.told().try_iter().chain(iter::once(Told::Ended(end.clone()))).collect();
        self.0.end(told);
    }

    /// The job was killed: its span ends on a thread of `user` that no stuck task can hold. Never blocks.
    pub(crate) fn killed(&self, user: &Handle) {
        let (trace, ending) = (self.0.clone(), Ending::new());
        user.spawn_blocking(move || {
            // Until the link has said how it ended, which it does in the turn that kills.
            let told: Vec<_> = trace.told().iter().collect();
            trace.end(told);
            drop(ending);
        });
    }
}

impl Trace {
    fn context(&self) -> &Context {
        self.context.get_or_init(|| guarded(|| self.start()).unwrap_or_default())
    }

    fn start(&self) -> Context {
        let tracer = global::tracer(SCOPE);
        let span = tracer
            .span_builder("job_entrypoint")
            .with_kind(SpanKind::Internal)
            .with_start_time(self.assigned)
            .with_attributes([
                KeyValue::new("lk.job_id", self.info.id().to_owned()),
                KeyValue::new("lk.agent_name", self.info.agent_name().to_owned()),
                KeyValue::new("lk.pii.room_name", self.info.room().name().to_owned()),
            ])
            .start_with_context(&tracer, &Context::new());
        let context = Context::new().with_span(span);
        if let Some(at) = self.accepted {
            context.span().add_event_with_timestamp("accepted", at, Vec::new());
        }
        context.span().add_event_with_timestamp("assigned", self.assigned, Vec::new());
        context
    }

    fn end(&self, told: Vec<Told>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        guarded(|| {
            let span = self.context().span();
            for told in told {
                match told {
                    Told::Happened(what, at) => span.add_event_with_timestamp(what, at, Vec::new()),
                    Told::Ended(End::Failed(text)) => span.set_status(Status::error(text.to_string())),
                    Told::Ended(End::Success) => {}
                }
            }
            span.end();
        });
    }

    fn told(&self) -> MutexGuard<'_, Receiver<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic of the program's provider costs the span, and not the job.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// How many spans of killed jobs are being ended.
static ENDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of them.
struct Ending(());

impl Ending {
    fn new() -> Self {
        *ending() += 1;
        Self(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        *ending() -= 1;
        ENDING.1.notify_all();
    }
}

fn ending() -> MutexGuard<'static, usize> {
    ENDING.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the spans of killed jobs have ended, `within` at most.
pub(super) fn killed_ended(within: Duration) {
    drop(ENDING.1.wait_timeout_while(ending(), within, |ending| *ending > 0));
}
