//! The cgroup that this process lives in: where it is mounted, what it may use, what it has used.
//!
//! Owns both dialects (v2, and the v1 hierarchies that a hybrid host still mounts) and the walk to the
//! root: a limit on any ancestor holds too. Refuses to guess: what cannot be read or parsed is `None`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cgroup directory under the mount point of its hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    mount: PathBuf,
    dir: PathBuf,
}

impl Branch {
    /// The directory and its ancestors, as far as they are mounted.
    fn levels(&self) -> impl Iterator<Item = &Path> {
        self.dir.ancestors().take_while(|dir| dir.starts_with(&self.mount))
    }

    fn number(&self, file: &str) -> Option<u64> {
        read(&self.dir, file)?.trim().parse().ok()
    }
}

/// The process's place in each hierarchy that counts here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The v2 hierarchy.
    unified: Option<Branch>,
    /// The v1 hierarchies; where one is mounted, its controller is not in `unified`.
    cpu: Option<Branch>,
    cpuacct: Option<Branch>,
    memory: Option<Branch>,
}

impl Places {
    /// Reads `/proc/self`. Where a path of the cgroup is not visible here (a container without a cgroup
    /// namespace), the mount point stands for it.
    pub(super) fn of_this_process() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mut places = locate(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"));
        for branch in [&mut places.unified, &mut places.cpu, &mut places.cpuacct, &mut places.memory] {
            if let Some(branch) = branch
                && !branch.dir.is_dir()
            {
                branch.dir.clone_from(&branch.mount);
            }
        }
        places
    }

    /// The CPUs that the tightest quota allows; `None` where none is set.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        let quotas: Vec<f64> = match (&self.cpu, &self.unified) {
            (Some(v1), _) => v1
                .levels()
                .filter_map(|dir| v1_quota(&read(dir, "cpu.cfs_quota_us")?, &read(dir, "cpu.cfs_period_us")?))
                .collect(),
            (None, Some(v2)) => v2.levels().filter_map(|dir| parse_cpu_max(&read(dir, "cpu.max")?)).collect(),
            (None, None) => Vec::new(),
        };
        quotas.into_iter().min_by(f64::total_cmp)
    }

    /// The CPU time that the cgroup has used since it was made.
    pub(super) fn cpu_usage(&self) -> Option<Duration> {
        match (&self.cpuacct, &self.unified) {
            (Some(v1), _) => v1.number("cpuacct.usage").map(Duration::from_nanos),
            (None, Some(v2)) => keyed(&read(&v2.dir, "cpu.stat")?, "usage_usec").map(Duration::from_micros),
            (None, None) => None,
        }
    }

    /// Processes that the kernel has killed here for want of memory since the cgroup was made.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let counts = match (&self.memory, &self.unified) {
            (Some(v1), _) => read(&v1.dir, "memory.oom_control")?,
            (None, Some(v2)) => read(&v2.dir, "memory.events")?,
            (None, None) => return None,
        };
        keyed(&counts, "oom_kill")
    }

    /// The highest fraction of a memory limit that is in use, over the levels that have a limit below
    /// `total` bytes; page cache that the kernel would drop first does not count as used.
    pub(super) fn memory_fraction(&self, total: u64) -> Option<f64> {
        let (branch, current, limit, inactive) = match (&self.memory, &self.unified) {
            (Some(v1), _) => (v1, "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
            (None, Some(v2)) => (v2, "memory.current", "memory.max", "inactive_file"),
            (None, None) => return None,
        };
        let level = |dir: &Path| {
            let limit = parse_limit(&read(dir, limit)?).filter(|limit| *limit < total)?;
            let current = read(dir, current)?.trim().parse().ok()?;
            let inactive = read(dir, "memory.stat").and_then(|stat| keyed(&stat, inactive)).unwrap_or(0);
            memory_share(current, inactive, limit)
        };
        branch.levels().filter_map(level).max_by(f64::total_cmp)
    }
}

fn read(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

/// Joins `/proc/self/cgroup` (which group, by hierarchy) with `/proc/self/mountinfo` (where those are).
pub(super) fn locate(cgroup: &str, mountinfo: &str) -> Places {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(parse_mount).collect();
    let mut places = Places::default();
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            places.unified = branch(&mounts, path, |mount| mount.controllers.is_none());
        }
        for controller in controllers.split(',') {
            let slot = match controller {
                "cpu" => &mut places.cpu,
                "cpuacct" => &mut places.cpuacct,
                "memory" => &mut places.memory,
                _ => continue,
            };
            *slot = branch(&mounts, path, |mount| {
                mount.controllers.as_ref().is_some_and(|on| on.split(',').any(|name| name == controller))
            });
        }
    }
    places
}

/// A mounted hierarchy.
struct Mount {
    /// The part of the hierarchy that is mounted.
    root: PathBuf,
    point: PathBuf,
    /// The options of a v1 mount, which name its controllers; `None` for v2.
    controllers: Option<String>,
}

/// One line of mountinfo, if it is a cgroup mount: `id parent dev root point opts… - type source opts`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (unescape(left.next()?), unescape(left.next()?));
    let mut right = right.split(' ');
    let controllers = match right.next()? {
        "cgroup2" => None,
        "cgroup" => Some(right.nth(1)?.to_owned()),
        _ => return None,
    };
    Some(Mount { root: root.into(), point: point.into(), controllers })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, sign)| text.replace(code, sign))
}

/// The mount that shows `path`, else any of the hierarchy's mounts with its mount point for the group.
fn branch(mounts: &[Mount], path: &str, wanted: impl Fn(&Mount) -> bool) -> Option<Branch> {
    let below = |mount: &Mount| {
        let rest = Path::new(path).strip_prefix(&mount.root).ok()?;
        let inside = !rest.components().any(|part| part.as_os_str() == "..");
        inside.then(|| Branch { mount: mount.point.clone(), dir: mount.point.join(rest) })
    };
    let at_mount = |mount: &Mount| Branch { mount: mount.point.clone(), dir: mount.point.clone() };
    let mut of_hierarchy = mounts.iter().filter(|mount| wanted(mount)).peekable();
    let fallback = of_hierarchy.peek().map(|mount| at_mount(mount));
    of_hierarchy.find_map(below).or(fallback)
}

/// `cpu.max`: "quota period" in microseconds, as CPUs; `None` for "max".
pub(super) fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    cpus(words.next()?.parse().ok()?, words.next().map_or(Some(100_000), |period| period.parse().ok())?)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us`, as CPUs; `None` for a quota of -1.
pub(super) fn v1_quota(quota: &str, period: &str) -> Option<f64> {
    cpus(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

/// Both in microseconds. A quota of none, less or more than a `u32` (over an hour) is no quota.
fn cpus(quota: i64, period: i64) -> Option<f64> {
    let quota = u32::try_from(quota).ok().filter(|quota| *quota > 0)?;
    let period = u32::try_from(period).ok().filter(|period| *period > 0)?;
    Some(f64::from(quota) / f64::from(period))
}

/// A limit in bytes; `None` for "max".
pub(super) fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind `key` in a file of "key number" lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The fraction of `limit` that is in use; `None` for a limit of nothing.
pub(super) fn memory_share(current: u64, inactive: u64, limit: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a fraction needs no more than 52 bits")]
    (limit > 0).then(|| current.saturating_sub(inactive) as f64 / limit as f64)
}
