//! Owns the description of the machine that a figure was measured on. Refuses to name the host.

use std::fmt;
use std::fs::read_to_string;

use serde::Serialize;

/// A machine's shape, and how busy it was. What cannot be read is "unknown" or zero.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Runnable tasks, on average over the last minute.
    pub load: f64,
}

impl Machine {
    /// This machine, now.
    pub fn this() -> Self {
        let field = |path: &str, name: &str| {
            let text = read_to_string(path).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let first_word = |text: String| text.split_whitespace().next().map(str::to_owned);
        let unknown = || "unknown".to_owned();
        let memory =
            field("/proc/meminfo", "MemTotal").and_then(first_word).and_then(|kib| kib.parse::<u64>().ok());
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or_default() / 1024,
            kernel: field("/proc/sys/kernel/osrelease", "").unwrap_or_else(unknown),
            load: field("/proc/loadavg", "")
                .and_then(first_word)
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load } = self;
        write!(f, "{cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}, load {load:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_shape() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(machine.kernel.contains('.'), "{machine:?}");
    }
}
