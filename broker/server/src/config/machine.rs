//! What the machine has.

/// Where Linux says how much memory there is, and how much of it the control group of this process may use.
const MEMORY_INFO: &str = "/proc/meminfo";
const CONTROL_GROUP_MAX: &str = "/sys/fs/cgroup/memory.max";
/// Believed where neither says anything.
const UNKNOWN_BYTES: u64 = 4 << 30;

/// Memory of the machine, or of the control group if that is less.
pub(super) fn memory_bytes() -> u64 {
    let total = std::fs::read_to_string(MEMORY_INFO).ok().and_then(|text| total(&text));
    let group = std::fs::read_to_string(CONTROL_GROUP_MAX).ok().and_then(|text| text.trim().parse().ok());
    total.into_iter().chain(group).min().unwrap_or(UNKNOWN_BYTES)
}

fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(total("MemTotal:       24105380 kB\nMemFree:         9 kB\n"), Some(24_105_380 << 10));
        assert_eq!(total("nothing"), None);
        assert!(memory_bytes() > 0);
    }
}
