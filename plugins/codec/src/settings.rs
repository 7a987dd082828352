//! What users write under `decode` and `encode` transforms.

use forebay_sdk::{Compression, Configured, Format, Path, Problem, Settings, ShortOr, Zone};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    influx::InfluxSettings,
    layout::{BinarySettings, Layout, PARTS},
    rows::CsvSettings,
    step::{Steps, Wrapping, Writing},
    template::Template,
    transform::{Codec, Way},
    xml::XmlSettings,
};

/// A way to write a value, or to put bytes into others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// A JSON document.
    Json,
    /// UTF-8 text.
    Text,
    /// Rows of a table, as `csv` says.
    Csv,
    /// CBOR (RFC 8949).
    Cbor,
    /// MessagePack.
    Msgpack,
    /// The line protocol of InfluxDB.
    Influx,
    /// An XML document, as `xml` says.
    Xml,
    /// A text with places, which `template` has.
    Template,
    /// Bits and bytes, as `binary` lays them out.
    Binary,
    /// Cayenne LPP, as many LoRaWAN devices send it.
    CayenneLpp,
    /// Base64. Either alphabet is read.
    Base64,
    /// Base64 for URLs and names of files, without `=`.
    Base64url,
    /// Two digits for each byte.
    Hex,
    /// As the program of that name does.
    Gzip,
    /// Zstandard.
    Zstd,
    /// As `deflate` means in HTTP: the zlib format. Without its frame it is read too.
    Deflate,
}

/// Makes a value of bytes or of a text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecodeSettings {
    /// The field that is read: `data`, `uplink.payload`, or `.` for the whole payload, as it came.
    #[serde(default)]
    field: Path,
    /// The field that becomes what was read, such as `reading` or `meter.reading`. The one that was read when left out.
    into: Option<String>,
    /// What the bytes are, or a list of it from the outside to the inside: `[base64, gzip, json]`.
    format: ShortOr<Step, Vec<Step>>,
    /// How a table is written, for the format `csv`.
    csv: Option<CsvSettings>,
    /// How XML is read, for the format `xml`.
    xml: Option<XmlSettings>,
    /// The text and what stands in it, for the format `template`: `T=%temp%;H=%humidity%`.
    #[schemars(extend("format" = forebay_sdk::units::form::LINES))]
    template: Option<String>,
    /// What lies in the bytes, for the format `binary`.
    binary: Option<BinarySettings>,
}

/// Writes a value as bytes or as a text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncodeSettings {
    /// The field that is written: `reading`, or `.` for the whole payload.
    #[serde(default)]
    field: Path,
    /// The field that becomes what was written, such as `data`; it must be a text. The one that was read when left out.
    into: Option<String>,
    /// How it is written, or a list of it from the inside to the outside: `[json, gzip, base64]`.
    format: ShortOr<Step, Vec<Step>>,
    /// How a table is written, for the format `csv`.
    csv: Option<CsvSettings>,
    /// How XML is written, for the format `xml`.
    xml: Option<XmlSettings>,
    /// How lines are written, for the format `influx`.
    influx: Option<InfluxSettings>,
    /// The text and what is filled in, for the format `template`: `{"TS":%timestamp%,"data":%data%}`.
    #[schemars(extend("format" = forebay_sdk::units::form::LINES))]
    template: Option<String>,
    /// The time zone of the dates in a `template`, such as `Europe/Berlin`. UTC when left out.
    zone: Option<Zone>,
    /// How the bytes are laid out, for the format `binary`.
    binary: Option<BinarySettings>,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Json => "json",
            Step::Text => "text",
            Step::Csv => "csv",
            Step::Cbor => "cbor",
            Step::Msgpack => "msgpack",
            Step::Influx => "influx",
            Step::Xml => "xml",
            Step::Template => "template",
            Step::Binary => "binary",
            Step::CayenneLpp => "cayenne_lpp",
            Step::Base64 => "base64",
            Step::Base64url => "base64url",
            Step::Hex => "hex",
            Step::Gzip => "gzip",
            Step::Zstd => "zstd",
            Step::Deflate => "deflate",
        }
    }

    /// None for a way to write a value.
    fn wrapping(self) -> Option<Wrapping> {
        Some(match self {
            Step::Base64 => Wrapping::Base64,
            Step::Base64url => Wrapping::Base64url,
            Step::Hex => Wrapping::Hex,
            Step::Gzip => Wrapping::Packed(Compression::Gzip),
            Step::Zstd => Wrapping::Packed(Compression::Zstd),
            Step::Deflate => Wrapping::Packed(Compression::Deflate),
            _ => return None,
        })
    }
}

/// What each way to write a value is told.
struct Ways {
    csv: Option<CsvSettings>,
    xml: Option<XmlSettings>,
    influx: Option<InfluxSettings>,
    template: Option<String>,
    zone: Option<Zone>,
    binary: Option<BinarySettings>,
}

/// The most steps.
const MOST_STEPS: usize = 8;

impl Ways {
    /// The steps from the value to the bytes, which `steps` has in this order.
    fn resolve(self, steps: &[Step], problems: &mut Vec<Problem>) -> Steps {
        let writing = steps.first().copied().filter(|step| step.wrapping().is_none());
        let given = [
            ("csv", self.csv.is_some(), Step::Csv),
            ("xml", self.xml.is_some(), Step::Xml),
            ("influx", self.influx.is_some(), Step::Influx),
            ("template", self.template.is_some(), Step::Template),
            ("zone", self.zone.is_some(), Step::Template),
            ("binary", self.binary.is_some(), Step::Binary),
        ];
        for (setting, _, step) in given.iter().filter(|(_, is, step)| *is && writing != Some(*step))
        {
            let message = format!("`{setting}` does nothing, as `format` is not {}", step.name());
            problems.push(Problem::new(*setting, message, "to be taken out"));
        }
        let wrappings = steps.iter().filter_map(|step| step.wrapping()).collect();
        let writing = writing.and_then(|step| self.writing(step, problems));
        Steps { writing, wrappings }
    }

    fn writing(self, step: Step, problems: &mut Vec<Problem>) -> Option<Writing> {
        let mut lacks = |setting: &'static str, label: &str| {
            let message = format!("`format: {setting}` lacks `{setting}`");
            problems.push(Problem::new("format", message, label));
        };
        Some(match step {
            Step::Json => Writing::Plain(Format::Json),
            Step::Text => Writing::Plain(Format::Text),
            Step::Cbor => Writing::Plain(Format::Cbor),
            Step::Msgpack => Writing::Plain(Format::Msgpack),
            Step::Csv => Writing::Csv(self.csv.unwrap_or_default().resolve(problems)),
            Step::Xml => Writing::Xml(self.xml.unwrap_or_default().resolve(problems)),
            Step::Influx => Writing::Influx(self.influx.unwrap_or_default().resolve(problems)),
            Step::CayenneLpp => Writing::Binary(Layout::cayenne_lpp()),
            Step::Template => match self.template {
                Some(text) => {
                    let template = Template::parse(&text, "template", problems);
                    Writing::Template(template.in_zone(self.zone.unwrap_or_default()))
                }
                None => {
                    lacks("template", "expected a text such as `T=%temp%;H=%humidity%`");
                    return None;
                }
            },
            Step::Binary => match self.binary {
                Some(binary) => Writing::Binary(Layout::resolve(&binary, problems)),
                None => {
                    lacks("binary", "expected `binary: { parts: [...] }`");
                    return None;
                }
            },
            _ => return None,
        })
    }
}

impl Settings for DecodeSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let DecodeSettings { field, into, format, csv, xml, template, binary } = self;
        let mut steps = steps(format);
        steps.reverse();
        check(&steps, problems, "outside to the inside");
        let ways = Ways { csv, xml, influx: None, template, zone: None, binary };
        let steps = ways.resolve(&steps, problems);
        if let Some(Writing::Template(template)) = &steps.writing
            && let Some(why) = template.unreadable()
        {
            let message = format!("`template` cannot be read by: {why}");
            problems.push(Problem::new(
                "template",
                message,
                "expected texts, and fields between them",
            ));
        }
        let into = resolve_into(into, &field, problems);
        if steps.writing.is_none() && (into.is_some() || !field.0.is_empty()) {
            let message = "what is unpacked are bytes, for which a field has no room";
            let label = "expected `text`, `json` or the like as the last";
            problems.push(Problem::new("format", message, label));
        }
        Some(Codec { way: Way::Decode, field, into, steps })
    }
}

impl Settings for EncodeSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let EncodeSettings { field, into, format, csv, xml, influx, template, zone, binary } = self;
        let steps = steps(format);
        check(&steps, problems, "inside to the outside");
        let is_lpp = steps.first() == Some(&Step::CayenneLpp);
        let ways = Ways { csv, xml, influx, template, zone, binary };
        let steps = ways.resolve(&steps, problems);
        match &steps.writing {
            _ if is_lpp => {
                let message = "`cayenne_lpp` can only be read";
                let label = "expected another format; `binary` writes any bytes";
                problems.push(Problem::new("format", message, label));
            }
            Some(Writing::Binary(layout)) => {
                if let Some((place, why)) = layout.unwritable() {
                    let message = format!("`{PARTS}` can only be read: {why}");
                    problems.push(Problem::new(place, message, "cannot be written"));
                }
            }
            _ => (),
        }
        let into = resolve_into(into, &field, problems);
        let is_text = match (steps.wrappings.last(), &steps.writing) {
            (Some(wrapping), _) => wrapping.makes_text(),
            (None, Some(writing)) => writing.makes_text(),
            (None, None) => true,
        };
        if !is_text && (into.is_some() || !field.0.is_empty()) {
            let message = "what is written are bytes, for which a field has no room";
            problems.push(Problem::new(
                "format",
                message,
                "expected `base64` or `hex` as the last",
            ));
        }
        Some(Codec { way: Way::Encode, field, into, steps })
    }
}

fn steps(format: ShortOr<Step, Vec<Step>>) -> Vec<Step> {
    match format {
        ShortOr::Short(step) => vec![step],
        ShortOr::Long(steps) => steps,
    }
}

/// A value can only be written at the one end, which is in front here. `order` is that in which users write
/// the steps.
fn check(steps: &[Step], problems: &mut Vec<Problem>, order: &str) {
    if steps.is_empty() || steps.len() > MOST_STEPS {
        let label = format!("expected 1 to {MOST_STEPS}, found {}", steps.len());
        problems.push(Problem::new("format", "`format` has no such number of steps", label));
    }
    let Some(wrong) = steps.iter().skip(1).find(|step| step.wrapping().is_none()) else { return };
    let name = wrong.name();
    let writes = steps.iter().filter(|step| step.wrapping().is_none()).count();
    let problem = if writes > 1 {
        let message = format!("`format` writes a value twice: `{name}` is one of them");
        Problem::new("format", message, "expected one; a second node does the other")
    } else {
        let message = format!("`format` has `{name}` at the wrong end");
        Problem::new("format", message, format!("expected them from the {order}"))
    };
    problems.push(problem);
}

fn resolve_into(into: Option<String>, field: &Path, problems: &mut Vec<Problem>) -> Option<Path> {
    let into = into?;
    if field.0.is_empty() {
        let message = "`into` has nothing to stand beside, as the whole payload is taken";
        problems.push(Problem::new("into", message, "goes with a `field`"));
    }
    match Path::parse_names(&into) {
        Ok(path) => Some(path),
        Err(label) => {
            problems.push(Problem::new("into", "`into` is no name of a field", label));
            None
        }
    }
}
