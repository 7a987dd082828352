//! What runs, as numbers for programs that collect them. Names and units go by the conventions of Prometheus; the
//! table of all of them stands in the README.

use forebay_sdk::Role;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};

use super::report::{Status, Wellness};
use crate::{
    api::Exposition,
    engine::{Histogram, PartReport, QueueReport, StateName},
};

/// The media type of a text, and the text.
pub(super) fn expose(status: Status, exposition: Exposition) -> (&'static str, String) {
    let mut registry = Registry::with_prefix("forebay");
    registry.register_collector(Box::new(Collected(status)));
    let mut written = String::new();
    let (kind, done) = match exposition {
        Exposition::Prometheus => (
            "text/plain; version=0.0.4; charset=utf-8",
            prometheus_text::encode(&mut written, &registry),
        ),
        Exposition::OpenMetrics => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text::encode(&mut written, &registry),
        ),
    };
    debug_assert!(done.is_ok(), "memory takes all that is written");
    (kind, written)
}

#[derive(Debug)]
struct Collected(Status);

/// A number of the whole program.
struct OfProgram {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: fn(&Status) -> Option<f64>,
}

/// A number of a node or connection, as it is now.
struct OfPart {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: fn(&PartReport) -> Option<f64>,
}

/// A number of a node or connection that only grows.
struct Counted {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    /// Its name in the report.
    counted: &'static str,
    /// Of these it is told when it is zero, too: a rate wants to see the first step.
    always_of: &'static [Role],
}

const NODES: [Role; 3] = [Role::Source, Role::Transform, Role::Sink];

const OF_PROGRAM: [OfProgram; 7] = [
    OfProgram {
        name: "uptime",
        help: "How long the process has been running",
        unit: Some(Unit::Seconds),
        value: |status| Some(status.running_for_s as f64),
    },
    OfProgram {
        name: "well",
        help: "1 when all is well, 0 when a person should look at something",
        unit: None,
        value: |status| Some(truth(status.health.state == Wellness::Well)),
    },
    OfProgram {
        name: "ready",
        help: "1 when pipelines run, 0 when none could be started",
        unit: None,
        value: |status| Some(truth(status.health.state != Wellness::NotReady)),
    },
    OfProgram {
        name: "files_refused",
        help: "1 when the files on disk are refused and others run",
        unit: None,
        value: |status| Some(truth(status.files.refused.is_some())),
    },
    OfProgram {
        name: "pipelines",
        help: "Pipelines that run",
        unit: None,
        value: |status| Some(status.files.pipelines as f64),
    },
    OfProgram {
        name: "clock_set",
        help: "1 when the time of day can be trusted",
        unit: None,
        value: |status| Some(truth(status.clock_is_set)),
    },
    OfProgram {
        name: "resident_memory",
        help: "Memory that the process takes",
        unit: Some(Unit::Bytes),
        value: |status| status.memory_bytes.map(|bytes| bytes as f64),
    },
];

const OF_PARTS: [OfPart; 8] = [
    OfPart {
        name: "waiting",
        help: "1 when it waits for its other side or is broken",
        unit: None,
        value: |part| Some(truth(matches!(part.state, StateName::Waiting | StateName::Broken))),
    },
    OfPart {
        name: "failing",
        help: "1 when all that it does has failed for half a minute; absent otherwise",
        unit: None,
        value: |part| part.failing.as_ref().map(|_| 1.0),
    },
    OfPart {
        name: "state_age",
        help: "How long it has been running, waiting or broken",
        unit: Some(Unit::Seconds),
        value: |part| Some(part.for_s as f64),
    },
    OfPart {
        name: "queue_messages",
        help: "Messages that wait in front of it",
        unit: None,
        value: |part| of_queue(part, |queue| queue.messages as f64),
    },
    OfPart {
        name: "queue",
        help: "What waits in front of it",
        unit: Some(Unit::Bytes),
        value: |part| of_queue(part, |queue| queue.bytes as f64),
    },
    OfPart {
        name: "queue_used_ratio",
        help: "How much of its limits the queue in front of it has taken, from 0 to 1",
        unit: None,
        value: |part| of_queue(part, |queue| queue.used),
    },
    OfPart {
        name: "queue_oldest_age",
        help: "How long the oldest message in memory has waited",
        unit: Some(Unit::Seconds),
        value: |part| Some(part.queue.as_ref()?.oldest_s? as f64),
    },
    OfPart {
        name: "busy_ratio",
        help: "The share of its time that a bus is busy, from 0 to 1",
        unit: None,
        value: |part| part.busy,
    },
];

const COUNTED: [Counted; 15] = [
    Counted {
        name: "received_messages",
        help: "Messages that it read",
        unit: None,
        counted: "received",
        always_of: &[Role::Transform, Role::Sink],
    },
    Counted {
        name: "emitted_messages",
        help: "Messages that it sent on",
        unit: None,
        counted: "emitted",
        always_of: &[Role::Source, Role::Transform],
    },
    Counted {
        name: "delivered_messages",
        help: "Messages that the other side took responsibility for",
        unit: None,
        counted: "delivered",
        always_of: &[Role::Sink],
    },
    Counted {
        name: "errors",
        help: "Errors, each message or poll by itself",
        unit: None,
        counted: "errors",
        always_of: &Role::ALL,
    },
    Counted {
        name: "refused_messages",
        help: "Messages that it or its other side refused, and that nobody reads at `errors`",
        unit: None,
        counted: "refused",
        always_of: &NODES,
    },
    Counted {
        name: "dropped_messages",
        help: "Messages that were dropped as its limits say",
        unit: None,
        counted: "dropped",
        always_of: &NODES,
    },
    Counted {
        name: "expired_messages",
        help: "Of the dropped messages, those that were too old",
        unit: None,
        counted: "expired",
        always_of: &[],
    },
    Counted {
        name: "lost_messages",
        help: "Messages that are gone though no limit said so",
        unit: None,
        counted: "lost",
        always_of: &NODES,
    },
    Counted {
        name: "unread_messages",
        help: "Messages that went to an output that nobody reads",
        unit: None,
        counted: "unread",
        always_of: &[],
    },
    Counted {
        name: "retries",
        help: "Attempts that were repeated",
        unit: None,
        counted: "retries",
        always_of: &Role::ALL,
    },
    Counted {
        name: "in_doubt_writes",
        help: "Writes of which nobody knows whether they happened",
        unit: None,
        counted: "in_doubt",
        always_of: &[],
    },
    Counted {
        name: "overruns",
        help: "Beats that were skipped because the one before took too long",
        unit: None,
        counted: "overruns",
        always_of: &[],
    },
    Counted {
        name: "received",
        help: "Bytes that came over the wire",
        unit: Some(Unit::Bytes),
        counted: "bytes_in",
        always_of: &[],
    },
    Counted {
        name: "sent",
        help: "Bytes that went over the wire",
        unit: Some(Unit::Bytes),
        counted: "bytes_out",
        always_of: &[],
    },
    Counted {
        name: "disk_written",
        help: "Bytes that were written to disk: buffers, what nodes remember, files",
        unit: Some(Unit::Bytes),
        counted: "bytes_to_disk",
        always_of: &[],
    },
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Collected(status) = self;
        let help = "The version that runs";
        let mut info = encoder.encode_descriptor("build", help, None, MetricType::Info)?;
        info.encode_info(&[("version", status.version.as_str())])?;
        for OfProgram { name, help, unit, value } in &OF_PROGRAM {
            if let Some(value) = value(status) {
                encoder
                    .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
                    .encode_gauge(&value)?;
            }
        }
        let parts = || status.report.parts();
        for OfPart { name, help, unit, value } in &OF_PARTS {
            let mut values = parts().filter_map(|part| Some((part, value(part)?))).peekable();
            if values.peek().is_none() {
                continue;
            }
            let mut family =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (part, value) in values {
                family.encode_family(&labels(part))?.encode_gauge(&value)?;
            }
        }
        for Counted { name, help, unit, counted, always_of } in &COUNTED {
            let count = |part: &PartReport| {
                let count = part.counts.get(*counted).copied();
                count.or_else(|| always_of.contains(&part.role).then_some(0))
            };
            let mut counts = parts().filter_map(|part| Some((part, count(part)?))).peekable();
            if counts.peek().is_none() {
                continue;
            }
            let mut family =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for (part, count) in counts {
                let none: Option<&Exemplar<[(&str, &str); 0], f64>> = None;
                family.encode_family(&labels(part))?.encode_counter(&count, none)?;
            }
        }
        let kinds =
            || parts().flat_map(|part| part.errors_by_kind.iter().map(move |kind| (part, kind)));
        if kinds().next().is_some() {
            let help = "The errors by what they are about";
            let mut family =
                encoder.encode_descriptor("errors_by_kind", help, None, MetricType::Counter)?;
            for (part, (kind, count)) in kinds() {
                let [node, role, kind_of_node] = labels(part);
                let labels = [node, role, kind_of_node, ("kind", kind)];
                let none: Option<&Exemplar<[(&str, &str); 0], f64>> = None;
                family.encode_family(&labels)?.encode_counter(count, none)?;
            }
        }
        let mut latencies =
            parts().filter_map(|part| Some((part, part.latencies.as_ref()?))).peekable();
        if latencies.peek().is_some() {
            let (name, seconds) = ("delivery_latency", Some(&Unit::Seconds));
            let help = "How long messages took from their source until the other side had them";
            let mut family =
                encoder.encode_descriptor(name, help, seconds, MetricType::Histogram)?;
            for (part, Histogram { buckets, sum }) in latencies {
                let count = buckets.iter().map(|(_, count)| count).sum();
                family.encode_family(&labels(part))?.encode_histogram::<[(&str, &str); 0]>(
                    sum.as_secs_f64(),
                    count,
                    buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }
}

/// As many values as there are nodes: names of devices, topics or errors are no labels.
fn labels(part: &PartReport) -> [(&'static str, &str); 3] {
    [("node", &part.name), ("role", part.role.noun()), ("type", &part.type_name)]
}

fn of_queue(part: &PartReport, value: fn(&QueueReport) -> f64) -> Option<f64> {
    part.queue.as_ref().map(value)
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
