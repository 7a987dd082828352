//! `forebay.yaml`: the settings of the runtime. Everything works without it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use forebay_sdk::{
    Finding, Period, Span,
    rules::SETTING_VALUE,
    tls::{Oldest, Tls},
};
use forebay_yaml::{Yaml, units::Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::OPEN_API;

/// The settings of the runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Folder for what must survive a restart. `--data` and `FOREBAY_DATA` go before it.
    pub data: Option<PathBuf>,
    /// How much is logged, and how.
    pub log: Log,
    /// How long a stop may take: sources stop, what is queued is delivered, then the program
    /// ends. What is left then is lost unless its source sends it again.
    pub stop_within: Period,
    /// How bad findings are, for `lint` and `run` alike.
    pub lint: Judgement,
    /// Where the program says over the network how it is, for a Prometheus or who else reads its metrics. Over
    /// the socket in the data folder it says so always.
    pub api: Option<Api>,
}

/// Where the program says over the network how it is, and what may be changed from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address and port, such as `127.0.0.1:9464`, or `0.0.0.0:9464` for all addresses of the machine.
    pub listen: String,
    /// What whoever asks has to send, as `Authorization: Bearer`. It may be left out where `tls.ca` asks for
    /// certificates, and on the machine itself, where then only metrics and health are told.
    pub token: Option<String>,
    /// Speaks TLS there: `https://` in the place of `http://`.
    pub tls: Option<ApiTls>,
    /// What whoever may ask may do as well, on the page and by POST. Nothing when left out.
    #[serde(default)]
    pub allow: Vec<Allowed>,
}

/// Certificates: each the name of a PEM file, relative to the folder, or the PEM text itself, as `${file:...}` gives it. Files
/// that are renewed are used within a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTls {
    /// The certificate of this machine, with those of its issuers.
    pub cert: String,
    /// Its private key.
    pub key: String,
    /// Who issues the certificates of those who ask: nobody gets in without one.
    pub ca: Option<String>,
}

/// What may be done over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Look at the folder, and go over to it if it can run: the same as SIGHUP.
    Reload,
    /// Drop what waits in the buffer of a sink, for good.
    DropBuffer,
}

impl ApiTls {
    /// For whoever speaks it.
    pub fn in_folder(&self, folder: &Path) -> Tls {
        Tls {
            folder: folder.into(),
            ca: self.ca.clone(),
            cert: Some(self.cert.clone()),
            key: Some(Secret::new(self.key.clone())),
            oldest: Oldest::default(),
        }
    }
}

/// How bad findings are. Which rules there are says `forebay explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Judgement {
    /// Rules whose warnings are errors here, so that a set of files with one is refused.
    pub deny: Vec<String>,
    /// Rules whose findings are only warnings here. Goes before `deny`. An error that leaves nothing
    /// to run stays one.
    pub warn: Vec<String>,
}

/// How much is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important lines that are still logged. `FOREBAY_LOG` goes before it.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// What an operator must do about a line decides its level.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Data was lost, or a person must act.
    Error,
    /// Something unexpected that mended itself.
    Warn,
    /// What the operator did, and how it ended.
    #[default]
    Info,
    /// Everything else.
    Debug,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for programs.
    Json,
}

/// What can be guessed in days, by who may ask as often as the link allows.
const SHORTEST_TOKEN: usize = 16;

impl Api {
    /// None when it is none, which lint says.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// What is wrong with it, as it is written.
    pub(super) fn check(&self, written: &Yaml, folder: &Path, findings: &mut Vec<Finding>) {
        for problem in self.tls.iter().flat_map(|tls| tls.in_folder(folder).problems()) {
            let place = |setting: &str| written.get("tls")?.get(setting);
            findings.push(problem.at(|setting| place(setting).map_or(written.span, |it| it.span)));
        }
        let span = |key: &str| written.get(key).map_or(written.span, |value| value.span);
        let mut error = |span: Span, message: &str, label: &str| {
            findings.push(Finding::error(&SETTING_VALUE, span, message, label));
        };
        if let Some(token) = &self.token
            && token.len() < SHORTEST_TOKEN
        {
            let label = format!("expected at least {SHORTEST_TOKEN} characters");
            error(span("token"), "`token` can be guessed", &label);
        }
        let asks_for_certificates = self.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
        let Some(address) = self.address() else {
            let label = "expected an address and a port, such as `127.0.0.1:9464`";
            return error(span("listen"), "`listen` is not an address to listen at", label);
        };
        if self.token.is_none() && !asks_for_certificates && !address.ip().is_loopback() {
            let message = "whoever reaches this address could ask, and there is no `token`";
            let label = "reachable from other devices";
            let finding = Finding::error(&OPEN_API, span("listen"), message, label);
            let help = "add `token: ${file:secrets/api}`, or listen at 127.0.0.1";
            findings.push(finding.help(help));
        }
    }
}

impl Judgement {
    /// Makes findings of a rule errors, whatever was asked before.
    pub fn deny(&mut self, rule: String) {
        self.warn.retain(|name| *name != rule);
        self.deny.push(rule);
    }

    /// Makes findings of a rule warnings, whatever was asked before.
    pub fn warn(&mut self, rule: String) {
        self.deny.retain(|name| *name != rule);
        self.warn.push(rule);
    }
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            data: None,
            log: Log::default(),
            stop_within: Period::seconds(8),
            lint: Judgement::default(),
            api: None,
        }
    }
}
