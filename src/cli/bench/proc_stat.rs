//! CPU time and memory of processes, read from `/proc`.

use std::fs;

use super::BenchResult;

/// Ticks per second of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that we run
/// on (x86-64 and arm64). `sysconf(_SC_CLK_TCK)` would say so through a rustix feature.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Memory of one or more processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now, in bytes (`VmRSS`).
    pub(super) rss_bytes: u64,
    /// Most that was ever resident, in bytes (`VmHWM`).
    pub(super) rss_bytes_peak: u64,
}

/// What the server used during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ServerCost {
    /// CPU seconds, user and system.
    pub(super) cpu_seconds: f64,
    /// Memory at the end of the run.
    pub(super) memory: Memory,
}

/// What a run used on both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// The server, if its process was named.
    pub(super) server: Option<ServerCost>,
    /// CPU seconds of this process.
    pub(super) client_cpu_seconds: f64,
}

impl Cost {
    /// Adds the cost of a later round.
    pub(super) fn merge(&mut self, later: &Self) {
        self.client_cpu_seconds += later.client_cpu_seconds;
        self.server = match (self.server, later.server) {
            (Some(a), Some(b)) => {
                Some(ServerCost { cpu_seconds: a.cpu_seconds + b.cpu_seconds, memory: b.memory })
            }
            (a, b) => a.or(b),
        };
    }
}

/// Measures CPU time from its start to [`Meter::finish`].
#[derive(Debug)]
pub(super) struct Meter {
    pids: Vec<u32>,
    server_cpu_seconds: f64,
    client_cpu_seconds: f64,
}

impl Meter {
    /// Starts to measure this process and the server's processes `pids`.
    pub(super) fn start(pids: &[u32]) -> BenchResult<Self> {
        Ok(Self {
            pids: pids.to_vec(),
            server_cpu_seconds: cpu_seconds(pids)?,
            client_cpu_seconds: cpu_seconds(&[std::process::id()])?,
        })
    }

    /// Ends the measurement.
    pub(super) fn finish(&self) -> BenchResult<Cost> {
        let client_cpu_seconds = cpu_seconds(&[std::process::id()])? - self.client_cpu_seconds;
        if self.pids.is_empty() {
            return Ok(Cost { server: None, client_cpu_seconds });
        }
        let cpu_seconds = cpu_seconds(&self.pids)? - self.server_cpu_seconds;
        let server = Some(ServerCost { cpu_seconds, memory: memory(&self.pids)? });
        Ok(Cost { server, client_cpu_seconds })
    }
}

/// Sums the CPU seconds that `pids` have used since they started.
pub(super) fn cpu_seconds(pids: &[u32]) -> BenchResult<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = read(*pid, "stat")?;
        ticks += parse_ticks(&stat).ok_or_else(|| format!("/proc/{pid}/stat has no times"))?;
    }
    Ok(ticks as f64 / CLOCK_TICKS_PER_SECOND)
}

/// Sums the memory of `pids`.
pub(super) fn memory(pids: &[u32]) -> BenchResult<Memory> {
    let mut sum = Memory::default();
    for pid in pids {
        let status = read(*pid, "status")?;
        sum.rss_bytes += parse_kib(&status, "VmRSS:").unwrap_or(0) * 1024;
        sum.rss_bytes_peak += parse_kib(&status, "VmHWM:").unwrap_or(0) * 1024;
    }
    Ok(sum)
}

fn read(pid: u32, file: &str) -> BenchResult<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}").into())
}

/// Takes `utime + stime`, fields 14 and 15; field 2 is a name that may hold anything but ends at
/// the last parenthesis.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_process_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 9 0";
        assert_eq!(parse_ticks(stat), Some(150));
        assert_eq!(parse_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_kib(status, "VmRSS:"), Some(1024));
        assert_eq!(parse_kib(status, "VmHWM:"), Some(2048));
        assert_eq!(parse_kib(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_times_and_memory() {
        let me = [std::process::id()];
        assert!(cpu_seconds(&me).is_ok());
        assert!(memory(&me).is_ok_and(|m| m.rss_bytes > 0 && m.rss_bytes_peak >= m.rss_bytes));
    }
}
