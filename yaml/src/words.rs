//! What users of other programs call our settings and choices: Node-RED, Telegraf, Home Assistant,
//! RutOS, Mosquitto. What is suggested in their place is checked like what users write.

use serde_json::{Map, Value};

use crate::{
    finding::{Finding, Span},
    parse::{Limits, parse},
    rules,
    secret::holds_secrets,
    tree::{Content, Entry, Meaning, Scalar, Yaml},
    units::form_of,
};

/// Their names of settings, each with those of ours that it may mean. Compared without case, `_` and
/// `-`, and without a unit of time at the end.
const SETTINGS: [(&[&str], &[&str]); 47] = [
    (&["slave", "slaveid", "unitid", "serverid", "deviceid", "station"], &["unit"]),
    (
        &[
            "interval",
            "scaninterval",
            "pollinterval",
            "pollinginterval",
            "period",
            "repeat",
            "rate",
            "pollrate",
            "pollingrate",
            "scanrate",
            "updateinterval",
            "frequency",
        ],
        &["every"],
    ),
    (
        &[
            "byteorder",
            "wordorder",
            "endian",
            "endianness",
            "swap",
            "bigendian",
            "littleendian",
            "reverseorder",
        ],
        &["order"],
    ),
    (&["type", "datatype", "dtype", "format"], &["kind"]),
    (
        &[
            "host",
            "hostname",
            "server",
            "servers",
            "broker",
            "brokers",
            "brokerurl",
            "ip",
            "uri",
            "uris",
            "urls",
            "endpoint",
            "endpoints",
            "address",
            "controller",
            "device",
            "serial",
            "serialport",
            "port",
            "tty",
        ],
        &["url"],
    ),
    (&["user", "login", "usr"], &["username"]),
    (&["pass", "passwd", "pwd"], &["password"]),
    (&["client", "clientid", "remoteclientid"], &["client_id"]),
    (&["clean", "cleanstart", "persistentsession"], &["clean_session"]),
    (&["qoslevel", "qualityofservice"], &["qos"]),
    (&["retained", "retainflag"], &["retain"]),
    (&["precision", "decimals", "digits"], &["round"]),
    (
        &[
            "cafile",
            "cacert",
            "cacerts",
            "tlsca",
            "bridgecafile",
            "rootca",
            "rootcas",
            "rootcasfile",
        ],
        &["ca"],
    ),
    (
        &["certfile", "tlscert", "clientcert", "bridgecertfile", "certificate", "crt", "crtfile"],
        &["cert"],
    ),
    (&["keyfile", "tlskey", "clientkey", "bridgekeyfile", "privatekey"], &["key"]),
    (&["input", "inputs", "source", "sources", "reads", "upstream", "in"], &["from"]),
    (&["multiplier", "factor", "gain", "multiply"], &["scale"]),
    (&["unitofmeasurement", "units", "uom"], &["unit"]),
    (&["function", "func", "code", "js", "lambda"], &["script"]),
    (&["file", "filename", "files"], &["path"]),
    (&["keepalive", "keepaliveinterval"], &["keep_alive"]),
    (&["connecttimeout", "connectiontimeout", "dialtimeout"], &["connect_timeout"]),
    (&["requesttimeout", "responsetimeout", "readtimeout"], &["timeout"]),
    (&["protocol", "protocolversion", "mqttversion", "protocollevel"], &["version"]),
    (&["maxpacketsize", "maximumpacketsize", "maxmessagesize"], &["max_packet"]),
    (&["willmessage", "lwt", "lastwill"], &["will"]),
    (&["birthmessage"], &["birth"]),
    (&["closemessage"], &["goodbye"]),
    (&["message", "body", "content", "data"], &["payload"]),
    (&["sessionexpiryinterval", "sessionexpiresafter"], &["session_expiry"]),
    (&["alpnprotocols", "alpnprotos"], &["alpn"]),
    (
        &[
            "topic",
            "subscribe",
            "subscription",
            "subscriptions",
            "topicfilter",
            "topicfilters",
            "filters",
            "statetopic",
        ],
        &["topics"],
    ),
    (&["topics", "commandtopic", "publish"], &["topic"]),
    (&["dataformat", "codec", "decoding", "payloadformat"], &["format"]),
    (&["maxinflight", "inflight", "receivemaximum", "maxundeliveredmessages"], &["in_flight"]),
    (&["fields", "sensors", "metrics", "points", "items"], &["registers"]),
    (&["nanvalue", "nan", "nodata", "invalidvalue"], &["absent"]),
    (&["omit"], &["hidden"]),
    (&["messagewait", "requestdelay", "pauseafterrequest", "commanddelay"], &["pause"]),
    (&["delay", "pauseafterconnect"], &["after_connect"]),
    (&["verb"], &["method"]),
    (&["type", "storage"], &["store"]),
    (&["maxsize"], &["max_bytes"]),
    (&["maxevents", "maxcount", "count"], &["max_messages"]),
    (&["timeout", "period", "linger"], &["max_wait"]),
    (&["notificationtopic", "notificationslocalonly"], &["notifications"]),
    (&["threshold"], &["batch"]),
];

/// What their settings say of a serial line stands behind the address here.
const OF_A_LINE: [(&[&str], &str); 3] = [
    (&["baud", "baudrate", "bitrate", "speed"], "baud"),
    (&["parity"], "parity"),
    (&["stop", "stopbit", "stopbits"], "stop"),
];
/// Here every serial line is that.
const OF_EVERY_LINE: [&str; 5] = ["bytesize", "databits", "method", "transmissionmode", "framer"];

/// Their settings for which there is none here, where it stands of which one is there, and what is to
/// be done.
const ADVICE: [(&[&str], &[&str], &str); 15] = [
    (
        &[
            "address",
            "addresses",
            "url",
            "host",
            "remoteusername",
            "remotepassword",
            "remoteclientid",
            "clientid",
            "username",
            "password",
            "cleansession",
            "localcleansession",
            "keepaliveinterval",
            "starttype",
            "idletimeout",
            "bridgecafile",
            "bridgecapath",
            "bridgecertfile",
            "bridgekeyfile",
            "bridgeinsecure",
            "bridgealpn",
            "bridgetlsversion",
            "bridgeprotocolversion",
            "restarttimeout",
            "roundrobin",
        ],
        &["remote"],
        "it stands with the settings of the connection that `remote` names; `forebay import` takes over a whole \
         `mosquitto.conf`",
    ),
    (&["tryprivate"], &["remote"], "it is `bridge: true` at the connection that `remote` names"),
    (
        &[
            "timeout",
            "cleansession",
            "persistentsession",
            "keepalive",
            "clientid",
            "username",
            "password",
            "url",
            "urls",
            "host",
            "broker",
            "brokers",
            "server",
            "servers",
            "port",
        ],
        &["connection"],
        "it stands with the settings of the connection",
    ),
    (
        &["tls", "ssl", "usetls", "usessl", "enabletls", "tlsenabled", "secure"],
        &["ca"],
        "with TLS `url` begins with `mqtts://` or `https://`; `ca`, `cert` and `key` stand beside it",
    ),
    (
        &[
            "insecureskipverify",
            "skipcertverify",
            "tlsinsecure",
            "insecure",
            "verifyssl",
            "verifyservercert",
            "rejectunauthorized",
        ],
        &["ca"],
        "the other side is always checked; `ca` names the certificates to trust instead",
    ),
    (
        &[
            "deviceclass",
            "stateclass",
            "uniqueid",
            "icon",
            "friendlyname",
            "entitycategory",
            "measurement",
            "discovery",
            "notifications",
            "healthcheck",
        ],
        &[],
        "nothing here needs it; leave it out",
    ),
    (
        &["autoreconnect", "reconnect", "reconnectperiod", "closecommonerror", "closeonerror"],
        &[],
        "whatever fails is tried again, with growing pauses; leave it out",
    ),
    (
        &["retries", "retry", "maxretries", "retryonempty", "lazyerrorcount", "retryattempts"],
        &[],
        "whatever fails is tried again, with growing pauses; leave it out",
    ),
    (
        &["optimization", "maxcount"],
        &["max_gap"],
        "requests are put together by themselves; leave it out",
    ),
    (
        &["payload", "template", "valuetemplate"],
        &["from", "topic"],
        "a `map` or a `script` in front says what a message holds",
    ),
    (&["minvalue", "maxvalue"], &["valid"], "`valid: [0, 100]` says both"),
    (
        &["structure", "struct"],
        &["kind"],
        "`kind` and `order` say how, such as `kind: f32, order: CDAB`",
    ),
    (
        &["auth", "basicauth", "token", "bearertoken", "authorization", "apikey"],
        &["headers"],
        "it is a header: `headers: { Authorization: \"Bearer ${file:secrets/token}\" }`",
    ),
    (
        &["contenttype"],
        &["headers"],
        "it is a header: `headers: { Content-Type: application/json }`",
    ),
    (
        &["batching", "metricbatchsize", "flushinterval", "batchsize", "batchtimeout"],
        &["batch"],
        "`batch: { max_messages: 100, max_wait: 10s }` says how many, and how long they are waited for",
    ),
];

/// Their words for choices of ours.
const CHOICES: [(&[&str], &str); 20] = [
    (&["float", "real", "single", "floating"], "f32"),
    (&["double", "lreal"], "f64"),
    (&["int", "short", "signed", "sint"], "i16"),
    (&["uint", "ushort", "word", "unsigned"], "u16"),
    (&["dint", "long", "integer"], "i32"),
    (&["udint", "dword", "ulong"], "u32"),
    (&["lint", "longlong"], "i64"),
    (&["ulint", "qword", "lword"], "u64"),
    (&["boolean", "bit", "coil"], "bool"),
    (&["text", "str", "ascii", "utf8"], "string"),
    (&["1234", "12345678", "big", "bigendian", "be", "none"], "ABCD"),
    (&["4321", "87654321", "little", "littleendian", "le", "wordbyte"], "DCBA"),
    (&["2143", "21436587", "byte", "byteswap", "badc"], "BADC"),
    (&["3412", "78563412", "word", "wordswap", "midlittle", "cdab"], "CDAB"),
    (&["warning"], "warn"),
    (&["trace", "verbose"], "debug"),
    (&["file", "filesystem", "localfilesystem", "flash", "persistent"], "disk"),
    (&["ram"], "memory"),
    (&["4", "311", "v311", "mqttv311", "mqtt311"], "3.1.1"),
    (&["50", "v5", "mqttv5", "mqtt5"], "5"),
];

/// Their sections and node types. A section of ours is never a type.
const TYPES: [(&[&str], &str); 14] = [
    (&["inputs", "input", "triggers"], "sources"),
    (&["outputs", "output"], "sinks"),
    (&["processors", "filters", "functions"], "transforms"),
    (&["brokers", "servers", "hubs"], "connections"),
    (&["function", "starlark", "javascript", "rhai", "lua", "python"], "script"),
    (&["inject", "cron", "interval", "heartbeat", "tick"], "timer"),
    (&["debug", "print", "console", "stdout"], "log"),
    (&["change", "template", "rename", "converter", "mapping"], "map"),
    (&["mqttin", "mqttout", "mqttconsumer", "mqttbroker", "mosquitto"], "mqtt"),
    (&["modbusread", "modbustcp", "modbusclient", "modbusgetter"], "modbus"),
    (&["httprequest", "webhook", "rest", "post"], "http"),
    (&["switch"], "route"),
    (&["rbe", "reportbyexception"], "deadband"),
    (&["tail", "csv"], "file"),
];

/// Their names for the address of a register, whose table is the name of the setting here.
const ADDRESSES: [&str; 8] =
    ["address", "addr", "register", "reg", "registeraddress", "start", "startaddress", "pdu"];
/// Their names for that table.
const TABLES: [&str; 7] =
    ["type", "inputtype", "registertype", "table", "function", "objecttype", "primarytable"];
/// Ours, in the order in which manuals number them, and the first number of each.
const OURS: [(&str, i128); 4] =
    [("holding", 40_001), ("input", 30_001), ("discrete", 10_001), ("coil", 1)];

/// A setting with the name that another program has for one of ours: what is wrong, and what would
/// be right when that is sure. None when its name is not known.
pub(crate) struct Borrowed<'a> {
    /// What the settings belong to, in words.
    pub whose: String,
    pub entry: &'a Entry,
    /// All that stand beside it, itself included.
    pub entries: &'a [Entry],
    /// The schemas of the settings that are there.
    pub properties: &'a Map<String, Value>,
    /// What a schema has against a value.
    pub problems: fn(&Yaml, &Value) -> Vec<Finding>,
}

impl<'a> Borrowed<'a> {
    pub(crate) fn finding(&self) -> Option<Finding> {
        if self.has("holding") {
            let finding = self.register();
            if finding.is_some() {
                return finding;
            }
        }
        if let Some(finding) = self.serial().or_else(|| self.port()) {
            return Some(finding);
        }
        let Some(ours) = self.meant() else { return self.advice() };
        if ours == "url" {
            return Some(self.url());
        }
        let finding = self.error(format!("here it is called `{ours}`"));
        let (entry, property) = (self.entry, &self.properties[ours]);
        if let Some(value) = self.instead(ours) {
            let whole = Span { end: entry.value.span.end, ..entry.key_span };
            return Some(finding.edit("this would be right", whole, format!("{ours}: {value}")));
        }
        // What is wrong inside of a map is said there.
        let is_map = entry.value.entries().is_some();
        if is_map || self.is_right(&entry.value, property) {
            return Some(finding.edit("this is its name here", entry.key_span, ours));
        }
        let expected = (self.problems)(&entry.value, property).into_iter().next();
        Some(match expected {
            Some(expected) => finding.help(format!("`{ours}`: {}", expected.label)),
            None => finding,
        })
    }

    /// The setting of ours that is meant and not there yet.
    pub(crate) fn meant(&self) -> Option<&'a str> {
        let is_unused = |known: &&str| self.entries.iter().all(|entry| entry.key != **known);
        let known = self.properties.keys().map(String::as_str);
        setting(&self.entry.key, &known.filter(is_unused).collect::<Vec<_>>())
    }

    /// A setting of ours that is misspelt.
    pub(crate) fn misspelt(&self, ours: &str) -> Finding {
        let finding = self.error(String::new());
        let whole = Span { end: self.entry.value.span.end, ..self.entry.key_span };
        match self.instead(ours) {
            Some(value) => finding.edit("this would be right", whole, format!("{ours}: {value}")),
            None => finding.edit("a setting with a similar name exists", self.entry.key_span, ours),
        }
    }

    /// What to do where there is no such setting.
    fn advice(&self) -> Option<Finding> {
        let key = plain(&self.entry.key);
        let known: Vec<&str> = self.properties.keys().map(String::as_str).collect();
        if let Some(ours) = setting(&self.entry.key, &known) {
            return Some(self.error(format!("`{ours}` says it")).help("leave it out"));
        }
        let is_of_many = self.has("url") && SETTINGS[0].0.contains(&key.as_str());
        if is_of_many && let Some(value) = self.entry.value.scalar() {
            let finding = self.error("one bus has many devices".to_owned());
            return Some(finding.help(format!("write `unit: {}` at what uses it", value.text)));
        }
        let fits = |(words, beside, _): &&(&[&str], &[&str], &str)| {
            words.contains(&key.as_str()) && beside.iter().all(|ours| self.has(ours))
        };
        let (_, _, advice) = ADVICE.iter().find(fits)?;
        Some(self.error(String::new()).help(*advice))
    }

    /// What is said of a serial line stands behind its address here.
    fn serial(&self) -> Option<Finding> {
        let about = self.properties.get("url")?.get("description")?.as_str()?;
        if self.has(&self.entry.key) || !about.contains("rtu://") || !is_of_serial(self.entry) {
            return None;
        }
        let finding = self.error("here it stands in `url`".to_owned());
        let here = self.entries.iter().position(|at| at.key_span == self.entry.key_span)?;
        let is_one = |entry: &Entry| entry.key == "url" || is_of_serial(entry);
        let before = self.entries[..here].iter().rev().take_while(|entry| is_one(entry)).count();
        let behind = self.entries[here..].iter().take_while(|entry| is_one(entry)).count();
        let run = &self.entries[here - before..here + behind];
        // One suggestion for all that stand together.
        let first = run.iter().find(|entry| entry.key != "url")?;
        match line_of(run) {
            Some(url) if first.key_span == self.entry.key_span => {
                let (start, end) = (run.first()?.key_span.start, run.last()?.value.span.end);
                let whole = Span { start, end, ..self.entry.key_span };
                Some(finding.edit("this would be right", whole, format!("url: \"{url}\"")))
            }
            Some(_) => Some(finding),
            None => {
                let example = "`url: \"rtu:///dev/ttyUSB0?baud=9600&parity=even\"`";
                Some(finding.help(format!("behind the address: {example}")))
            }
        }
    }

    /// What to write in place of the value, when it would not do as it stands.
    fn instead(&self, ours: &str) -> Option<String> {
        let property = &self.properties[ours];
        let key = plain(&self.entry.key);
        // It would be shown.
        if holds_secrets(property) {
            return None;
        }
        if key == "persistentsession"
            && let Some(Meaning::Bool(is_kept)) = self.entry.value.scalar().map(Scalar::meaning)
        {
            return Some((!is_kept).to_string());
        }
        let value = match &self.entry.value.content {
            Content::List(items) if items.len() == 1 => &items[0],
            _ => &self.entry.value,
        };
        let scalar = value.scalar().filter(|scalar| scalar.template.is_none())?;
        let text = scalar.text.as_str();
        let words = words_of(property).unwrap_or_default();
        // A number of theirs may be right by itself.
        let meant = choice(text, &words).filter(|_| !words.contains(&text));
        if meant.is_none() && self.is_right(&self.entry.value, property) {
            return None;
        }
        let has_unit = form_of(property).is_some_and(|form| form.in_place_of_a_number.is_some());
        let unit = match key.as_str() {
            name if name.ends_with("ms") || name.ends_with("milliseconds") => "ms",
            // From here on nobody knows whether these are seconds.
            _ if text.parse::<f64>().is_ok_and(|number| number < 1000.0) => "s",
            _ => "",
        };
        let near = crate::finding::nearest(text, words.iter().copied());
        let order = order_called(&key, text);
        let mut candidates: Vec<String> =
            order.into_iter().chain(meant).map(str::to_owned).collect();
        candidates.extend([text.to_owned(), format!("[{text}]"), format!("{text}B")]);
        candidates.extend(Some(format!("{text}{unit}")).filter(|_| has_unit && !unit.is_empty()));
        candidates.extend(near.map(str::to_owned));
        candidates.into_iter().find(|candidate| {
            let value = parse(candidate, 0, Limits::default(), &mut Vec::new());
            value.is_some_and(|value| self.is_right(&value, property))
        })
    }

    /// Whether the value is an address without a user, a path or a query, any of which may be secret.
    pub(crate) fn is_plain_address(&self) -> bool {
        let is_plain = |value: &Yaml| {
            let text = value.scalar().map(as_written).unwrap_or_default();
            if device(text).is_some() {
                return true;
            }
            if value.is_null() || text.is_empty() {
                // Where nothing stands, a sign may have been taken for something else.
                return false;
            }
            let (_, rest) = text.split_once("://").unwrap_or(("", text));
            !rest.contains(['@', '/', '?'])
        };
        match &self.entry.value.content {
            Content::List(items) => items.iter().all(is_plain),
            _ => is_plain(&self.entry.value),
        }
    }

    /// `host` and `port` are one `url` here.
    fn url(&self) -> Finding {
        let finding = self.error("here it stands in `url`".to_owned());
        let value = match &self.entry.value.content {
            Content::List(items) if items.len() == 1 => &items[0],
            _ => &self.entry.value,
        };
        let Some(host) = value.scalar().map(as_written).filter(|_| self.is_plain_address()) else {
            return finding;
        };
        let port = self.beside(&["port"]).filter(|_| !host.contains("://"));
        let number = port.and_then(|port| port.value.scalar()).map(as_written);
        let about = self.properties["url"].get("description").and_then(Value::as_str);
        let Some(scheme) = scheme(about.unwrap_or_default(), number) else { return finding };
        let url = match (host.contains("://"), number) {
            (true, _) => host.to_owned(),
            (false, None) => format!("{scheme}://{host}"),
            (false, Some(port)) => format!("{scheme}://{host}:{port}"),
        };
        if url.contains(['"', '\\']) || url.chars().any(char::is_control) {
            return finding;
        }
        let (title, place) = ("this would be right", self.with(port));
        finding.edit(title, place, format!("url: \"{url}\""))
    }

    /// A port beside a host is part of that; beside a `url`, it belongs into it.
    fn port(&self) -> Option<Finding> {
        if plain(&self.entry.key) != "port" || !self.has("url") || self.has("port") {
            return None;
        }
        let about = self.properties["url"].get("description").and_then(Value::as_str)?;
        let port = self.entry.value.scalar().map(as_written)?;
        let scheme = scheme(about, Some(port))?;
        let finding = self.error("here it stands in `url`".to_owned());
        Some(finding.help(format!("behind the host: `url: {scheme}://host:{port}`")))
    }

    /// What a register is called elsewhere.
    fn register(&self) -> Option<Finding> {
        let key = plain(&self.entry.key);
        let (value, is_text) = (self.entry.value.scalar()?, self.entry.value.text().is_some());
        if TABLES.contains(&key.as_str()) && table(&value.text).is_some() && is_text {
            let finding = self.error("the table is the name of the address here".to_owned());
            let table = table(&value.text)?;
            return Some(finding.help(format!("write `{table}: 0` in place of both, say")));
        }
        if SETTINGS[0].0.contains(&key.as_str()) {
            let finding = self.error("all registers of a source are of one device".to_owned());
            return Some(finding.help(format!("write `unit: {}` beside `registers`", value.text)));
        }
        if matches!(key.as_str(), "count" | "quantity") {
            let finding = self.error("follows from `kind`".to_owned());
            return Some(finding.help("of a `string`, `length` says how many registers it fills"));
        }
        if !ADDRESSES.contains(&key.as_str()) || self.has(&self.entry.key) {
            return None;
        }
        let finding = self.error("the name of the setting is the table here".to_owned());
        let number = match value.meaning() {
            Meaning::Int(number) => number,
            Meaning::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        let beside = self.beside(&TABLES);
        let named = beside.and_then(|beside| table(&beside.value.scalar()?.text));
        let counted = OURS.iter().take(3).find_map(|(ours, first)| {
            let long = first / 10_000 * 100_000 + 1;
            let short = (*first..first + 9999).contains(&number).then_some(number - first);
            let long = (long..long + 65_536).contains(&number).then_some(number - long);
            Some((*ours, short.or(long)?))
        });
        let title = "this would be right";
        Some(match (named, counted) {
            (Some(named), _) => {
                let number = counted.filter(|(of, _)| *of == named).map_or(number, |(_, at)| at);
                finding.edit(title, self.with(beside), format!("{named}: {number}"))
            }
            (None, Some((ours, address))) => {
                finding.edit(title, self.with(None), format!("{ours}: {address}"))
            }
            (None, None) => finding.help(format!(
                "`holding: {number}` is function 3, `input: {number}` 4, `coil: {number}` 1, \
                 `discrete: {number}` 2"
            )),
        })
    }

    fn is_right(&self, value: &Yaml, schema: &Value) -> bool {
        (self.problems)(value, schema).is_empty()
    }

    fn error(&self, label: String) -> Finding {
        let message = format!("{} has no setting `{}`", self.whose, self.entry.key);
        Finding::error(&rules::UNKNOWN_SETTING, self.entry.key_span, message, label)
    }

    fn has(&self, ours: &str) -> bool {
        self.properties.contains_key(ours)
    }

    /// The setting of one of these names that stands right before or behind this one.
    fn beside(&self, names: &[&str]) -> Option<&'a Entry> {
        let is_here = |entry: &Entry| entry.key_span == self.entry.key_span;
        let here = self.entries.iter().position(is_here)?;
        let around = [here.checked_sub(1), Some(here + 1)];
        let around = around.into_iter().flatten().filter_map(|at| self.entries.get(at));
        let mut fitting = around.filter(|entry| names.contains(&plain(&entry.key).as_str()));
        fitting.next()
    }

    /// Where the setting stands, together with one beside it.
    fn with(&self, other: Option<&Entry>) -> Span {
        let entries = [Some(self.entry), other].into_iter().flatten();
        let start = entries.clone().map(|entry| entry.key_span.start).min();
        let end = entries.map(|entry| entry.value.span.end).max();
        let own = self.entry.key_span;
        Span { start: start.unwrap_or(own.start), end: end.unwrap_or(own.end), ..own }
    }
}

/// The text, or the variable that stands for it.
fn as_written(scalar: &Scalar) -> &str {
    scalar.template.as_deref().unwrap_or(&scalar.text)
}

/// Whether a setting of another program is about a serial line.
fn is_of_serial(entry: &Entry) -> bool {
    let key = plain(&entry.key);
    let names_a_line = || {
        let value = entry.value.scalar().map(as_written).unwrap_or_default();
        device(value).is_some() && setting(&entry.key, &["url"]).is_some()
    };
    let is_of_a_line = OF_A_LINE.iter().any(|(words, _)| words.contains(&key.as_str()));
    is_of_a_line || OF_EVERY_LINE.contains(&key.as_str()) || names_a_line()
}

/// The serial device of this machine that an address names.
fn device(address: &str) -> Option<&str> {
    let path = ["file://", "rtu://", "serial://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
        .unwrap_or(address);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:".contains(c);
    (path.starts_with("/dev/") && path.chars().all(is_plain)).then_some(path)
}

/// The address of a bus that these settings tell of, with its line. None when it is not sure.
fn line_of(settings: &[Entry]) -> Option<String> {
    let mut address = None;
    let mut line = Vec::new();
    for entry in settings {
        let key = plain(&entry.key);
        let value = entry.value.scalar().filter(|value| value.template.is_none())?;
        let ours = OF_A_LINE.iter().find(|(words, _)| words.contains(&key.as_str()));
        match (ours, device(&value.text)) {
            (Some((_, "parity")), _) => {
                let parity = value.text.to_lowercase();
                let all = ["none", "even", "odd"];
                line.push(("parity", all.into_iter().find(|word| word.starts_with(&parity))?));
            }
            (Some((_, ours)), _) => line.push((*ours, &value.text)),
            (None, Some(path)) => address = Some(format!("rtu://{path}")),
            (None, None) if entry.key == "url" => address = Some(value.text.clone()),
            (None, None) => (),
        }
    }
    let address = address.filter(|url| !url.contains(['"', '\\', '@']))?;
    let is_known = address.contains("baud=") || line.iter().any(|(ours, _)| *ours == "baud");
    if !is_known || line.iter().any(|(_, value)| !value.chars().all(char::is_alphanumeric)) {
        return None;
    }
    let line: Vec<String> = line.iter().map(|(ours, value)| format!("{ours}={value}")).collect();
    let sign = if address.contains('?') { '&' } else { '?' };
    Some(if line.is_empty() { address } else { format!("{address}{sign}{}", line.join("&")) })
}

/// The table that they mean.
fn table(theirs: &str) -> Option<&'static str> {
    let plain = plain(theirs);
    let is_one = |(ours, _): &&(&str, i128)| plain.starts_with(ours);
    OURS.iter().find(is_one).map(|(ours, _)| *ours)
}

/// The first scheme of which a setting's description tells, or the one that it has for a port.
fn scheme<'a>(about: &'a str, port: Option<&str>) -> Option<&'a str> {
    let quoted = about.split('`').skip(1).step_by(2);
    let urls = quoted.filter_map(|text| text.split_once("://"));
    let of_port = |(_, rest): &(&str, &str)| {
        port.is_some_and(|port| rest.rsplit_once(':').is_some_and(|(_, theirs)| theirs == port))
    };
    let found = urls.clone().find(of_port).or_else(|| urls.clone().next());
    found.map(|(scheme, _)| scheme)
}

/// The choices of a setting that has some.
fn words_of(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    let alternatives = schema.get("oneOf").or(schema.get("anyOf"))?.as_array()?;
    Some(alternatives.iter().filter_map(words_of).flatten().collect())
}

/// The setting of ours that is meant by a name, of those that are there.
pub(crate) fn setting<'a>(theirs: &str, ours: &[&'a str]) -> Option<&'a str> {
    let plain = plain(theirs);
    let units = ["milliseconds", "ms", "seconds", "secs", "sec"];
    let without_unit = units.iter().find_map(|unit| plain.strip_suffix(unit));
    let is_one = |words: &[&str]| {
        words.contains(&plain.as_str()) || without_unit.is_some_and(|word| words.contains(&word))
    };
    let rows = SETTINGS.iter().filter(|(words, _)| is_one(words));
    let meant: Vec<&str> = rows.flat_map(|(_, ours)| ours.iter().copied()).collect();
    ours.iter().copied().find(|name| meant.contains(name))
}

/// Whether a name is what other programs call a setting of ours.
pub fn is_called(theirs: &str, ours: &str) -> bool {
    setting(theirs, &[ours]).is_some()
}

/// The choice of ours that is meant by a word, of those that are there.
pub(crate) fn choice<'a>(theirs: &str, ours: &[&'a str]) -> Option<&'a str> {
    let plain = plain(theirs);
    let rows = CHOICES.iter().filter(|(words, _)| words.contains(&plain.as_str()));
    let meant: Vec<String> =
        rows.map(|(_, ours)| (*ours).to_owned()).chain(number(&plain)).collect();
    ours.iter().copied().find(|choice| meant.iter().any(|meant| meant == choice))
}

/// The order of bytes that is meant by a word which means another one in `byte_order`, or by a yes or no.
fn order_called(theirs: &str, value: &str) -> Option<&'static str> {
    let is_little = plain(value).starts_with("l");
    Some(match (theirs, plain(value).as_str()) {
        ("wordorder", _) if is_little => "CDAB",
        ("reverseorder", "true") => "CDAB",
        ("reverseorder", "false") => "ABCD",
        ("bigendian", "true") | ("littleendian", "false") => "ABCD",
        ("bigendian", "false") | ("littleendian", "true") => "DCBA",
        _ => return None,
    })
}

/// The section or node type of ours that is meant by a word, of those that are there.
pub fn type_called<'a>(theirs: &str, ours: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(theirs);
    // As Telegraf writes them: `inputs.modbus`.
    let last = theirs.rsplit('.').next().map(self::plain).unwrap_or_default();
    let is_meant = |ours: &&str| {
        last == **ours && last != plain
            || TYPES.iter().any(|(words, meant)| meant == ours && words.contains(&plain.as_str()))
    };
    ours.into_iter().find(is_meant)
}

/// The number that is meant by a word with a kind and a width: `32bit_float1234`, `INT16L`.
fn number(plain: &str) -> Option<String> {
    let letter = match plain {
        word if word.contains("float") || word.contains("double") => 'f',
        word if word.contains("uint") || word.contains("unsigned") => 'u',
        word if word.contains("int") => 'i',
        _ => return None,
    };
    let widths = ["16", "32", "64"];
    let begin = plain.split("bit").next().unwrap_or_default();
    let width = widths.iter().find(|width| begin.ends_with(*width));
    let width = width.or_else(|| widths.iter().find(|width| plain.contains(*width)))?;
    Some(format!("{letter}{width}"))
}

/// Without what programs write differently.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_other_programs_are_known() {
        let settings = ["unit", "every", "order", "kind", "url", "username"];
        for (theirs, ours) in [
            ("slave_id", "unit"),
            ("scan_interval", "every"),
            ("byteOrder", "order"),
            ("data_type", "kind"),
            ("host", "url"),
            ("user", "username"),
        ] {
            assert_eq!(setting(theirs, &settings), Some(ours), "{theirs}");
        }
        assert_eq!(setting("host", &["path"]), None);
        let choices = ["u16", "i16", "u32", "i32", "f32", "f64", "bool", "string", "ABCD", "CDAB"];
        for (theirs, ours) in [
            ("float", "f32"),
            ("FLOAT32", "f32"),
            ("32bit_float3412", "f32"),
            ("16bit_int_hi_first", "i16"),
            ("UINT16", "u16"),
            ("double", "f64"),
            ("3412", "CDAB"),
            ("big-endian", "ABCD"),
        ] {
            assert_eq!(choice(theirs, &choices), Some(ours), "{theirs}");
        }
        // Of another width, there is none.
        assert_eq!(choice("int8l", &choices), None);
        let types = ["modbus", "script", "timer", "log"];
        for (theirs, ours) in
            [("inputs.modbus", "modbus"), ("function", "script"), ("inject", "timer")]
        {
            assert_eq!(type_called(theirs, types), Some(ours), "{theirs}");
        }
        assert_eq!(type_called("websocket", types), None);
    }
}
