//! `tercet status`: a table of all nodes, or the same as JSON.

mod check;
mod report;
mod rollback;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use crate::client::http::{self, HttpError};

pub use check::CheckReport;
pub use report::{
    AddressReport, ClusterReport, DiskReport, LogReport, MemberReport, NodeRow, QuotaReport,
    ReplacingReport, StateReport, StatusReport, role_name,
};
pub use rollback::{LostReport, RollbackReport};
pub use table::{aligned, bytes, table};

/// How long one node may take to answer for all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks every address for its cluster and joins what they say: the newest answer per node. An
/// address that does not answer is listed with the reason.
pub async fn collect(addresses: &[String]) -> Result<ClusterReport, Vec<HttpError>> {
    let asked = addresses
        .iter()
        .map(|address| http::get_json::<ClusterReport>(address, "/cluster", PATIENCE));
    let mut nodes: BTreeMap<u64, NodeRow> = BTreeMap::new();
    let mut silent = Vec::new();
    for answer in join_all(asked).await {
        match answer {
            Ok(report) => report.nodes.into_iter().for_each(|row| {
                let known = nodes.entry(row.id).or_default();
                if known.status.is_none() {
                    *known = row;
                }
            }),
            Err(error) => silent.push(error),
        }
    }
    if nodes.is_empty() {
        Err(silent)
    } else {
        Ok(ClusterReport { nodes: nodes.into_values().collect() })
    }
}
