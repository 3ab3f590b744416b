//! The jobs that run here, as operators see them: the page `/worker/jobs`, and series of `/metrics`.
//!
//! Owns the list, and what each job's process uses. Refuses what a job is about: the port has no lock, and rooms,
//! metadata and people are not for everyone. The job's id leads to all of that in the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use last_call_proto::JobId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use serde::Serialize;

/// What a job's process and its descendants use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes; pages that processes share count by their share.
    pub memory: u64,
    /// Processor time since the start.
    pub cpu: Duration,
}

/// The list. Cheap to clone; every clone is the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<Mutex<BTreeMap<JobId, Entry>>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Instant,
    process: Option<u32>,
    usage: Option<Usage>,
}

/// One line of the page.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    job_id: String,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
}

impl Jobs {
    /// This job runs from now on.
    pub(crate) fn begin(&self, job: &JobId) {
        self.lock().insert(job.clone(), Entry { since: Instant::now(), process: None, usage: None });
    }

    pub(crate) fn end(&self, job: &JobId) {
        self.lock().remove(job);
    }

    /// This is its process, which uses so much, where that is known. Nothing, for a job that has ended.
    pub(crate) fn uses(&self, job: &JobId, process: u32, usage: Option<Usage>) {
        if let Some(entry) = self.lock().get_mut(job) {
            // A descendant that ended unseen takes its time with it; a counter never falls.
            let before = entry.usage.map_or(Duration::ZERO, |usage| usage.cpu);
            let usage = usage.map(|usage| Usage { cpu: usage.cpu.max(before), ..usage });
            entry.process = Some(process);
            entry.usage = usage.or(entry.usage);
        }
    }

    /// The page, ordered by job.
    pub(crate) fn page(&self) -> Vec<Line> {
        let line = |(job, entry): (JobId, Entry)| Line {
            job_id: job.to_string(),
            seconds: entry.since.elapsed().as_secs_f64(),
            pid: entry.process,
            memory_bytes: entry.usage.map(|usage| usage.memory),
            cpu_seconds: entry.usage.map(|usage| usage.cpu.as_secs_f64()),
        };
        self.entries().into_iter().map(line).collect()
    }

    /// A copy: who starts a job does not wait for who looks.
    fn entries(&self) -> Vec<(JobId, Entry)> {
        self.lock().iter().map(|(job, entry)| (job.clone(), *entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        // What a panicking holder leaves behind is whole: every section is one change of one entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series with the job's id, which are there while its process is: as many as there are jobs.
impl Collector for Jobs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used: Vec<(String, Usage)> = self
            .entries()
            .into_iter()
            .filter_map(|(job, entry)| Some((job.to_string(), entry.usage?)))
            .collect();
        let help = "Memory of a job's processes, shared pages by their share";
        let mut metric = encoder.encode_descriptor("job_memory_bytes", help, None, MetricType::Gauge)?;
        for (job, usage) in &used {
            metric.encode_family(&[("job_id", job.as_str())])?.encode_gauge(&usage.memory)?;
        }
        let help = "Processor time of a job's processes";
        let mut metric = encoder.encode_descriptor("job_cpu_seconds", help, None, MetricType::Counter)?;
        for (job, usage) in &used {
            let labels = [("job_id", job.as_str())];
            let mut series = metric.encode_family(&labels)?;
            series.encode_counter::<[(&str, &str); 0], _, f64>(&usage.cpu.as_secs_f64(), None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn used(memory: u64, seconds: u64) -> Option<Usage> {
        Some(Usage { memory, cpu: Duration::from_secs(seconds) })
    }

    #[test]
    fn the_page_has_each_job_while_it_runs_and_no_more_of_it_than_its_id() {
        let jobs = Jobs::default();
        let (task, process) = (JobId::from("AJ_1"), JobId::from("AJ_2"));
        jobs.begin(&process);
        jobs.begin(&task);
        jobs.uses(&process, 7, used(3 * MIB, 2));
        let page = serde_json::to_value(jobs.page()).expect("JSON");
        assert_eq!(
            page[0].as_object().map(|line| line.keys().collect::<Vec<_>>()).unwrap_or_default(),
            ["job_id", "seconds"]
        );
        assert_eq!(page[1]["job_id"], "AJ_2");
        assert_eq!(page[1]["pid"], 7);
        assert_eq!(page[1]["memory_bytes"], 3 * MIB);
        assert_eq!(page[1]["cpu_seconds"], 2.0);
        jobs.end(&process);
        // Too late.
        jobs.uses(&process, 7, used(MIB, 3));
        jobs.end(&task);
        assert_eq!(jobs.page(), []);
    }

    #[test]
    fn processor_time_never_falls_and_what_is_not_known_changes_nothing() {
        let jobs = Jobs::default();
        let job = JobId::from("AJ_1");
        jobs.begin(&job);
        for (usage, memory, seconds) in
            [(used(5, 9), 5, 9.0), (used(4, 8), 4, 9.0), (None, 4, 9.0), (used(6, 10), 6, 10.0)]
        {
            jobs.uses(&job, 7, usage);
            let page = serde_json::to_value(jobs.page()).expect("JSON");
            assert_eq!(
                (&page[0]["memory_bytes"], &page[0]["cpu_seconds"]),
                (&memory.into(), &seconds.into())
            );
        }
    }
}
