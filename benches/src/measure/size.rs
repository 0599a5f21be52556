//! The binary on disk.

use anyhow::Result;

use crate::cluster::Ground;
use crate::report::Row;

const LIMIT_MB: f64 = 60.0;

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let bytes = tokio::fs::metadata(&ground.bin).await?.len();
    let size = bytes as f64 / 1e6;
    let row = Row::new("binary size", format!("{size:.1} MB"));
    Ok(vec![row.mark("≤ 60 MB", size <= LIMIT_MB)])
}
