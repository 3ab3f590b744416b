//! What is kept beside the core's bare ids: offers, acceptances, assignments.
//!
//! Owns payloads for as long as the core knows their job. Refuses to outlive that: a peer cannot make it grow.

use std::collections::HashMap;
use std::sync::Arc;

use last_call_proto::{JobId, Worker};
use livekit_protocol as livekit;
use tokio::time::Instant;

use crate::job::{Given, JobInfo};
use crate::offer::Acceptance;
use crate::secret::Secret;

/// Payloads by job.
#[derive(Default)]
pub(crate) struct Keep {
    offers: HashMap<JobId, Offer>,
    /// The latest assignment, until the core has said what becomes of it.
    assigned: Option<(JobId, Assigned)>,
}

struct Offer {
    info: Arc<JobInfo>,
    acceptance: Acceptance,
    since: Instant,
}

struct Assigned {
    info: JobInfo,
    url: Option<String>,
    token: Secret,
}

/// What an entrypoint starts with.
pub(super) struct Launch {
    pub(super) info: Arc<JobInfo>,
    pub(super) given: Given,
}

impl Keep {
    /// An offer came; of a job that is known already, the first copy holds.
    pub(super) fn offer(&mut self, core: &Worker, job: livekit::Job) {
        let id = JobId::from(job.id.as_str());
        if core.jobs().get(&id).is_none() {
            let info = Arc::new(JobInfo::from(job));
            self.offers.insert(id, Offer { info, acceptance: Acceptance::default(), since: Instant::now() });
        }
    }

    pub(super) fn accept(&mut self, job: &JobId, acceptance: Acceptance) {
        if let Some(offer) = self.offers.get_mut(job) {
            offer.acceptance = acceptance;
        }
    }

    pub(super) fn assign(&mut self, job: livekit::Job, url: Option<String>, token: String) {
        let id = JobId::from(job.id.as_str());
        self.assigned = Some((id, Assigned { info: JobInfo::from(job), url, token: Secret::from(token) }));
    }

    pub(super) fn info(&self, job: &JobId) -> Option<Arc<JobInfo>> {
        self.offers.get(job).map(|offer| offer.info.clone())
    }

    pub(super) fn acceptance(&self, job: &JobId) -> Acceptance {
        self.offers.get(job).map(|offer| offer.acceptance.clone()).unwrap_or_default()
    }

    /// Seconds since the offer came, and from now on since this moment: the stages of a dispatch.
    pub(super) fn lap(&mut self, job: &JobId) -> Option<f64> {
        let since = &mut self.offers.get_mut(job)?.since;
        let now = Instant::now();
        Some(now.duration_since(std::mem::replace(since, now)).as_secs_f64())
    }

    /// Takes what a launch needs: the assignment, and who the agent said to be.
    pub(super) fn launch(&mut self, job: &JobId, server: &str, worker_id: &str) -> Option<Launch> {
        let (_, assigned) = self.assigned.take_if(|(id, _)| id == job)?;
        let identity = self.offers.remove(job).map(|offer| offer.acceptance.identity).unwrap_or_default();
        let given = Given {
            identity,
            url: assigned.url.unwrap_or_else(|| server.to_owned()),
            token: assigned.token,
            worker_id: worker_id.to_owned(),
            state: None,
            api: None,
        };
        Some(Launch { info: Arc::new(assigned.info), given })
    }

    pub(super) fn forget(&mut self, job: &JobId) {
        self.offers.remove(job);
    }

    /// Forgets every job that the core does not know any more.
    pub(super) fn prune(&mut self, core: &Worker) {
        self.assigned = None;
        self.offers.retain(|job, _| core.jobs().get(job).is_some());
    }
}
