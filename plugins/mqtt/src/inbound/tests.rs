use forebay_sdk::{
    Figure, Voice,
    mqtt::{Manner, Retained},
    testing::{Heard, voice},
};
use futures_util::task::noop_waker;

use super::{
    state::{HOLD, MOST_FORCED_BYTES, MOST_FORCED_WAITING, MOST_QUEUED_BYTES, MOST_WAITING},
    *,
};
use crate::ledger::Ack;

fn inbound() -> (Arc<Inbound>, Arc<Heard>) {
    let (voice, heard) = voice();
    (Inbound::new(voice), heard)
}

fn reader(inbound: &Arc<Inbound>, node: &str, topics: &[&str]) -> Inlet {
    register(inbound, node, topics, 1, 10)
}

fn register(
    inbound: &Arc<Inbound>,
    node: &str,
    topics: &[&str],
    qos: u8,
    capacity: usize,
) -> Inlet {
    let filters = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let voice = Voice::unheard();
    let manner = Manner::of_qos(qos);
    inbound.register(Subscribe { reader: node.into(), filters, manner, capacity, voice })
}

/// A message comes in; its payload is the packet id.
fn arrive(inbound: &Inbound, topic: &str, packet: u16) -> Result<(), Full> {
    let publication = Publication::new(topic, packet.to_string()).qos(u8::from(packet > 0));
    inbound.arrived(publication, packet, false, &[])
}

/// What comes next for a reader, if it is there.
fn next(inlet: &mut Inlet) -> Option<Event> {
    match inlet.poll_next(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

fn take(inlet: &mut Inlet) -> Option<Parcel> {
    next(inlet).map(|event| match event {
        Event::Parcel(parcel) => parcel,
        _ => panic!("expected a message"),
    })
}

fn settle(parcel: Parcel) {
    if let Some(claim) = parcel.claim {
        claim.settle();
    }
}

/// The payloads of all that a reader is given now, settled.
fn given(inlet: &mut Inlet) -> Vec<String> {
    let mut payloads = Vec::new();
    while let Some(parcel) = take(inlet) {
        payloads.push(String::from_utf8(parcel.publication.payload.to_vec()).unwrap());
        settle(parcel);
    }
    payloads
}

fn wanted(inbound: &Inbound) -> Vec<(String, u8)> {
    inbound.wanted().filters.into_iter().map(|(filter, wish)| (filter, wish.manner.qos)).collect()
}

/// Whether nothing is read from the broker.
fn is_closed(inbound: &Inbound) -> bool {
    inbound.gate.is_closed(&noop_waker())
}

/// Nothing is owed to anybody.
fn is_clear(inbound: &Inbound) -> bool {
    let state = inbound.lock();
    state.waiting.is_empty() && state.readers.iter().all(|reader| reader.unsettled == 0)
}

#[tokio::test(start_paused = true)]
async fn a_subscription_outlives_its_reader_for_a_while() {
    let (inbound, _) = inbound();
    let old = reader(&inbound, "a", &["t/#", "old"]);
    let other = register(&inbound, "b", &["t/#"], 2, 10);
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
    let (inbound, _) = inbound();
    let mut old = reader(&inbound, "a", &["t"]);
    let mut other = reader(&inbound, "b", &["t"]);
    for packet in 1..=3 {
        arrive(&inbound, "t", packet).unwrap();
    }
    let (first, second) = (take(&mut old).unwrap(), take(&mut old).unwrap());
    settle(second);
    drop(old);
    assert_eq!(given(&mut other), ["1", "2", "3"]);
    let mut new = reader(&inbound, "a", &["t"]);
    assert_eq!(given(&mut new), ["3"]);
    drop(first);
    assert_eq!(given(&mut new), ["1"]);
    assert_eq!(given(&mut other), <[String; 0]>::default());
    assert!(is_clear(&inbound));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_the_engine_starts_again_goes_on_in_order() {
    let (inbound, _) = inbound();
    let mut inlet = reader(&inbound, "a", &["t"]);
    for packet in 1..=3 {
        arrive(&inbound, "t", packet).unwrap();
    }
    drop((take(&mut inlet), take(&mut inlet)));
    assert_eq!(given(&mut inlet), ["1", "2", "3"]);
    assert!(is_clear(&inbound));
}

#[tokio::test(start_paused = true)]
async fn while_two_of_a_node_overlap_the_new_one_counts() {
    let (inbound, _) = inbound();
    let mut old = reader(&inbound, "a", &["t", "old"]);
    let mut new = reader(&inbound, "a", &["t"]);
    arrive(&inbound, "t", 1).unwrap();
    arrive(&inbound, "old", 2).unwrap();
    assert_eq!(given(&mut new), ["1"]);
    assert_eq!(given(&mut old), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_waits_at_first_and_is_dropped_later() {
    let (inbound, heard) = inbound();
    arrive(&inbound, "t", 1).unwrap();
    arrive(&inbound, "t", 0).unwrap();
    arrive(&inbound, "u", 2).unwrap();
    let mut late = reader(&inbound, "a", &["t"]);
    assert_eq!(given(&mut late), ["1"]);
    assert!(!is_clear(&inbound));

    tokio::time::advance(HOLD).await;
    inbound.wanted();
    assert!(is_clear(&inbound));
    arrive(&inbound, "u", 3).unwrap();
    assert!(is_clear(&inbound));
    assert_eq!(heard.figure(Figure::Dropped), 2);
    // Dropped or delivered, the broker is told.
    for packet in 1..=3 {
        let mut state = inbound.lock();
        assert_eq!(state.ledger.next_ack(), Some(Ack::PubAck(packet)));
        state.ledger.acknowledged();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_renamed_gets_what_was_left_behind() {
    let (inbound, _) = inbound();
    let old = reader(&inbound, "old", &["t"]);
    arrive(&inbound, "t", 1).unwrap();
    drop(old);
    let mut renamed = reader(&inbound, "new", &["t"]);
    assert_eq!(given(&mut renamed), <[String; 0]>::default());
    tokio::time::advance(HOLD).await;
    inbound.wanted();
    assert_eq!(given(&mut renamed), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_nobody_is_bounded() {
    let (inbound, _) = inbound();
    for packet in 1..=MOST_FORCED_WAITING {
        assert_eq!(is_closed(&inbound), packet > MOST_WAITING);
        arrive(&inbound, "t", packet as u16).unwrap();
    }
    let error = arrive(&inbound, "t", 3000).unwrap_err();
    assert!(error.to_string().starts_with("2000 messages wait"), "{error}");
    tokio::time::advance(HOLD).await;
    inbound.wanted();
    assert!(!is_closed(&inbound));
}

#[tokio::test(start_paused = true)]
async fn a_full_reader_has_the_broker_not_read_until_it_takes_something() {
    let (inbound, _) = inbound();
    let mut inlet = register(&inbound, "slow", &["t"], 1, 10);
    let large = |packet| {
        let publication = Publication::new("t", vec![b'x'; MOST_QUEUED_BYTES / 2]).qos(1);
        inbound.arrived(publication, packet, false, &[]).unwrap();
    };
    large(1);
    assert!(!is_closed(&inbound));
    large(2);
    assert!(is_closed(&inbound));
    // Whoever waits for an answer has it read.
    let awaited = inbound.gate.await_answer();
    assert!(!is_closed(&inbound));
    drop(awaited);
    assert!(is_closed(&inbound));
    let parcel = take(&mut inlet).unwrap();
    assert!(!is_closed(&inbound));
    // Not delivered, it is given back.
    drop(parcel);
    assert!(is_closed(&inbound));
    drop(inlet);
    assert!(is_closed(&inbound));
    assert_eq!(given(&mut register(&inbound, "slow", &["t"], 1, 10)).len(), 2);
    assert!(!is_closed(&inbound));
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_at_qos_0_names_the_sink_whose_buffer_is_full() {
    let (inbound, heard) = inbound();
    let (voice, sink) = voice();
    sink.hold_up("p/cloud");
    let filters = vec!["t".to_owned()];
    let wish = Subscribe {
        reader: "p/meter".into(),
        filters,
        manner: Manner::default(),
        capacity: 1,
        voice,
    };
    let _meter = inbound.register(wish);
    for _ in 0..3 {
        arrive(&inbound, "t", 0).unwrap();
    }
    let line = "the buffer of p/cloud is full, so p/meter takes no more, and what comes at QoS 0 \
                does not wait";
    assert_eq!(heard.said().dropped, [line; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_full_reader_refuses_before_anybody_is_given_anything() {
    let (inbound, heard) = inbound();
    let mut roomy = reader(&inbound, "roomy", &["t"]);
    let mut small = register(&inbound, "small", &["t"], 1, 1);
    let large = Publication::new("t", vec![b'x'; MOST_FORCED_BYTES]).qos(1);
    inbound.arrived(large, 1, false, &[]).unwrap();
    assert_eq!(given(&mut roomy).len(), 1);
    let error = arrive(&inbound, "t", 2).unwrap_err().to_string();
    assert!(error.starts_with("small has as many on their way"), "{error}");
    assert!(error.contains("1 messages are not delivered yet"), "{error}");
    arrive(&inbound, "t", 0).unwrap();
    assert_eq!(given(&mut roomy), ["0"]);
    assert_eq!(heard.figure(Figure::Dropped), 1);
    assert!(heard.said().dropped[0].starts_with("small has as many on their way"));
    assert_eq!(given(&mut small).len(), 1);
    // Sent again by the broker, it is a new message to both.
    inbound.lock().ledger.resume();
    inbound.arrived(Publication::new("t", "2").qos(1), 2, true, &[]).unwrap();
    assert_eq!((given(&mut roomy), given(&mut small)), (vec!["2".into()], vec!["2".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_burst_at_qos_1_waits_until_the_reader_may_take_more() {
    let (inbound, _) = inbound();
    let mut inlet = register(&inbound, "slow", &["t"], 1, 2);
    for packet in 1..=100 {
        arrive(&inbound, "t", packet).unwrap();
    }
    let (first, second) = (take(&mut inlet).unwrap(), take(&mut inlet).unwrap());
    assert!(take(&mut inlet).is_none(), "two are not delivered yet");
    settle(first);
    assert_eq!(take(&mut inlet).unwrap().publication.payload, "3");
    // Not settled, the third was given back.
    settle(second);
    let rest = given(&mut inlet);
    assert_eq!((rest.len(), rest[0].as_str(), rest[97].as_str()), (98, "3", "100"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_how_its_filters_were_taken_once_a_connection() {
    let (inbound, _) = inbound();
    let mut partly = reader(&inbound, "a", &["secret", "t", "#/wrong"]);
    let mut fine = reader(&inbound, "b", &["t"]);
    let mut barred = reader(&inbound, "c", &["secret"]);
    let heard = |inlet: &mut Inlet| match next(inlet) {
        Some(Event::Granted) => "granted".to_owned(),
        Some(Event::Refused { filter, .. }) => format!("refused {filter}"),
        Some(_) => "something else".to_owned(),
        None => "nothing".to_owned(),
    };
    assert_eq!(heard(&mut partly), "refused #/wrong");
    assert_eq!(inbound.wanted().anew, ["secret".to_owned(), "t".to_owned()].into());
    let answers = Answers {
        granted: ["t".to_owned()].into(),
        refused: ["secret".to_owned()].into(),
        refused_now: vec![("secret".to_owned(), "no".to_owned())],
    };
    for _ in 0..2 {
        inbound.answered(&answers);
        assert_eq!([heard(&mut partly), heard(&mut partly)], ["refused secret", "granted"]);
        assert_eq!([heard(&mut fine), heard(&mut fine)], ["granted", "nothing"]);
        assert_eq!([heard(&mut barred), heard(&mut barred)], ["refused secret", "nothing"]);
        // The same once more says nothing new.
        inbound.answered(&Answers { refused_now: Vec::new(), ..answers.clone() });
        assert_eq!([heard(&mut partly), heard(&mut fine)], ["nothing", "nothing"]);
        inbound.lock().begin(false);
    }
    // It is asked for all the same, and what comes of it is delivered.
    assert_eq!(wanted(&inbound), [("secret".into(), 1), ("t".into(), 1)]);
    arrive(&inbound, "secret", 1).unwrap();
    assert_eq!((given(&mut partly), given(&mut barred)), (vec!["1".into()], vec!["1".into()]));
}

/// The broker is asked for a filter on behalf of some readers. The number of that.
fn numbered(inbound: &Inbound, filter: &str, readers: &[&str]) -> u32 {
    let number = number([filter].into_iter());
    let readers = readers.iter().map(|reader| Arc::from(*reader)).collect();
    inbound.numbered(number, &[(filter.to_owned(), Manner::of_qos(1))], &readers);
    number
}

#[tokio::test(start_paused = true)]
async fn a_copy_for_each_of_two_overlapping_filters_was_given_to_both_sources() {
    let (inbound, _) = inbound();
    let mut all = reader(&inbound, "p/all", &["t/+"]);
    let mut one = reader(&inbound, "p/one", &["t/a"]);
    let by_all = numbered(&inbound, "t/+", &["p/all"]);
    let by_one = numbered(&inbound, "t/a", &["p/one"]);
    let arrive = |payload: &'static str, by: &[u32]| {
        inbound.arrived(Publication::new("t/a", payload), 0, false, by).unwrap();
    };
    arrive("not all were answered", &[by_all]);
    inbound.answered(&Answers::default());
    arrive("first", &[by_all]);
    arrive("second", &[by_one]);
    arrive("in one", &[by_one, by_all]);
    arrive("of an earlier connection", &[by_all, 99_999]);
    arrive("not said", &[]);
    let both = ["of an earlier connection", "not said"];
    let expected = |own| [&["not all were answered", own, "in one"], &both[..]].concat();
    assert_eq!(given(&mut all), expected("first"));
    assert_eq!(given(&mut one), expected("second"));
    // Who comes later and asks for the same needs no subscription of his own.
    let mut later = reader(&inbound, "p/later", &["t/+"]);
    arrive("third", &[by_all]);
    assert_eq!((given(&mut all), given(&mut later)), (vec!["third".into()], vec!["third".into()]));
    // And who is replaced gets what comes by the subscription of before.
    drop(one);
    let mut wider = reader(&inbound, "p/one", &["t/#"]);
    arrive("fourth", &[by_one]);
    assert_eq!(given(&mut wider), ["fourth"]);
}

#[tokio::test(start_paused = true)]
async fn a_kept_command_came_again_with_each_connection_to_a_broker_of_3_1_1() {
    let (inbound, _) = inbound();
    let mut all = reader(&inbound, "p/all", &["t"]);
    let manner = Manner { retained: Retained::Never, ..Manner::of_qos(1) };
    let wish = |reader: &str, manner| Subscribe {
        reader: reader.into(),
        filters: vec!["t".to_owned()],
        manner,
        capacity: 10,
        voice: Voice::unheard(),
    };
    let mut fresh = inbound.register(wish("p/fresh", manner));
    let arrive = |payload: &'static str, packet: u16, retain: bool| {
        let publication = Publication::new("t", payload).qos(u8::from(packet > 0)).retain(retain);
        inbound.arrived(publication, packet, false, &[]).unwrap();
    };
    arrive("kept", 1, true);
    arrive("kept at QoS 0", 0, true);
    arrive("now", 2, false);
    assert_eq!(given(&mut all), ["kept", "kept at QoS 0", "now"]);
    assert_eq!(given(&mut fresh), ["now"]);
    // Nobody else wants it: it is acknowledged.
    drop(all);
    arrive("kept", 3, true);
    assert!(given(&mut fresh).is_empty());
    let mut acks = Vec::new();
    let mut state = inbound.lock();
    while let Some(ack) = state.ledger.next_ack() {
        acks.push(ack);
        state.ledger.acknowledged();
    }
    drop(state);
    assert_eq!(acks, [1, 2, 3].map(Ack::PubAck));
    // Where messages are marked as they were published, the mark says nothing of that.
    let marked = Manner { retain_as_published: true, ..Manner::of_qos(1) };
    let mut other = inbound.register(wish("p/other", marked));
    arrive("marked", 4, true);
    assert_eq!(
        (given(&mut fresh), given(&mut other)),
        (vec!["marked".into()], vec!["marked".into()])
    );
}
