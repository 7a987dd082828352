use rumqttc::QoS;

use super::{
    state::{HOLD, MOST_QUEUED_BYTES, MOST_WAITING},
    *,
};
use crate::ledger::Ack;

fn filters(texts: &[&str]) -> Vec<Filter> {
    texts.iter().map(|text| Filter::parse(text).unwrap()).collect()
}

fn reader(inbound: &Arc<Inbound>, node: &str, topics: &[&str]) -> Inlet {
    inbound.register(node.into(), filters(topics), 1, 10)
}

fn publish(topic: &str, packet: u16) -> Publish {
    let qos = if packet == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let mut publish = Publish::new(topic, qos, packet.to_string());
    publish.pkid = packet;
    publish
}

/// The payloads of all that a reader is given now, settled.
fn given(inlet: &Inlet) -> Vec<String> {
    let parcels = std::iter::from_fn(|| inlet.take());
    let payload = |parcel: Parcel| {
        parcel.claim.settle();
        String::from_utf8(parcel.publication.payload.to_vec()).unwrap()
    };
    parcels.map(payload).collect()
}

fn wanted(inbound: &Inbound) -> Vec<(String, u8)> {
    inbound.wanted().filters.into_iter().collect()
}

/// Nothing is owed to anybody.
fn is_clear(inbound: &Inbound) -> bool {
    let state = inbound.lock();
    state.waiting.is_empty() && state.readers.iter().all(|reader| reader.unsettled == 0)
}

#[tokio::test(start_paused = true)]
async fn a_subscription_outlives_its_reader_for_a_while() {
    let inbound = Inbound::new();
    let old = reader(&inbound, "a", &["t/#", "old"]);
    let other = inbound.register("b".into(), filters(&["t/#"]), 2, 10);
    assert_eq!(wanted(&inbound), [("old".into(), 1), ("t/#".into(), 2)]);
    drop(old);
    let now = inbound.wanted();
    assert_eq!(now.filters.into_keys().collect::<Vec<_>>(), ["t/#"]);
    assert!(now.kept.contains(&"old".to_owned()));
    tokio::time::sleep_until(now.until.unwrap()).await;
    let later = inbound.wanted();
    assert_eq!((later.kept.len(), later.until), (0, None));
    drop(other);
    assert_eq!(wanted(&inbound), []);
}

#[tokio::test(start_paused = true)]
async fn a_successor_gets_what_was_not_settled_and_nobody_else_does() {
    let inbound = Inbound::new();
    let old = reader(&inbound, "a", &["t"]);
    let other = reader(&inbound, "b", &["t"]);
    for packet in 1..=3 {
        inbound.arrived(&publish("t", packet)).unwrap();
    }
    let (first, second) = (old.take().unwrap(), old.take().unwrap());
    second.claim.settle();
    drop(old);
    assert_eq!(given(&other), ["1", "2", "3"]);
    let new = reader(&inbound, "a", &["t"]);
    assert_eq!(given(&new), ["3"]);
    drop(first);
    assert_eq!(given(&new), ["1"]);
    assert_eq!(given(&other), <[String; 0]>::default());
    assert!(is_clear(&inbound));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_the_engine_starts_again_goes_on_in_order() {
    let inbound = Inbound::new();
    let inlet = reader(&inbound, "a", &["t"]);
    for packet in 1..=3 {
        inbound.arrived(&publish("t", packet)).unwrap();
    }
    drop((inlet.take(), inlet.take()));
    assert_eq!(given(&inlet), ["1", "2", "3"]);
    assert!(is_clear(&inbound));
}

#[tokio::test(start_paused = true)]
async fn while_two_of_a_node_overlap_the_new_one_counts() {
    let inbound = Inbound::new();
    let old = reader(&inbound, "a", &["t", "old"]);
    let new = reader(&inbound, "a", &["t"]);
    inbound.arrived(&publish("t", 1)).unwrap();
    inbound.arrived(&publish("old", 2)).unwrap();
    assert_eq!(given(&new), ["1"]);
    assert_eq!(given(&old), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_waits_at_first_and_is_dropped_later() {
    let inbound = Inbound::new();
    inbound.arrived(&publish("t", 1)).unwrap();
    inbound.arrived(&publish("t", 0)).unwrap();
    inbound.arrived(&publish("u", 2)).unwrap();
    let late = reader(&inbound, "a", &["t"]);
    assert_eq!(given(&late), ["1"]);
    assert!(!is_clear(&inbound));

    tokio::time::advance(HOLD).await;
    inbound.wanted();
    assert!(is_clear(&inbound));
    inbound.arrived(&publish("u", 3)).unwrap();
    assert!(is_clear(&inbound));
    // Dropped or delivered, the broker is told.
    for packet in 1..=3 {
        let mut state = inbound.lock();
        assert_eq!(state.ledger.next_ack(), Some(Ack::PubAck(packet)));
        state.ledger.acknowledged();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_renamed_gets_what_was_left_behind() {
    let inbound = Inbound::new();
    let old = reader(&inbound, "old", &["t"]);
    inbound.arrived(&publish("t", 1)).unwrap();
    drop(old);
    let renamed = reader(&inbound, "new", &["t"]);
    assert_eq!(given(&renamed), <[String; 0]>::default());
    tokio::time::advance(HOLD).await;
    inbound.wanted();
    assert_eq!(given(&renamed), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_nobody_is_bounded() {
    let inbound = Inbound::new();
    for packet in 1..=MOST_WAITING {
        inbound.arrived(&publish("t", packet as u16)).unwrap();
    }
    let error = inbound.arrived(&publish("t", 2000)).unwrap_err();
    assert!(error.to_string().contains("1000 messages wait"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_full_reader_refuses_before_anybody_is_given_anything() {
    let inbound = Inbound::new();
    let roomy = reader(&inbound, "roomy", &["t"]);
    let small = inbound.register("small".into(), filters(&["t"]), 1, 1);
    let mut large = publish("t", 1);
    large.payload = vec![b'x'; MOST_QUEUED_BYTES].into();
    inbound.arrived(&large).unwrap();
    assert_eq!(given(&roomy).len(), 1);
    let error = inbound.arrived(&publish("t", 2)).unwrap_err().to_string();
    assert!(error.starts_with("the queue of small is full: 1 messages"), "{error}");
    inbound.arrived(&publish("t", 0)).unwrap();
    assert_eq!(given(&roomy), ["0"]);
    assert_eq!(given(&small).len(), 1);
    // Sent again by the broker, it is a new message to both.
    inbound.lock().ledger.resume();
    let mut again = publish("t", 2);
    again.dup = true;
    inbound.arrived(&again).unwrap();
    assert_eq!((given(&roomy), given(&small)), (vec!["2".into()], vec!["2".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_burst_at_qos_1_waits_until_the_reader_may_take_more() {
    let inbound = Inbound::new();
    let inlet = inbound.register("slow".into(), filters(&["t"]), 1, 2);
    for packet in 1..=100 {
        inbound.arrived(&publish("t", packet)).unwrap();
    }
    let (first, second) = (inlet.take().unwrap(), inlet.take().unwrap());
    assert!(inlet.take().is_none(), "two are not delivered yet");
    first.claim.settle();
    assert_eq!(inlet.take().unwrap().publication.payload, "3");
    // Not settled, the third was given back.
    second.claim.settle();
    let rest = given(&inlet);
    assert_eq!((rest.len(), rest[0].as_str(), rest[97].as_str()), (98, "3", "100"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_reader_is_left_out_until_it_asks_again() {
    let inbound = Inbound::new();
    let refused = reader(&inbound, "a", &["secret", "t"]);
    let fine = reader(&inbound, "b", &["t"]);
    let granted = [("t".to_owned(), 1)].into();
    inbound.answered(&granted, &["secret".to_owned()]);
    assert_eq!(*refused.standing().borrow(), Standing::Refused("secret".into()));
    assert_eq!(*fine.standing().borrow(), Standing::Granted);
    assert_eq!(wanted(&inbound), [("t".into(), 1)]);
    inbound.arrived(&publish("t", 1)).unwrap();
    assert_eq!((given(&refused), given(&fine)), (vec![], vec!["1".into()]));
    refused.ask_again();
    inbound.arrived(&publish("t", 2)).unwrap();
    assert_eq!((given(&refused), given(&fine)), (vec!["2".into()], vec!["2".into()]));
    assert_eq!(wanted(&inbound), [("secret".into(), 1), ("t".into(), 1)]);
}
