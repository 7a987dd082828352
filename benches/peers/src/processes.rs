//! What the kernel says about a running process.

use std::fs;

/// Microseconds of processor time that a process has used, with threads that have ended; in steps of
/// ten milliseconds. Zero when it is gone.
pub fn cpu_micros(process: u32) -> u64 {
    const TICK_MICROS: u64 = 10_000;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in brackets may hold blanks; user and system time are the 12th and 13th field behind it.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_MICROS
}

/// Resident memory in KiB. Zero when the process is gone.
pub fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
