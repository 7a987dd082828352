//! The last wills of devices, as they become due.

use std::{sync::Arc, time::Duration};

use tracing::debug;

use crate::{
    dues::Dues,
    house::House,
    local::{Local, Origin},
};

/// How long wills wait for a source that is full. From then on they pass that one by until it has
/// room, so that it does not hold up the wills behind them.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Publishes wills. Runs as long as the broker does.
pub async fn publish(local: Arc<Local>, house: Arc<House>) -> anyhow::Result<()> {
    let nobody = Dues::default();
    loop {
        let will = house.next_will().await;
        let ways = local.ways_within(&will.topic, will.qos, LONGEST_WAIT).await;
        if let Err(error) = local.send(will, ways, Origin::Nobody, &nobody, None).await {
            debug!(%error, "a will was not published");
        }
    }
}
