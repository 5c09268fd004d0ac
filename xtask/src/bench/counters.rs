//! What `xl counters` shows.

/// How often `domain` left its own code: all columns but the events, which it got, and the time.
pub fn exits(table: &str, domain: &str) -> Option<u64> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&domain))?;
    let [_, _id, hypercalls, mmio, registers, firmware, waits, interrupts, _events, fp, _time] =
        row[..]
    else {
        return None;
    };
    let causes = [hypercalls, mmio, registers, firmware, waits, interrupts, fp];
    causes.map(|count| count.parse::<u64>().ok()).into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_all_columns_but_events_and_time() {
        let table = "Name ID Hypercalls MMIO Sysregs Firmware Waits Interrupts Events FP Time(us)\n\
            linux2 4  1 1 1 1 1 1 1 1 1\n\
            linux  1 78 224 88 10 1 197 57 1 865336\n";
        assert_eq!(exits(table, "linux"), Some(78 + 224 + 88 + 10 + 1 + 197 + 1));
        assert_eq!(exits(table, "dom0"), None);
        assert_eq!(exits("linux 1 2", "linux"), None);
    }
}
