//! `forebay simulate modbus`: plays devices, over TCP, RTU over TCP, and RTU on a pseudo-terminal.

mod device;
pub mod fault;
pub mod image;
pub mod peer;
mod profile;
pub mod server;
mod settings;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{
    Finding, Period, RunningDevice, Tool, World, schema_of,
    tool::{Argument, Call, Stopped, Takes},
    world::Listener,
    yaml::{self, Limits},
};
use futures_util::future::{BoxFuture, FutureExt, select_all};
use tokio::sync::mpsc;

use self::{
    fault::Faults,
    server::{Devices, Simulator, Wire},
    settings::{FaultSettings, Simulation, SimulationSettings},
};
use crate::{
    block::Table,
    decode::{Form, Order, Sort},
    frame::Framing,
    profiles,
    reading::Field,
    sdm630,
    serial::SerialLine,
    settings::table_setting,
};

/// Unless told otherwise. 502 is for root.
const PORT: u16 = 5020;
/// How many clients are served at the same time, unless told otherwise.
const CLIENTS: usize = 8;
const MOST_CLIENTS: usize = 64;
/// Writes that wait to be printed. What is more is not printed.
const LINES: usize = 64;
/// How many registers the example of a source shows.
const SHOWN: usize = 3;

/// The verb.
pub fn tool() -> Tool {
    Tool {
        path: &["simulate", "modbus"],
        summary: "Play a Modbus device, for tests and to try with; Ctrl-C ends it.",
        about: "Without FILE it is an Eastron SDM630 meter whose values move. A file says which devices\n\
                there are, in the registers of a source, and what goes wrong:\n\n  \
                devices:\n  \
                - units: 1-3\n    \
                  registers: [{ name: volts, input: 0, kind: f32 }, { name: setpoint, holding: 9 }]\n    \
                  values: { volts: { sine: { mean: 230, amplitude: 3, period: 1m } }, setpoint: 21 }\n    \
                  holding: { 0x100: \"0001 00FF\" }\n  \
                faults: [{ late: 2s, every: 10 }, { exception: 6, chance: 5 }]",
        arguments: &[
            Argument { name: "FILE", takes: Takes::File, about: "The devices, as YAML" },
            Argument {
                name: "profile",
                takes: Takes::Several("PROFILE"),
                about: "Play a device of this kind: sdm120, one of yours in the folder profiles,\n\
                        or a file. May be given again: they are the units from 1 on",
            },
            Argument {
                name: "listen",
                takes: Takes::Several("URL"),
                about: "Where to serve, tcp://127.0.0.1:5020 unless given.\n\
                        rtu+tcp://127.0.0.1:5021 is RTU over TCP; with `?baud=9600` answers\n\
                        are as slow as on such a line. May be given again",
            },
            Argument {
                name: "pty",
                takes: Takes::Maybe("LINK"),
                about: "Serve RTU on a pseudo-terminal, with a link to it at LINK",
            },
            Argument {
                name: "fault",
                takes: Takes::Several("FAULT"),
                about: "What goes wrong: late=2s, wrong-id, wrong-unit, wrong-function,\n\
                        wrong-length, exception=6, silence, deaf, bit-error, hang-up,\n\
                        noise=3 or twice; with `,every=10` at each tenth request, with\n\
                        `,chance=5` at 5 in a hundred. May be given again",
            },
            Argument {
                name: "clients",
                takes: Takes::One("N"),
                about: "How many clients are served at a time, 1 to 64; further ones are\nhung up on [default: 8]",
            },
            Argument {
                name: "swallow",
                takes: Takes::One("TIME"),
                about: "What comes so soon after a client has connected is lost",
            },
            Argument { name: "seed", takes: Takes::One("N"), about: "What all chance comes from" },
        ],
        schema: Some(schema_of::<SimulationSettings>),
        run: |call| run(call).boxed(),
    }
}

/// The SDM630 on a free port, for `forebay demo`.
pub async fn start_sdm630() -> anyhow::Result<RunningDevice> {
    const OPENING: &str = "opening a port for the simulated SDM630";
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = World::system().listen(at).await.context(OPENING)?;
    let url = format!("tcp://{}", listener.local_addr().context(OPENING)?);
    Ok(RunningDevice { url, serve: serve_sdm630(listener).boxed() })
}

/// Serves the SDM630 until dropped.
pub async fn serve_sdm630(listener: Box<dyn Listener>) {
    let simulator = Simulator::new(devices(default_simulation()));
    simulator.serve(listener, Wire { framing: Framing::Tcp, line: None }).await;
}

fn default_simulation() -> Simulation {
    let units = [(1, sdm630::image())].into();
    Simulation { units, faults: Vec::new(), seed: 1, fields: sdm630::fields() }
}

fn devices(simulation: Simulation) -> Devices {
    Devices {
        units: simulation.units,
        faults: Faults::new(simulation.faults, simulation.seed),
        most_clients: CLIENTS,
        swallow: Duration::ZERO,
        told: Box::new(|_, _| ()),
    }
}

/// Somewhere to serve.
struct Listening {
    url: String,
    words: &'static str,
    serving: BoxFuture<'static, ()>,
    /// Removed in the end.
    _link: Option<Link>,
}

async fn run(call: Call) -> Result<(), Stopped> {
    let (mut devices, fields) = read(&call)?;
    let (lines, mut written) = mpsc::channel(LINES);
    devices.told = Box::new(move |unit, request| {
        // Who writes faster than a terminal shows is not held up.
        let _ = lines.try_send(write_line(unit, request));
    });
    let units: Vec<u8> = devices.units.keys().copied().collect();
    let simulator = Simulator::new(devices);
    let given = &call.given;
    let mut listening = Vec::new();
    let urls = given.all("listen");
    let default = [format!("tcp://127.0.0.1:{PORT}")];
    let urls = if urls.is_empty() && !given.has("pty") { &default[..] } else { urls };
    for url in urls {
        listening.push(listen(&call.world, url, &simulator).await?);
    }
    if given.has("pty") {
        listening.push(pseudo_terminal(&call.world, given.one("pty"), &simulator).await?);
    }
    call.screen.print(&said(&listening, &units, &fields));
    let serving = select_all(listening.iter_mut().map(|one| &mut one.serving));
    let telling = async {
        while let Some(line) = written.recv().await {
            call.screen.print(&line);
        }
    };
    tokio::select! {
        biased;
        _ = serving => Err(anyhow!("the line to the simulated devices is gone").into()),
        () = telling => Ok(()),
    }
}

/// The devices that were asked for, and what to read of the first.
fn read(call: &Call) -> Result<(Devices, Vec<Field>), Stopped> {
    let mut findings = Vec::new();
    let mut from_file = (None, None);
    let kinds = call.given.all("profile");
    let mut simulation = match &call.file {
        None if kinds.is_empty() => default_simulation(),
        None => of_profiles(kinds)?,
        Some(_) if !kinds.is_empty() => {
            return Err(anyhow!("expected a file or `--profile`, found both").into());
        }
        Some(tree) => {
            let settings: Option<SimulationSettings> =
                yaml::decode(tree, "simulate modbus", &mut findings);
            let Some(settings) = settings else { return Err(Stopped::Wrong(findings, vec![])) };
            from_file = (settings.clients, settings.swallow);
            settings.resolve().map_err(|problems| Stopped::Wrong(vec![], problems))?
        }
    };
    for text in call.given.all("fault") {
        let fault = FaultSettings::parse(text)
            .map_err(|error| anyhow!("`--fault {text}` is no fault: {error}"))?;
        simulation.faults.push(fault);
    }
    if let Some(seed) = call.given.one("seed") {
        simulation.seed = seed.parse().map_err(|_| anyhow!("`--seed` wants a whole number"))?;
    }
    let fields = std::mem::take(&mut simulation.fields);
    let mut devices = devices(simulation);
    if let Some(clients) = call.given.one("clients") {
        let clients = clients.parse().ok().filter(|clients| (1..=MOST_CLIENTS).contains(clients));
        let clients = clients.ok_or_else(|| anyhow!("`--clients` wants 1 to {MOST_CLIENTS}"))?;
        devices.most_clients = clients;
    } else if let Some(clients) = from_file.0 {
        devices.most_clients = clients.into();
    }
    if let Some(swallow) = call.given.one("swallow") {
        devices.swallow =
            *Period::parse(swallow).map_err(|error| anyhow!("`--swallow`: {error}"))?;
    } else if let Some(swallow) = from_file.1 {
        devices.swallow = *swallow;
    }
    Ok((devices, fields))
}

/// A device of each profile, which are the units from 1 on.
fn of_profiles(kinds: &[String]) -> anyhow::Result<Simulation> {
    let mut simulation =
        Simulation { units: BTreeMap::new(), faults: Vec::new(), seed: 1, fields: Vec::new() };
    for (unit, kind) in (1..).zip(kinds) {
        // As for a source, one of the user's goes before what is built in.
        let own = Path::new("profiles").join(format!("{kind}.yaml"));
        let file = Some(own).filter(|own| own.is_file());
        let file = file.or_else(|| kind.ends_with(".yaml").then(|| PathBuf::from(kind)));
        let native = profiles::NATIVE.iter().find(|profile| profile.name == kind);
        let text = match (file, native) {
            (Some(file), _) => {
                fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?
            }
            (None, Some(profile)) => profile.text.to_owned(),
            (None, None) => bail!(
                "`--profile {kind}`: there is none; expected a file, or of {}",
                profiles::names().join(", ")
            ),
        };
        let name = Path::new(kind).file_stem().and_then(|stem| stem.to_str()).unwrap_or(kind);
        let mut findings = Vec::new();
        let tree = yaml::parse(&text, 0, Limits::default(), &mut findings);
        let device = tree.and_then(|tree| profile::device(name, &tree, &mut findings));
        let Some((image, fields)) = device else {
            let found = findings.first();
            let Finding { message, label, .. } = found.context("a profile without a finding")?;
            bail!("`--profile {kind}`: {message}: {label}; `forebay lint` shows where");
        };
        simulation.units.insert(unit, image);
        if unit == 1 {
            simulation.fields = fields;
        }
    }
    Ok(simulation)
}

async fn listen(world: &World, url: &str, simulator: &Simulator) -> anyhow::Result<Listening> {
    let (at, wire) = parse_listen(url).with_context(|| format!("`--listen {url}`"))?;
    let listener = world.listen(at).await.with_context(|| format!("listening at {at}"))?;
    let at = listener.local_addr().with_context(|| format!("listening at {at}"))?;
    let (scheme, words) = match wire.framing {
        Framing::Tcp | Framing::Unnumbered => ("tcp", "Modbus TCP"),
        Framing::Rtu => ("rtu+tcp", "Modbus RTU over TCP"),
    };
    let url = format!("{scheme}://{at}");
    let serving = simulator.clone().serve(listener, wire).boxed();
    Ok(Listening { url, words, serving, _link: None })
}

fn parse_listen(url: &str) -> anyhow::Result<(SocketAddr, Wire)> {
    const EXPECTED: &str = "expected such as `tcp://127.0.0.1:5020` or `rtu+tcp://0.0.0.0:5021`";
    let (scheme, rest) = url.split_once("://").context(EXPECTED)?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(at, query)| (at, Some(query)));
    let framing = match scheme.to_ascii_lowercase().as_str() {
        "tcp" => Framing::Tcp,
        "rtu+tcp" => Framing::Rtu,
        "rtu" => bail!("expected `--pty=LINK` for a serial line"),
        _ => bail!(EXPECTED),
    };
    let place = place.trim_end_matches('/').replace("localhost", "127.0.0.1");
    let address = || place.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let at = place.parse().ok().or_else(|| Some(SocketAddr::new(address()?, PORT)));
    let line = query.map(SerialLine::parse).transpose().map_err(anyhow::Error::msg)?;
    Ok((at.context("expected an address of this machine and a port")?, Wire { framing, line }))
}

/// A link to a pseudo-terminal. Dropped, it is removed.
struct Link(PathBuf);

impl Drop for Link {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.0);
    }
}

async fn pseudo_terminal(
    world: &World,
    link: Option<&str>,
    simulator: &Simulator,
) -> anyhow::Result<Listening> {
    let (line, path) = world.serial_device().await.context("making a pseudo-terminal")?;
    let link = link.map(|link| link_to(Path::new(link), &path)).transpose()?;
    let shown = link.as_ref().map_or(&path, |link| &link.0);
    let shown = std::path::absolute(shown).unwrap_or_else(|_| shown.clone());
    let url = format!("rtu://{}?baud=9600", shown.display());
    let simulator = simulator.clone();
    let serving = async move {
        let wire = Wire { framing: Framing::Rtu, line: None };
        let _ = simulator.talk(line, wire).await;
    };
    Ok(Listening { url, words: "Modbus RTU", serving: serving.boxed(), _link: link })
}

fn link_to(link: &Path, path: &Path) -> anyhow::Result<Link> {
    let making = || format!("making the link {}", link.display());
    if link.is_symlink() {
        fs::remove_file(link).with_context(making)?;
    }
    std::os::unix::fs::symlink(path, link).with_context(|| match link.exists() {
        true => format!("{}: something else is there", making()),
        false => making(),
    })?;
    Ok(Link(link.to_owned()))
}

/// What is served, and how it is read.
fn said(listening: &[Listening], units: &[u8], fields: &[Field]) -> String {
    let widest = listening.iter().map(|one| one.url.len()).max().unwrap_or_default();
    let units_said = match units {
        [unit] => format!("unit {unit}"),
        units => format!("{} units from {} on", units.len(), units[0]),
    };
    let mut text = String::new();
    for Listening { url, words, .. } in listening {
        text += &format!("{url:<widest$}  {words}, {units_said}\n");
    }
    let (url, unit) = (&listening[0].url, units[0]);
    let registers: Vec<String> = fields.iter().filter_map(register).take(SHOWN).collect();
    text += &format!("\nLook at it: forebay probe '{url}'\nRead it:\n");
    text += &format!("  connections: {{ bus: {{ type: modbus, url: '{url}' }} }}\n");
    if !registers.is_empty() {
        text += &format!(
            "  sources: {{ device: {{ type: modbus, connection: bus, unit: {unit}, every: 5s, \
             registers: [{}] }} }}\n",
            registers.join(", ")
        );
    }
    text + "Ctrl-C ends.\n"
}

/// A register as a source writes it. None for what needs more words.
fn register(field: &Field) -> Option<String> {
    let table = table_setting(field.block.table);
    let place = format!("name: {}, {table}: {}", field.name, field.block.start);
    let Some(form) = &field.form else { return Some(format!("{{ {place} }}")) };
    let Form::Number { kind, order } = form else { return None };
    let letter = match kind.sort {
        Sort::Unsigned => 'u',
        Sort::Signed => 'i',
        Sort::Float => 'f',
        Sort::SignMagnitude | Sort::Bcd => return None,
    };
    let order = match order {
        Order::Abcd => String::new(),
        other => format!(", order: {}", format!("{other:?}").to_uppercase()),
    };
    Some(format!("{{ {place}, kind: {letter}{}{order} }}", kind.width))
}

/// A write that was carried out, as a line.
fn write_line(unit: u8, request: &[u8]) -> String {
    let table = if matches!(request[0], 5 | 15) { Table::Coil } else { Table::Holding };
    let at = if request[0] == 23 { 5 } else { 1 };
    let address = u16::from_be_bytes([request[at], request[at + 1]]);
    let values = match request[0] {
        5 | 6 | 22 => &request[3..],
        15 | 16 => &request[6..],
        _ => &request[10..],
    };
    let hex: Vec<String> = values.chunks(2).map(hex).collect();
    format!("unit {unit}: wrote {} {address}: {}\n", table.noun(), hex.join(" "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
