//! Pipelines that several tests run.

/// Numbers from one broker to another, through a script and what the sink's `buffer` says.
pub fn numbers(plant: &str, cloud: &str, buffer: &str) -> String {
    format!(
        "connections:
  plant: {{ type: mqtt, url: '{plant}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: '{cloud}', client_id: forebay }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1 }}
transforms:
  pass: {{ from: numbers, type: script, script: msg }}
sinks:
  cloud:
    from: pass
    type: mqtt
    connection: cloud
    qos: 1
    buffer: {{ {buffer} }}
"
    )
}

/// Orders from a broker to a web service.
pub fn orders(broker: &str, service: &str) -> String {
    format!(
        "connections:
  cloud: {{ type: mqtt, url: '{broker}', client_id: forebay, clean_session: false }}
sources:
  orders: {{ type: mqtt, connection: cloud, topics: [order/#], qos: 1 }}
sinks:
  service: {{ from: orders, type: http, url: '{service}' }}
"
    )
}
