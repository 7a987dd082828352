//! What shows that the clock of this machine is right. No date in this program does.

use std::{fs, path::Path};

use rtime_clock::adjtime::{Timex, adjtimex};

const SECOND_NANOS: i64 = 1_000_000_000;
/// `STA_UNSYNC` of adjtimex(2).
const NOT_SYNCHRONISED: i32 = 0x40;
/// `STA_NANO`: fractions of seconds are nanoseconds, and not microseconds.
const IN_NANOS: i32 = 0x2000;
/// A battery clock may show local time, and drift.
const BATTERY_IS_OFF_BY: u64 = 26 * 3600;

/// Whether the kernel says that somebody keeps its clock right, and means the clock that we read: a
/// program can be shown another time than the kernel's.
///
/// Containers share it with their host. It says no on a host that steps its clock now and then and
/// does not discipline it, as `ntpclient` does, and where nobody cares at all.
pub fn kernel_vouches(wall_nanos: i64) -> bool {
    let mut answer = Timex::new();
    if adjtimex(&mut answer).is_err() || answer.0.status & NOT_SYNCHRONISED != 0 {
        return false;
    }
    let time = answer.0.time;
    let fraction = match answer.0.status & IN_NANOS {
        0 => time.tv_usec * 1000,
        _ => time.tv_usec,
    };
    let kernel_nanos = time.tv_sec.saturating_mul(SECOND_NANOS).saturating_add(fraction);
    kernel_nanos.abs_diff(wall_nanos) < SECOND_NANOS as u64
}

/// Whether a battery kept the time while the machine was off: the kernel took its clock from one, it
/// agrees with the clock that we read, and it is not behind what was seen before, as it is when its
/// battery was empty.
pub fn battery_vouches(clocks: &Path, wall_nanos: i64, seen_nanos: i64) -> bool {
    let wall = wall_nanos / SECOND_NANOS;
    let agrees = |clock: fs::DirEntry| {
        let says = |file: &str| -> Option<u64> {
            fs::read_to_string(clock.path().join(file)).ok()?.trim().parse().ok()
        };
        let is_taken = says("hctosys") == Some(1);
        let shows = says("since_epoch").and_then(|seconds| i64::try_from(seconds).ok());
        is_taken && shows.is_some_and(|shows| shows.abs_diff(wall) <= BATTERY_IS_OFF_BY)
    };
    let mut clocks = fs::read_dir(clocks).into_iter().flatten().flatten();
    wall_nanos >= seen_nanos && clocks.any(agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_vouches_for_no_clock_but_its_own() {
        assert!(!kernel_vouches(0));
    }

    #[test]
    fn a_battery_is_believed_unless_it_was_empty() {
        let folder = std::env::temp_dir().join(format!("forebay-rtc-{}", std::process::id()));
        let now = 1_795_251_600;
        let check = |hctosys: &str, shows: i64, seen: i64| {
            let clock = folder.join("rtc0");
            fs::create_dir_all(&clock).unwrap();
            fs::write(clock.join("hctosys"), hctosys).unwrap();
            fs::write(clock.join("since_epoch"), format!("{shows}\n")).unwrap();
            battery_vouches(&folder, now * SECOND_NANOS, seen * SECOND_NANOS)
        };
        assert!(check("1\n", now, now - 3600));
        assert!(check("1\n", now + 7200, now - 3600), "it shows local time");
        assert!(!check("0\n", now, now - 3600), "the kernel did not take it");
        assert!(!check("1\n", now, now + 1), "time does not go back");
        assert!(!check("1\n", now - 14 * 86_400, 0), "the clock shows something else");
        fs::remove_dir_all(&folder).unwrap();
        assert!(!battery_vouches(&folder, now * SECOND_NANOS, 0), "there is none");
    }
}
