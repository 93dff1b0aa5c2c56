//! The table that people read.

use std::fmt::Write as _;

use super::report::{ClusterReport, NodeRow};

/// A number of bytes, short.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn position(at: Option<u64>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

const HEAD: [&str; 10] =
    ["node", "role", "term", "applied", "committed", "lag", "disk", "log", "state", "redis"];

/// The cells of one node. `newest` is the last entry committed anywhere.
fn cells(row: &NodeRow, newest: u64) -> Vec<String> {
    let Some(status) = &row.status else {
        return vec![row.id.to_string(), "unreachable".to_owned()];
    };
    let behind = newest.saturating_sub(status.log.applied.unwrap_or(0));
    let disk = if status.disk.poisoned.is_some() {
        "failed".to_owned()
    } else if status.disk.full {
        "full".to_owned()
    } else {
        format!("{:.1} ms", status.disk.sync_p99_micros as f64 / 1000.0)
    };
    vec![
        row.id.to_string(),
        status.role.clone(),
        status.term.to_string(),
        position(status.log.applied),
        position(status.log.committed),
        behind.to_string(),
        disk,
        bytes(status.disk.log_bytes),
        bytes(status.state.bytes),
        status.addresses.resp.clone(),
    ]
}

/// Rows of cells in columns.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(line, "{cell:<width$}  ", width = width(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Renders the table, with a note for each node that is not well.
pub fn table(report: &ClusterReport) -> String {
    let committed = report.nodes.iter().filter_map(|row| row.status.as_ref()?.log.committed);
    let newest = committed.max().unwrap_or(0);
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(report.nodes.iter().map(|row| cells(row, newest)));
    let mut text = aligned(&rows);
    for row in &report.nodes {
        let failure = row
            .status
            .as_ref()
            .and_then(|status| status.failure.as_ref().or(status.quarantine.as_ref()));
        if let Some(problem) = row.error.as_ref().or(failure) {
            let _ = writeln!(text, "node {}: {problem}", row.id);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{LogReport, StatusReport};
    use super::*;

    fn row(id: u64, role: &str, applied: u64) -> NodeRow {
        let status = StatusReport {
            id,
            role: role.to_owned(),
            term: 3,
            log: LogReport {
                applied: Some(applied),
                committed: Some(applied),
                ..LogReport::default()
            },
            ..StatusReport::default()
        };
        NodeRow { id, status: Some(status), ..NodeRow::default() }
    }

    #[test]
    fn the_table_shows_lag_against_the_newest_commit_and_names_who_is_away() {
        let away =
            NodeRow { id: 3, error: Some("connection refused".into()), ..NodeRow::default() };
        let report =
            ClusterReport { nodes: vec![row(1, "leader", 120), row(2, "follower", 100), away] };
        let text = table(&report);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..6], ["node", "role", "term", "applied", "committed", "lag"]);
        assert_eq!(lines[1][..6], ["1", "leader", "3", "120", "120", "0"]);
        assert_eq!(lines[2][..6], ["2", "follower", "3", "100", "100", "20"]);
        assert_eq!(lines[3], ["3", "unreachable"]);
        assert_eq!(text.lines().last(), Some("node 3: connection refused"));
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
