//! Whether a drain fits into what the platform gives between SIGTERM and SIGKILL.
//!
//! Owns the platforms' numbers and the arithmetic. Refuses to find out which platform it is.

use std::time::Duration;

use clap::ValueEnum;
use humantime::format_duration;

use super::finding::Finding;

/// Who sends SIGKILL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Platform {
    Kubernetes,
    Docker,
    Ecs,
    Systemd,
    Fly,
    Heroku,
}

impl Platform {
    /// What it gives where nothing says otherwise.
    pub(super) fn default_grace(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kubernetes | Self::Ecs | Self::Heroku => 30,
            Self::Docker => 10,
            Self::Systemd => 90,
            Self::Fly => 5,
        })
    }

    /// The most that can be asked of it, where there is a most.
    pub(super) fn most(self) -> Option<Duration> {
        match self {
            Self::Ecs => Some(Duration::from_secs(120)),
            Self::Fly => Some(Duration::from_secs(300)),
            Self::Heroku => Some(Duration::from_secs(30)),
            Self::Kubernetes | Self::Docker | Self::Systemd => None,
        }
    }

    /// The name of the setting.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Kubernetes => "terminationGracePeriodSeconds",
            Self::Docker => "stop_grace_period (docker stop --time)",
            Self::Ecs => "stopTimeout",
            Self::Systemd => "TimeoutStopSec",
            Self::Fly => "kill_timeout",
            Self::Heroku => "the 30 s of Heroku, which cannot be set",
        }
    }
}

/// What is known of the time for a drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    pub(super) platform: Platform,
    /// As set; without it the platform's own counts.
    pub(super) set: Option<Duration>,
    /// Goes by before SIGTERM.
    pub(super) pre_stop: Duration,
    /// The unit speaks with systemd, of which guard asks more time while it drains.
    pub(super) extends: bool,
}

impl Grace {
    /// Where nothing is set.
    pub(super) fn of(platform: Platform) -> Self {
        Self { platform, set: None, pre_stop: Duration::ZERO, extends: false }
    }
}

fn shown(time: Duration) -> String {
    if time == Duration::MAX { "any time".to_owned() } else { format_duration(time).to_string() }
}

/// `drain` is the whole budget, its reserve inside; then the worker has `exit` to end.
pub(super) fn check(grace: &Grace, drain: Duration, exit: Duration) -> Vec<Finding> {
    let Grace { platform, set, pre_stop, extends } = *grace;
    let asked = set.unwrap_or_else(|| platform.default_grace());
    let gives = platform.most().map_or(asked, |most| asked.min(most));
    let needs = drain.saturating_add(exit);
    let has = gives.saturating_sub(pre_stop);
    let source = if set.is_some() { "as set" } else { "the default" };
    let mut found = Vec::new();
    if asked > gives {
        found.push(Finding::warning(format!(
            "grace period: {} is set, but {platform:?} gives at most {}",
            shown(asked),
            shown(gives)
        )));
    }
    let sum = format!(
        "a drain takes up to {} (--drain-timeout {} and --exit-within {}), and {platform:?} gives {} ({source}{})",
        format_duration(needs),
        format_duration(drain),
        format_duration(exit),
        shown(has),
        if pre_stop.is_zero() {
            String::new()
        } else {
            format!("; {} less {} of preStop", shown(gives), shown(pre_stop))
        }
    );
    found.push(if extends {
        Finding::ok("grace period: Type=notify, so guard asks systemd for more time while it drains")
    } else if needs <= has {
        Finding::ok(format!("grace period: {sum}"))
    } else {
        let whole = needs.saturating_add(pre_stop);
        let fits = format_duration(has.saturating_sub(exit));
        let raised = match platform.most() {
            // What the platform does not give cannot be set.
            Some(most) if whole > most => String::new(),
            Some(_) | None => format!("set {} to {} s or more, or ", platform.setting(), whole.as_secs() + 1),
        };
        Finding::error(format!(
            "grace period: {sum}; calls are killed: {raised}set --drain-timeout to {fits} or less"
        ))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn grace(platform: Platform, set: Option<u64>, pre_stop: u64) -> Grace {
        Grace { set: set.map(s), pre_stop: s(pre_stop), ..Grace::of(platform) }
    }

    #[test]
    fn a_drain_fits_or_is_an_error() {
        use Platform::*;
        for (grace, drain, level) in [
            (grace(Kubernetes, None, 0), 25, Level::Ok),
            (grace(Kubernetes, None, 0), 26, Level::Error),
            (grace(Kubernetes, Some(905), 0), 900, Level::Ok),
            (grace(Kubernetes, Some(905), 1), 900, Level::Error),
            (grace(Docker, None, 0), 5, Level::Ok),
            (grace(Docker, None, 0), 6, Level::Error),
            (grace(Systemd, None, 0), 85, Level::Ok),
            (grace(Ecs, Some(120), 0), 115, Level::Ok),
            (grace(Fly, Some(300), 0), 295, Level::Ok),
            (grace(Fly, Some(300), 0), 296, Level::Error),
            (grace(Heroku, None, 0), 3600, Level::Error),
        ] {
            let found = check(&grace, s(drain), s(5));
            assert_eq!(found.last().map(|one| one.level), Some(level), "{grace:?} {drain}: {found:?}");
        }
    }

    #[test]
    fn more_than_a_platform_gives_does_not_count() {
        let found = check(&grace(Platform::Ecs, Some(900), 0), s(600), s(5));
        let said: Vec<_> = found.iter().map(|one| (one.level, &*one.text)).collect();
        assert!(
            matches!(said[..], [(Level::Warning, warning), (Level::Error, error)]
            if warning.contains("at most 2m") && error.ends_with("killed: set --drain-timeout to 1m 55s or less")),
            "{said:?}"
        );
    }

    #[test]
    fn the_setting_that_would_do_is_named_and_does() {
        let found = check(&grace(Platform::Kubernetes, Some(30), 10), s(900), s(5));
        assert!(found[0].text.contains("terminationGracePeriodSeconds to 916 s"), "{found:?}");
        let mended = check(&grace(Platform::Kubernetes, Some(916), 10), s(900), s(5));
        assert_eq!(mended[0].level, Level::Ok);
    }

    #[test]
    fn systemd_is_asked_for_more_time() {
        let grace = Grace { extends: true, ..grace(Platform::Systemd, Some(30), 0) };
        assert_eq!(check(&grace, s(3600), s(5))[0].level, Level::Ok);
    }

    #[test]
    fn no_limit_is_long_enough() {
        let grace = Grace { set: Some(Duration::MAX), ..grace(Platform::Systemd, None, 0) };
        let found = check(&grace, s(3600), s(5));
        assert!(found[0].level == Level::Ok && found[0].text.contains("gives any time"), "{found:?}");
    }
}
