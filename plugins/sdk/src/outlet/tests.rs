//! What an outlet promises to a source.

use serde_json::json;

use super::*;
use crate::testing::outlet;

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_sent_again_until_it_is_delivered() {
    let (out, mut collected) = outlet(1);
    let delivering = out.deliver(Message::new("n", json!(1)));
    let reading = async {
        for is_last in [false, false, true] {
            let envelope = collected.envelopes.recv().await.unwrap();
            assert_eq!(envelope.message.payload.value(), Ok(&json!(1)));
            if is_last {
                Delivery::settle_all(envelope.delivery);
            }
        }
    };
    tokio::join!(delivering, reading);
}
