//! `mosquitto.conf` as a pipeline. Each line is taken into the YAML, or becomes a comment that says why not.

use super::{
    acl,
    yaml::{Writer, name, quoted},
};

/// One line of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it stands: `mosquitto.conf:7`.
    pub place: String,
    pub option: String,
    pub value: String,
}

impl Line {
    /// As it was written, without what nobody else is to see.
    fn shown(&self) -> String {
        let Line { place, option, value } = self;
        match option.as_str() {
            "remote_password" | "password" | "local_password" | "bridge_psk" => {
                format!("{place}: {option} …")
            }
            _ => format!("{place}: {option} {value}"),
        }
    }

    fn is_true(&self) -> bool {
        self.value.eq_ignore_ascii_case("true") || self.value == "1"
    }
}

/// The lines of a file that say something.
pub(super) fn lines(file: &str, text: &str) -> Vec<Line> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let said = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| {
        let (option, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Line {
            place: format!("{file}:{number}"),
            option: option.to_owned(),
            value: value.trim().to_owned(),
        }
    })
    .collect()
}

/// A line without a counterpart, and why.
type Left = (Line, String);

/// What is read of a configuration.
#[derive(Default)]
struct Read {
    listeners: Vec<Listener>,
    bridges: Vec<Bridge>,
    anonymous: Option<bool>,
    /// Each listener says by itself who gets in.
    each_for_itself: bool,
    password_file: Option<Line>,
    acl_file: Option<Line>,
    max_packet: Option<u64>,
    max_queued: Option<u64>,
    left: Vec<Left>,
}

struct Listener {
    line: Option<Line>,
    port: u16,
    address: String,
    max_connections: Option<u64>,
    /// It says that anybody may connect.
    anonymous: bool,
    cert: Option<String>,
    key: Option<String>,
    ca: Option<String>,
    needs_certificate: bool,
    /// The common name of a certificate is the user.
    names_users: bool,
    min_tls: Option<&'static str>,
    is_websocket: bool,
    /// Why the embedded broker cannot have it.
    unfit: Option<&'static str>,
}

impl Listener {
    fn new(line: Option<Line>, port: u16, address: String) -> Listener {
        Listener {
            line,
            port,
            address,
            max_connections: None,
            anonymous: false,
            cert: None,
            key: None,
            ca: None,
            needs_certificate: false,
            names_users: false,
            min_tls: None,
            is_websocket: false,
            unfit: None,
        }
    }

    /// Takes what it says of itself. Gives back what the broker here cannot do, with the reason.
    fn take(&mut self, line: Line) -> Option<(Line, &'static str)> {
        let text = || Some(line.value.clone());
        match (line.option.as_str(), line.value.as_str()) {
            ("certfile", _) => self.cert = text(),
            ("keyfile", _) => self.key = text(),
            ("cafile", _) => self.ca = text(),
            ("require_certificate", _) => self.needs_certificate = line.is_true(),
            ("use_identity_as_username", _) => self.names_users = line.is_true(),
            ("protocol", "mqtt") => (),
            ("protocol", "websockets") => self.is_websocket = true,
            ("tls_version", "tlsv1.2") => self.min_tls = Some("1.2"),
            ("tls_version", "tlsv1.3") => self.min_tls = Some("1.3"),
            (option, _) => {
                let why = match option {
                    "protocol" => "the broker here does not speak that protocol",
                    "mount_point" => "the broker here shows the same topics at each listener",
                    "tls_version" => "TLS 1.2 is the oldest version that is spoken here",
                    "capath" => "the broker here wants the certificates in one file (`ca`)",
                    "crlfile" => "the broker here knows no lists of revoked certificates",
                    _ => "there are no pre-shared keys here; use a certificate",
                };
                self.unfit.get_or_insert(why);
                return Some((line, why));
            }
        }
        None
    }

    /// Why it cannot be taken over, as far as its files say.
    fn wants_files(&self, is_here: &dyn Fn(&String) -> bool) -> Option<&'static str> {
        match (&self.cert, &self.key) {
            (Some(_), None) | (None, Some(_)) => {
                Some("a certificate needs its key, and the reverse")
            }
            _ if [&self.cert, &self.key, &self.ca].into_iter().flatten().all(is_here) => None,
            _ => Some("its certificates are not on this machine"),
        }
    }

    /// As an entry of `listen`.
    fn entry(&self) -> String {
        let mut parts = vec![format!("at: {}", quoted(&address(self)))];
        if let Some((cert, key)) = self.cert.as_ref().zip(self.key.as_ref()) {
            parts.extend([format!("cert: {}", quoted(cert)), format!("key: {}", quoted(key))]);
            if let Some(ca) = &self.ca {
                parts.push(format!("ca: {}", quoted(ca)));
                if !self.needs_certificate {
                    parts.push("client_certificates: optional".to_owned());
                }
                if !self.names_users {
                    parts.push("user_from: login".to_owned());
                }
            }
            if let Some(version) = self.min_tls {
                parts.push(format!("min_tls: {}", quoted(version)));
            }
        }
        if self.is_websocket {
            parts.push("websocket: /mqtt".to_owned());
        }
        match parts.len() {
            1 => quoted(&address(self)),
            _ => format!("{{ {} }}", parts.join(", ")),
        }
    }
}

#[derive(Default)]
struct Bridge {
    name: String,
    /// All that is about it.
    lines: Vec<Line>,
    addresses: Vec<String>,
    client_id: Option<String>,
    username: Option<String>,
    password: Option<String>,
    is_5: bool,
    is_private: Option<bool>,
    clean: bool,
    keep_alive: Option<String>,
    ca: Option<String>,
    is_secure: bool,
    cert: Option<String>,
    key: Option<String>,
    alpn: Option<String>,
    min_tls: Option<&'static str>,
    max_packet: Option<u64>,
    expiry: Option<u64>,
    lazy: bool,
    once: bool,
    idle_close: Option<u32>,
    threshold: Option<u32>,
    /// Whether it is told that the bridge is there, and where: at both ends, or here alone.
    tells: Option<bool>,
    tells_here_alone: bool,
    tells_on: Option<String>,
    rules: Vec<(Line, Rule)>,
    keeps_retained: Option<bool>,
    left: Vec<Left>,
}

/// A rule as Mosquitto has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: String,
    direction: &'static str,
    qos: u8,
    local: String,
    remote: String,
}

/// Turns a configuration into a pipeline. `read` gives the text of a file that it names.
pub(super) fn convert(
    lines: Vec<Line>,
    read: &dyn Fn(&std::path::Path) -> Option<String>,
) -> String {
    let mut conf = Read::default();
    for line in lines {
        conf.take(line);
    }
    conf.write(read)
}

impl Read {
    fn take(&mut self, line: Line) {
        if line.option == "connection" {
            return self.bridges.push(Bridge { name: line.value, ..Bridge::default() });
        }
        // What is of bridges stands behind the `connection` that it is about.
        if let Some(bridge) = self.bridges.last_mut() {
            match bridge.take(line) {
                None => return,
                Some(line) => return self.take_general(line),
            }
        }
        self.take_general(line);
    }

    fn take_general(&mut self, line: Line) {
        match line.option.as_str() {
            "listener" => self.listener(line),
            "port" => match line.value.parse() {
                Ok(port) => self.default_listener().port = port,
                Err(_) => self.leave(line, "is no port"),
            },
            "bind_address" => self.default_listener().address = line.value,
            "per_listener_settings" => self.each_for_itself = line.is_true(),
            "allow_anonymous" => match self.listeners.last_mut().filter(|_| self.each_for_itself) {
                Some(listener) => listener.anonymous = line.is_true(),
                None => self.anonymous = Some(line.is_true()),
            },
            "password_file" => match &self.password_file {
                Some(other) if other.value != line.value => {
                    self.leave(line, "the broker here has one file of users for all listeners");
                }
                _ => self.password_file = Some(line),
            },
            "acl_file" => match &self.acl_file {
                Some(other) if other.value != line.value => {
                    self.leave(line, "the broker here has the same rights at all listeners");
                }
                _ => self.acl_file = Some(line),
            },
            "max_packet_size" | "message_size_limit" => match line.value.parse() {
                Ok(0) => self.leave(line, "means no limit, and the broker here always has one"),
                Ok(bytes) => self.max_packet = Some(bytes),
                Err(_) => self.leave(line, "is no number"),
            },
            "max_queued_messages" => match line.value.parse() {
                Ok(0) => self.leave(line, "means no limit, and the broker here always has one"),
                Ok(count) => self.max_queued = Some(count),
                Err(_) => self.leave(line, "is no number"),
            },
            "max_connections" => match (line.value.parse(), self.listeners.last_mut()) {
                (Ok(count), Some(listener)) => listener.max_connections = Some(count),
                (Ok(count), None) => self.default_listener().max_connections = Some(count),
                (Err(_), _) => {
                    self.leave(line, "means no limit, and the broker here always has one")
                }
            },
            "protocol"
            | "certfile"
            | "keyfile"
            | "cafile"
            | "capath"
            | "psk_hint"
            | "require_certificate"
            | "use_identity_as_username"
            | "mount_point"
            | "crlfile"
            | "tls_version" => {
                let listener = match self.listeners.last_mut() {
                    Some(listener) => listener,
                    None => self.default_listener(),
                };
                if let Some((line, why)) = listener.take(line) {
                    self.leave(line, why);
                }
            }
            _ => {
                let why = why_left(&line.option);
                self.leave(line, why);
            }
        }
    }

    fn leave(&mut self, line: Line, why: impl Into<String>) {
        self.left.push((line, why.into()));
    }

    /// The listener of the oldest configurations: that of `port` and `bind_address`.
    fn default_listener(&mut self) -> &mut Listener {
        let at = match self.listeners.iter().position(|listener| listener.line.is_none()) {
            Some(at) => at,
            None => {
                self.listeners.push(Listener::new(None, 1883, EVERY_ADDRESS.to_owned()));
                self.listeners.len() - 1
            }
        };
        &mut self.listeners[at]
    }

    fn listener(&mut self, line: Line) {
        let mut words = line.value.split_whitespace();
        let port = words.next().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let address = words.next().unwrap_or(EVERY_ADDRESS).to_owned();
        match port {
            Some(port) => self.listeners.push(Listener::new(Some(line), port, address)),
            None => self.leave(line, "the broker here listens at ports only"),
        }
    }
}

/// Where a listener without an address listens.
const EVERY_ADDRESS: &str = "0.0.0.0";

impl Bridge {
    /// Takes a line of the bridge. Gives it back when it is about something else.
    fn take(&mut self, line: Line) -> Option<Line> {
        let said = line.clone();
        let text = || Some(line.value.clone());
        match line.option.as_str() {
            "address" | "addresses" => self.take_addresses(&line),
            "remote_clientid" | "clientid" => self.client_id = text(),
            "remote_username" | "username" => self.username = text(),
            "remote_password" => self.password = text(),
            "password" => self.password = text(),
            "bridge_protocol_version" => match line.value.as_str() {
                "mqttv50" => self.is_5 = true,
                "mqttv311" => (),
                _ => self.leave(line, "3.1.1 is the oldest version that is spoken here"),
            },
            "try_private" => self.is_private = Some(line.is_true()),
            "cleansession" => self.clean = line.is_true(),
            "keepalive_interval" => self.keep_alive = text().filter(|it| it.parse::<u16>().is_ok()),
            "bridge_cafile" => (self.ca, self.is_secure) = (text(), true),
            "bridge_capath" => {
                self.is_secure = true;
                self.leave(line, "the certificates of the system are trusted; `ca` names a file");
            }
            "bridge_certfile" => (self.cert, self.is_secure) = (text(), true),
            "bridge_keyfile" => self.key = text(),
            "bridge_alpn" => self.alpn = text(),
            "bridge_tls_version" => {
                self.is_secure = true;
                match line.value.as_str() {
                    "tlsv1.2" => self.min_tls = Some("1.2"),
                    "tlsv1.3" => self.min_tls = Some("1.3"),
                    _ => self.leave(line, "TLS 1.2 is the oldest version that is spoken here"),
                }
            }
            "bridge_insecure" if !line.is_true() => (),
            "bridge_insecure" => {
                self.leave(
                    line,
                    "the other side is always checked; `server_name` says by which name",
                );
            }
            "bridge_max_packet_size" => match line.value.parse() {
                Ok(bytes) if bytes > 0 => self.max_packet = Some(bytes),
                _ => self.leave(line, "means no limit; 1 MiB is the default here"),
            },
            "bridge_session_expiry_interval" => self.expiry = line.value.parse().ok(),
            "bridge_outgoing_retain" => self.keeps_retained = Some(line.is_true()),
            "start_type" if line.value == "automatic" => (),
            "start_type" if line.value == "lazy" => self.lazy = true,
            "start_type" if line.value == "once" => self.once = true,
            "idle_timeout" if line.value.parse::<u32>().is_ok_and(|it| it > 0) => {
                self.idle_close = line.value.parse().ok();
            }
            "threshold" if line.value.parse::<u32>().is_ok_and(|it| (1..=10_000).contains(&it)) => {
                self.threshold = line.value.parse().ok();
            }
            "notifications" => self.tells = Some(line.is_true()),
            "notifications_local_only" => self.tells_here_alone = line.is_true(),
            "notification_topic" if forebay_sdk::topic::check_topic(&line.value).is_ok() => {
                self.tells_on = text();
            }
            "topic" => match read_rule(&line.value) {
                Ok(rule) => self.rules.push((line, rule)),
                Err(why) => self.leave(line, why),
            },
            "bridge_psk" | "bridge_identity" => {
                self.is_secure = true;
                self.leave(line, "there are no pre-shared keys here; use a certificate");
            }
            "bridge_ciphers_tls1.3" => self.leave(line, "the library chooses"),
            option => match of_bridges(option) {
                Some(why) => self.leave(line, why),
                None => return Some(line),
            },
        }
        self.lines.push(said);
        None
    }

    fn leave(&mut self, line: Line, why: impl Into<String>) {
        self.left.push((line, why.into()));
    }

    fn take_addresses(&mut self, line: &Line) {
        // Mosquitto's port, with TLS too.
        for address in line.value.split_whitespace() {
            match forebay_sdk::Endpoint::parse(address, 1883) {
                Ok(endpoint) => self.addresses.push(endpoint.to_string()),
                Err(_) => self.leave(line.clone(), format!("`{address}` is no address")),
            }
        }
    }

    /// Whether something that it publishes may come back.
    fn goes_both_ways(&self) -> bool {
        let goes = |way: &str| {
            self.rules.iter().any(|(_, rule)| rule.direction == way || rule.direction == "both")
        };
        goes("in") && goes("out")
    }
}

/// Why an option of bridges is left out. None when it is none.
fn of_bridges(option: &str) -> Option<&'static str> {
    Some(match option {
        "local_clientid" | "local_username" | "local_password" | "local_cleansession" => {
            "the bridge reaches the broker here within the program, without a login"
        }
        "round_robin" => {
            "each new connection begins with the first address, as `round_robin false` has it"
        }
        "restart_timeout" => "what fails is tried again with growing pauses",
        "start_type" | "idle_timeout" | "threshold" => {
            "the connection is there all the time, `start: lazy`, or `start: once`"
        }
        "notification_topic" => "is no topic",
        "bridge_attempt_unsubscribe" => "what is not asked for any more is given up by itself",
        "bridge_bind_address" | "bridge_bind_interface" => "the system chooses the way out",
        "bridge_require_ocsp" => "there is no OCSP here",
        "bridge_max_topic_alias" => {
            "topics are shortened as far as the other broker lets us, with MQTT 5"
        }
        "bridge_receive_maximum" => "`in_flight` of a source bounds what is on its way",
        "bridge_tcp_keepalive" | "bridge_tcp_user_timeout" => {
            "a link that is silent for half a keep-alive is given up"
        }
        "bridge_reload_type" => "a reload touches what has changed",
        "bridge_ciphers" | "bridge_tls_use_os_certs" | "bridge_dhparamfile" => {
            "the library chooses"
        }
        _ => return None,
    })
}

/// Why an option of the broker is left out.
fn why_left(option: &str) -> &'static str {
    match option {
        "log_dest"
        | "log_type"
        | "log_timestamp"
        | "log_timestamp_format"
        | "log_facility"
        | "connection_messages"
        | "websockets_log_level" => {
            "the log goes to standard error; `log:` in forebay.yaml says how much"
        }
        "persistence"
        | "persistence_file"
        | "persistence_location"
        | "autosave_interval"
        | "autosave_on_changes" => {
            "what waits for a sink is kept in the data folder, by the `buffer` of the sink"
        }
        "persistent_client_expiration" => "the broker here says by itself how long sessions last",
        "user" | "pid_file" => "it is for whoever starts the program",
        "sys_interval" => "the broker here publishes nothing below `$SYS`",
        "max_inflight_messages" | "max_inflight_bytes" => "the broker here has limits of its own",
        "max_queued_bytes"
        | "memory_limit"
        | "max_keepalive"
        | "max_qos"
        | "max_topic_alias"
        | "max_topic_alias_broker"
        | "queue_qos0_messages"
        | "upgrade_outgoing_qos"
        | "retain_available"
        | "retain_expiry_interval"
        | "allow_zero_length_clientid"
        | "auto_id_prefix"
        | "allow_duplicate_messages"
        | "check_retain_source"
        | "global_max_clients"
        | "global_max_connections"
        | "packet_max_simple"
        | "packet_max_connect"
        | "max_packet_size_simple" => "the broker here has no setting for it",
        "clientid_prefixes"
        | "use_username_as_clientid"
        | "use_subject_as_username"
        | "per_listener_settings"
        | "acl_file"
        | "psk_file" => "the broker here tells clients apart by `users` alone",
        "auth_plugin"
        | "auth_plugin_deny_special_chars"
        | "plugin"
        | "global_plugin"
        | "plugin_load"
        | "plugin_use" => "there are no plugins of Mosquitto here",
        "http_dir" | "websockets_headers_size" | "websockets_origin" => {
            "there is no web server here"
        }
        "ciphers"
        | "ciphers_tls1.3"
        | "dhparamfile"
        | "tls_engine"
        | "tls_engine_kpass_sha1"
        | "tls_keyform" => "the library chooses",
        "bind_interface"
        | "socket_domain"
        | "set_tcp_nodelay"
        | "accept_protocol_versions"
        | "enable_proxy_protocol" => "the broker here listens at addresses only",
        "include_dir" => "there is no such folder on this machine: import its files one by one",
        _ if option.starts_with("auth_opt_") || option.starts_with("plugin_opt_") => {
            "there are no plugins of Mosquitto here"
        }
        _ => "is not known",
    }
}

/// Reads the value of `topic`.
fn read_rule(value: &str) -> Result<Rule, String> {
    let mut words = value.split_whitespace();
    let unquoted = |word: &str| if word == "\"\"" { String::new() } else { word.to_owned() };
    let pattern = unquoted(words.next().ok_or("has no pattern")?);
    let direction = match words.next().unwrap_or("out").to_lowercase().as_str() {
        "out" => "out",
        "in" => "in",
        "both" => "both",
        other => return Err(format!("`{other}` is no direction")),
    };
    let qos = match words.next() {
        // What is no number is 0 to Mosquitto.
        Some(word) if !word.starts_with(|c: char| c.is_ascii_digit()) => 0,
        None => 0,
        Some(qos) => {
            qos.parse().ok().filter(|qos| *qos <= 2).ok_or(format!("`{qos}` is no QoS"))?
        }
    };
    let (local, remote) = (words.next().map(unquoted), words.next().map(unquoted));
    let (local, remote) = (local.unwrap_or_default(), remote.unwrap_or_default());
    if let Some(more) = words.next() {
        return Err(format!("nothing is expected behind the prefixes, found `{more}`"));
    }
    if pattern.is_empty() && (local.is_empty() || remote.is_empty()) {
        return Err("a rule without a pattern needs both prefixes".to_owned());
    }
    let is_fit = |prefix: &str| !prefix.contains(['+', '#']);
    let fits = |prefix: &str| forebay_sdk::Filter::parse(&format!("{prefix}{pattern}")).is_ok();
    if !is_fit(&local) || !is_fit(&remote) || !fits(&local) || !fits(&remote) {
        return Err("a topic filter like that fits nothing".to_owned());
    }
    Ok(Rule { pattern, direction, qos, local, remote })
}

impl Rule {
    /// As one line of ours, which has the same words.
    fn line(&self) -> String {
        let Rule { pattern, direction, qos, local, remote } = self;
        let word = |text: &str| if text.is_empty() { "''".to_owned() } else { text.to_owned() };
        let mut line = format!("{} {direction} {qos}", word(pattern));
        if !local.is_empty() || !remote.is_empty() {
            line += &format!(" {} {}", word(local), word(remote));
        }
        line
    }
}

/// What the broker is called in what comes out.
const BROKER: &str = "broker";

impl Read {
    fn write(mut self, read: &dyn Fn(&std::path::Path) -> Option<String>) -> String {
        let mut out = Writer::default();
        out.comment(0, "Made by `forebay import` of a configuration of Mosquitto.");
        out.comment(
            0,
            "Look through it, put it into the folder of pipelines, and try `forebay lint`.",
        );
        let mut connections = Writer::default();
        self.write_broker(&mut connections, read);
        let bridges = std::mem::take(&mut self.bridges);
        let mut names: Vec<String> = vec![BROKER.to_owned()];
        let mut entries = Writer::default();
        for bridge in bridges {
            let mut called = name(&bridge.name);
            while names.contains(&called) {
                called.push('2');
            }
            names.push(called.clone());
            bridge.write(&called, read, &mut connections, &mut entries);
        }
        if !self.left.is_empty() {
            out.comment(0, "");
            out.comment(0, "These lines have no counterpart:");
            for (line, why) in &self.left {
                out.comment(0, &format!("  {}   # {why}", line.shown()));
            }
        }
        out.line(0, "");
        out.set(0, "description", &quoted("What Mosquitto did here."));
        out.line(0, "");
        out.line(0, "connections:");
        out.0 += &connections.0;
        if !entries.0.is_empty() {
            out.line(0, "");
            out.line(0, "bridges:");
            out.0 += &entries.0;
        }
        out.0
    }

    fn write_broker(
        &mut self,
        out: &mut Writer,
        read: &dyn Fn(&std::path::Path) -> Option<String>,
    ) {
        out.line(1, &format!("{BROKER}:"));
        out.set(2, "type", "broker");
        let is_here = |file: &String| read(file.as_ref()).is_some();
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in &mut listeners {
            listener.unfit = listener.unfit.or_else(|| listener.wants_files(&is_here));
        }
        let is_default = listeners.is_empty();
        let (fit, unfit): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|it| it.unfit.is_none());
        let is_open = match self.each_for_itself {
            true => fit.iter().any(|it| it.anonymous) || is_default,
            false => self.anonymous.unwrap_or(is_default),
        };
        let users = self.password_file.take().filter(|file| !file.value.is_empty());
        let has_users = users.as_ref().is_some_and(|file| is_here(&file.value));
        let entry = |it: &Listener| match (self.each_for_itself && is_open, it.anonymous) {
            (true, false) => with_anonymous(&it.entry(), "false"),
            _ => it.entry(),
        };
        let gets_in = |it: &&Listener| {
            is_open && (it.anonymous || !self.each_for_itself) || has_users || it.names_users
        };
        let listen: Vec<String> = match is_default {
            true => vec![quoted("127.0.0.1:1883")],
            false => fit.iter().filter(gets_in).map(entry).collect(),
        };
        out.set(2, "listen", &format!("[{}]", listen.join(", ")));
        let shut: Vec<&Listener> = fit.iter().filter(|it| !gets_in(it)).collect();
        if !shut.is_empty() {
            out.comment(2, "nobody gets in here, until `users` or `password_file` says who may:");
            for listener in &shut {
                out.comment(2, &format!("listen: [{}]", listener.entry()));
            }
        }
        match users {
            Some(file) if has_users => out.set(2, "password_file", &quoted(&file.value)),
            Some(file) => {
                let said = quoted(&file.value);
                out.comment(2, &format!("password_file: {said}   # no such file on this machine"));
            }
            None => (),
        }
        // Who is on this machine gets in anyway where there are no users.
        if is_open && (!is_default || has_users || self.anonymous.is_some()) {
            out.set(2, "anonymous", "true");
        }
        self.write_access(out, read);
        for listener in unfit {
            let line = listener.line.as_ref().map_or("port".to_owned(), Line::shown);
            out.comment(2, &format!("{line}   # {}", listener.unfit.unwrap_or_default()));
            if listener.cert.is_some() || listener.key.is_some() {
                out.comment(2, &format!("  {}", listener.entry()));
            }
        }
        let most = fit.iter().filter_map(|it| it.max_connections).max();
        if let Some(most) = most.filter(|most| *most > 0) {
            out.set(2, "max_connections", &most.min(10_000).to_string());
        }
        if let Some(bytes) = self.max_packet {
            out.set(2, "max_packet", &format!("{}B", bytes.clamp(1 << 10, 255 << 20)));
        }
        if let Some(most) = self.max_queued {
            out.set(2, "max_queued", &most.min(100_000).to_string());
        }
    }

    /// The rights. Where they are not here, nobody has any.
    fn write_access(
        &mut self,
        out: &mut Writer,
        read: &dyn Fn(&std::path::Path) -> Option<String>,
    ) {
        let Some(line) = self.acl_file.take().filter(|line| !line.value.is_empty()) else { return };
        let Some(text) = read(line.value.as_ref()) else {
            let why = "is not on this machine: until its rules stand here, nobody may do anything";
            return out.line(2, &format!("access: []   # {} {why}", line.value.replace('\n', " ")));
        };
        let (rules, left) = acl::rules(&text);
        match rules.is_empty() {
            true => out.set(2, "access", "[]"),
            false => out.line(2, "access:"),
        }
        for rule in rules {
            out.line(3, &rule);
        }
        for line in left {
            out.comment(3, &format!("{line}   # is no rule"));
        }
    }
}

/// An entry of `listen` that says who gets in there without a name.
fn with_anonymous(entry: &str, anonymous: &str) -> String {
    match entry.strip_suffix(" }") {
        Some(map) => format!("{map}, anonymous: {anonymous} }}"),
        None => format!("{{ at: {entry}, anonymous: {anonymous} }}"),
    }
}

fn address(listener: &Listener) -> String {
    let Listener { address, port, .. } = listener;
    match address.as_str() {
        "localhost" => format!("127.0.0.1:{port}"),
        address if address.contains(':') => format!("[{address}]:{port}"),
        address => format!("{address}:{port}"),
    }
}

impl Bridge {
    fn write(
        self,
        called: &str,
        read: &dyn Fn(&std::path::Path) -> Option<String>,
        connections: &mut Writer,
        entries: &mut Writer,
    ) {
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        let url = |address: &String| quoted(&format!("{scheme}://{address}"));
        let urls: Vec<String> = self.addresses.iter().map(url).collect();
        let Some((first, others)) = urls.split_first() else {
            connections.line(0, "");
            connections.comment(
                1,
                &format!("connection {}   # has no address, so it is left out:", self.name),
            );
            for line in &self.lines {
                connections.comment(1, &format!("  {}", line.shown()));
            }
            return;
        };
        let out = connections;
        out.line(0, "");
        out.line(1, &format!("{called}:"));
        out.set(2, "type", "mqtt");
        out.set(2, "url", first);
        if !others.is_empty() {
            out.set(2, "fallback", &format!("[{}]", others.join(", ")));
        }
        let is_private = self.is_private.unwrap_or(true);
        let needs_5 = !is_private && self.goes_both_ways();
        if self.is_5 {
            out.set(2, "version", &quoted("5"));
        } else if needs_5 {
            out.line(2, "version: \"5\"   # with 3.1.1 and without `try_private`, what goes out would come back in");
        } else if is_private {
            out.set(2, "bridge", "true");
        }
        match &self.client_id {
            Some(id) => out.set(2, "client_id", &quoted(id)),
            None => {
                out.line(
                    2,
                    &format!("client_id: {}   # was made of the host's name", quoted(&self.name)),
                );
            }
        }
        if let Some(username) = &self.username {
            out.set(2, "username", &quoted(username));
        }
        match (&self.password, &self.username) {
            (Some(password), Some(_)) => out.set(2, "password", &quoted(password)),
            (Some(_), None) => out.comment(2, "remote_password …   # there is no user name to it"),
            (None, _) => (),
        }
        out.set(2, "clean_session", if self.clean { "true" } else { "false" });
        out.set(2, "keep_alive", &format!("{}s", self.keep_alive.as_deref().unwrap_or("60")));
        match self.expiry {
            Some(seconds) if (self.is_5 || needs_5) && !self.clean && seconds > 0 => {
                out.set(2, "session_expiry", &format!("{seconds}s"));
            }
            Some(seconds) => {
                let why = "only for a session of MQTT 5 that is kept";
                out.comment(2, &format!("bridge_session_expiry_interval {seconds}   # {why}"));
            }
            None => (),
        }
        if let Some(bytes) = self.max_packet {
            out.set(2, "max_packet", &format!("{}B", bytes.clamp(1 << 10, 255 << 20)));
        }
        let is_here = |file: &String| read(file.as_ref()).is_some();
        let mut file = |setting: &str, path: &String, is_fit: bool| match is_fit {
            true => out.set(2, setting, &quoted(path)),
            false => out.comment(
                2,
                &format!("{setting}: {}   # no such file on this machine", quoted(path)),
            ),
        };
        if let Some(ca) = &self.ca {
            file("ca", ca, is_here(ca));
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let are_here = is_here(cert) && is_here(key);
                file("cert", cert, are_here);
                file("key", key, are_here);
            }
            (Some(one), None) | (None, Some(one)) => {
                out.comment(2, &format!("{one}   # a certificate needs its key, and the reverse"));
            }
            (None, None) => (),
        }
        match &self.alpn {
            Some(alpn) if self.is_secure => out.set(2, "alpn", &quoted(alpn)),
            Some(alpn) => out.comment(2, &format!("bridge_alpn {alpn}   # has no use without TLS")),
            None => (),
        }
        if let Some(version) = self.min_tls {
            out.set(2, "min_tls", &quoted(version));
        }
        if self.lazy {
            out.set(2, "start", "lazy");
            out.set(2, "idle_close", &format!("{}s", self.idle_close.unwrap_or(60)));
        } else if self.idle_close.is_some() || self.threshold.is_some() {
            out.comment(2, "idle_timeout, threshold   # have no use without `start_type lazy`");
        }
        if self.once {
            out.set(2, "start", "once");
        }
        if self.tells_there() {
            let id = self.client_id.as_ref().unwrap_or(&self.name);
            let topic = format!("$SYS/broker/connection/{id}/state");
            let topic = quoted(self.tells_on.as_ref().unwrap_or(&topic));
            out.set(
                2,
                "will",
                &format!("{{ topic: {topic}, payload: \"0\", qos: 1, retain: true }}"),
            );
            out.set(2, "birth", "{ payload: \"1\" }");
        }
        for (line, why) in &self.left {
            out.comment(2, &format!("{}   # {why}", line.shown()));
        }
        self.write_rules(called, entries);
    }

    /// Whether the other broker is told. It is so by default, and few brokers but Mosquitto take that
    /// topic: so only who asked for it, or spoke of it.
    fn tells_there(&self) -> bool {
        self.tells() && !self.tells_here_alone
    }

    /// Whether anybody is told that the bridge is there.
    fn tells(&self) -> bool {
        self.tells.unwrap_or(self.tells_here_alone || self.tells_on.is_some())
    }

    fn write_rules(&self, called: &str, entries: &mut Writer) {
        if self.rules.is_empty() {
            return;
        }
        entries.line(1, &format!("{called}:"));
        entries.set(2, "local", BROKER);
        entries.set(2, "remote", called);
        entries.line(2, "topics:");
        for (_, rule) in &self.rules {
            match self.keeps_retained {
                Some(false) if rule.direction != "in" => {
                    let Rule { pattern, direction, qos, local, remote } = rule;
                    let prefixes = format!(
                        "local_prefix: {}, remote_prefix: {}",
                        quoted(local),
                        quoted(remote)
                    );
                    entries.line(3, &format!(
                        "- {{ pattern: {}, direction: {direction}, qos: {qos}, {prefixes}, retain: false }}",
                        quoted(pattern)
                    ));
                }
                _ => entries.line(3, &format!("- {}", quoted(&rule.line()))),
            }
        }
        if let Some(messages) = self.threshold.filter(|_| self.lazy) {
            entries.set(2, "batch", &format!("{{ max_messages: {messages}, max_wait: 1h }}"));
        }
        match &self.tells_on {
            None if !self.tells() => (),
            Some(topic) if !self.tells() => {
                entries.comment(
                    2,
                    &format!("notification_topic {topic}   # with `notifications false`"),
                );
            }
            Some(topic) if !topic.starts_with('$') => {
                entries.set(2, "notifications", &format!("{{ topic: {} }}", quoted(topic)));
            }
            Some(topic) => {
                let why = "is for a broker to say";
                entries.line(2, &format!("notifications: {{}}   # `{topic}` {why}"));
            }
            None => entries.set(2, "notifications", "{}"),
        }
    }
}
