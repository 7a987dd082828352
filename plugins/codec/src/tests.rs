use forebay_sdk::{
    Format, Message, NodeType, Payload, Timestamp, Value,
    testing::{Rig, configure},
};
use serde_json::json;

use super::{decode, encode, plugin};

/// What a node makes of a payload, or what it says is wrong with it.
fn goes(
    node_type: &dyn NodeType,
    settings: &str,
    payload: impl Into<Payload>,
) -> Result<Payload, String> {
    let mut message = Message::new("site/a", payload);
    message.time = Timestamp::from_unix_nanos(1_792_843_205_123_456_789);
    let mut sent = Rig::new(node_type, settings).send(message)?;
    assert_eq!(sent.len(), 1);
    Ok(sent.remove(0).1.message.payload)
}

fn read(settings: &str, bytes: impl AsRef<[u8]>) -> Result<Value, String> {
    let payload = Payload::encoded(bytes.as_ref().to_vec(), Format::Json);
    goes(&decode(), settings, payload).map(|payload| payload.value().unwrap().clone())
}

fn write(settings: &str, value: Value) -> Result<String, String> {
    let payload = goes(&encode(), settings, value)?;
    Ok(String::from_utf8(payload.written(Format::Json).unwrap().to_vec()).unwrap())
}

#[test]
fn what_was_encoded_is_decoded_to_the_same() {
    let value = json!({ "a": [1, 2.5, "ü"], "b": null });
    for steps in [
        "json",
        "cbor",
        "msgpack",
        "json, gzip",
        "cbor, zstd, base64",
        "json, deflate, base64url",
        "msgpack, hex",
        "json, base64, hex, gzip, base64",
    ] {
        let written = goes(&encode(), &format!("format: [{steps}]"), value.clone()).unwrap();
        let mut back: Vec<&str> = steps.split(", ").collect();
        back.reverse();
        let settings = format!("format: [{}]", back.join(", "));
        let read = goes(&decode(), &settings, written).unwrap();
        assert_eq!(read.value(), Ok(&value), "{steps}");
    }
}

#[test]
fn a_field_is_read_in_its_place_or_beside_it() {
    let came = r#"{"id":123456789012345678901234567890,"data":"eyJ0IjoxfQ=="}"#;
    let settings = "{ field: data, format: [base64, json] }";
    let payload = goes(&decode(), settings, Payload::encoded(came, Format::Json)).unwrap();
    let expected = r#"{"id":123456789012345678901234567890,"data":{"t":1}}"#;
    assert_eq!(payload.to_bytes(Format::Json), expected);
    let settings = "{ field: up.data, into: read.it, format: hex, }";
    assert!(format!("{:?}", configure(&decode(), settings).err()).contains("a field has no room"));
    let settings = "{ field: up.data, into: read.it, format: [hex, text] }";
    let payload = goes(&decode(), settings, json!({ "up": { "data": "68 69" } })).unwrap();
    assert_eq!(payload.value(), Ok(&json!({ "up": { "data": "68 69" }, "read": { "it": "hi" } })));
    let settings = "{ field: 'list[1]', format: json }";
    let payload = goes(&decode(), settings, json!({ "list": ["x", "[1]"] })).unwrap();
    assert_eq!(payload.value(), Ok(&json!({ "list": ["x", [1]] })));
    let settings = "{ field: reading, into: data, format: [json, base64] }";
    let payload = goes(&encode(), settings, json!({ "reading": { "t": 1 } })).unwrap();
    assert_eq!(payload.value(), Ok(&json!({ "reading": { "t": 1 }, "data": "eyJ0IjoxfQ==" })));
}

#[test]
fn bytes_come_as_bytes_as_a_text_or_as_a_list() {
    let settings = "format: text";
    for payload in [
        Payload::encoded("hi", Format::Bytes),
        Payload::encoded("hi", Format::Text),
        Payload::encoded("hi", Format::Json),
        Payload::encoded(r#""hi""#, Format::Json),
        json!("hi").into(),
        json!([104, 105]).into(),
        json!({ "type": "Buffer", "data": [104, 105] }).into(),
    ] {
        assert_eq!(goes(&decode(), settings, payload).unwrap().value(), Ok(&json!("hi")));
    }
    for payload in [json!(5), json!([256]), json!([1.5]), json!({ "data": [1] }), json!(null)] {
        let error = goes(&decode(), settings, payload).unwrap_err();
        assert!(error.ends_with("expected a text, or a list of bytes"), "{error}");
    }
    // A table whose first cell has quotes is no JSON.
    let table = "\"a\",\"b\"\n1,2\n";
    assert_eq!(read("format: csv", table), Ok(json!([{ "a": 1, "b": 2 }])));
}

#[test]
fn what_is_encoded_leaves_a_sink_as_it_is() {
    let payload = goes(&encode(), "format: csv", json!({ "a": 1 })).unwrap();
    assert_eq!(payload.written(Format::Json).unwrap(), "a\n1\n");
    let payload = goes(&encode(), "format: [json, gzip]", json!({ "a": 1 })).unwrap();
    assert_eq!(payload.written(Format::Json).unwrap()[..2], b"\x1f\x8b"[..]);
}

#[test]
fn base64_and_hex_are_read_as_people_write_them_and_say_where_they_are_wrong() {
    for text in ["-_8", "+/8=", "+/8", " +/\n8= "] {
        assert_eq!(read("format: [base64, hex]", text).map_err(drop), Err(()), "{text}");
        let bytes =
            goes(&decode(), "format: base64", Payload::encoded(text, Format::Text)).unwrap();
        assert_eq!(bytes.to_bytes(Format::Bytes), &b"\xfb\xff"[..], "{text}");
    }
    for text in ["fbff", "0xFBFF", "fb:ff", "FB ff", "fb-ff\n"] {
        let bytes = goes(&decode(), "format: hex", Payload::encoded(text, Format::Text)).unwrap();
        assert_eq!(bytes.to_bytes(Format::Bytes), &b"\xfb\xff"[..], "{text}");
    }
    for (format, text, says) in [
        ("base64", "ab!d", "payload is not base64: `!` at character 3"),
        ("base64", "a", "payload is not base64: it ends too early"),
        ("base64", "ab=d", "payload is not base64: a `=` stands where it should not"),
        ("hex", "0xfg", "payload is not hexadecimal: `g` at character 4"),
        ("hex", "abc", "payload is not hexadecimal: it has an odd number of digits"),
        ("hex", "a:b", "payload is not hexadecimal: `:` at character 2"),
        ("gzip", "no", "payload is not gzip: "),
        ("cbor", "\u{1}\u{1}", "payload is not CBOR: "),
        ("json", "{", "payload is not JSON: EOF while parsing an object at line 1 column 1"),
    ] {
        let error =
            goes(&decode(), &format!("format: {format}"), Payload::encoded(text, Format::Text));
        let error = error.unwrap_err();
        assert!(error.starts_with(says), "{error}");
    }
    let error =
        goes(&decode(), "{ field: a.b, format: [hex, json] }", json!({ "a": { "b": "0" } }));
    assert!(error.unwrap_err().starts_with("`a.b` is not hexadecimal"));
    let error = goes(&decode(), "{ field: a, format: [hex, json] }", json!({}));
    assert_eq!(error.unwrap_err(), "`a` is missing");
}

#[test]
fn a_bomb_is_not_unpacked() {
    let bomb = forebay_sdk::Compression::Gzip.pack(&vec![b'0'; 8 << 20]);
    let error = goes(&decode(), "format: [gzip, text]", Payload::encoded(bomb, Format::Bytes));
    assert_eq!(error.unwrap_err(), "payload is not gzip: it unpacks to more than 4194304 bytes");
    let many = "<a/>".repeat(200_001);
    let error = read("format: xml", format!("<b>{many}</b>")).unwrap_err();
    assert_eq!(error, "payload is not XML: it has more than 200000 elements and attributes");
    let deep = "<a>".repeat(1_000_000);
    let error = read("format: xml", deep).unwrap_err();
    assert!(error.ends_with("nested deeper than 64 elements"), "{error}");
    let wide = format!("{}\n{}", "a,".repeat(1000), (",".repeat(1000) + "\n").repeat(300));
    let error = read("format: csv", wide).unwrap_err();
    assert_eq!(error, "payload is not CSV: it has more than 200000 cells");
    let parts = "binary: { parts: [{ name: a, repeat: rest, type: u1 }] }";
    let error = read(&format!("format: binary\n{parts}"), vec![0; 100_000]).unwrap_err();
    assert_eq!(error, "payload has more than 200000 values");
}

#[test]
fn tables_are_read() {
    for (settings, text, expected) in [
        ("{}", "t,h\n21.5,60\n-1,\n", json!([{ "t": 21.5, "h": 60 }, { "t": -1, "h": null }])),
        (
            "{ separator: ';', decimal: comma }",
            "t;h\r\n21,5;1.000\r\n",
            json!([{ "t": 21.5, "h": "1.000" }]),
        ),
        ("{ header: none }", "a,1\nb,2", json!([["a", 1], ["b", 2]])),
        ("{ header: none, columns: [x, y], rows: one }", "a,1\n", json!({ "x": "a", "y": 1 })),
        ("{ columns: [x, y] }", "a,b\n1,2\n", json!([{ "x": 1, "y": 2 }])),
        ("{ cells: text }", "a\n 1 \n", json!([{ "a": " 1 " }])),
        (
            "{}",
            "\u{feff}a\n007\n1e5\n0x1\nnan\n\"x,\"\"y\"\n12345678901234567890\n",
            json!([
                { "a": "007" }, { "a": 1e5 }, { "a": "0x1" }, { "a": "nan" }, { "a": "x,\"y" },
                { "a": "12345678901234567890" },
            ]),
        ),
        ("{}", "a,b\n", json!([])),
        ("{}", "", json!([])),
    ] {
        let settings = format!("format: csv\ncsv: {settings}");
        assert_eq!(read(&settings, text), Ok(expected), "{settings}");
    }
    for (settings, text, says) in [
        ("{}", "a,b\n1,2\n3\n", "line 3 has 1 cell; there are 2 columns"),
        ("{ rows: one }", "a\n1\n2\n", "it has 2 rows; `rows: one` expects one"),
    ] {
        let settings = format!("format: csv\ncsv: {settings}");
        assert_eq!(read(&settings, text), Err(format!("payload is not CSV: {says}")));
    }
    let error = read("format: csv", b"a,b\n1,\xff\n").unwrap_err();
    assert_eq!(error, "payload is not CSV: line 2, cell 2 is not UTF-8 text");
}

#[test]
fn tables_are_written() {
    for (settings, value, expected) in [
        ("{}", json!({ "t": 21.5, "h": null, "s": "a,b" }), "t,h,s\n21.5,,\"a,b\"\n"),
        ("{}", json!([{ "a": 1 }, { "a": true }]), "a\n1\ntrue\n"),
        ("{ header: none }", json!([1, "x"]), "1,x\n"),
        ("{ header: none }", json!([[1, 2], [3, 4]]), "1,2\n3,4\n"),
        ("{ columns: [b, c] }", json!({ "a": 1, "b": 2 }), "b,c\n2,\n"),
        (
            "{ separator: \"\\t\", decimal: comma }",
            json!({ "a": 1.5, "b": "1.5" }),
            "a\tb\n1,5\t1.5\n",
        ),
        ("{ columns: [a] }", json!([]), "a\n"),
    ] {
        let written = write(&format!("format: csv\ncsv: {settings}"), value);
        assert_eq!(written, Ok(expected.to_owned()), "{settings}");
    }
    for (value, says) in [
        (json!(5), "a number; CSV is made of a map, or a list of them"),
        (json!({ "a": [1] }), "row 1: `a` is a list, which no cell can hold"),
        (
            json!([{ "a": 1 }, { "b": 1 }]),
            "row 2: `b` is not in the first row; name all in `columns`",
        ),
        (json!([{ "a": 1 }, [1, 2]]), "row 2: 2 cells; there are 1 columns"),
    ] {
        let error = write("format: csv", value).unwrap_err();
        assert_eq!(error, format!("payload cannot be written: {says}"));
    }
}

#[test]
fn xml_is_read_and_written() {
    let text = "<?xml version=\"1.0\"?>\n<!-- x -->\n<m id='007' n=\"5\"><t u='C'>21.5</t><p>1</p><p>2</p>\
                <e/><s>a &lt; &#98; <![CDATA[<c>]]></s></m>";
    let value = json!({ "m": {
        "@id": "007", "@n": 5, "t": { "@u": "C", "#text": 21.5 }, "p": [1, 2], "e": null,
        "s": "a < b <c>",
    } });
    assert_eq!(read("format: xml", text), Ok(value.clone()));
    let written = write("format: xml", value.clone()).unwrap();
    let expected = "<m id=\"007\" n=\"5\"><t u=\"C\">21.5</t><p>1</p><p>2</p><e/><s>a &lt; b &lt;c&gt;</s></m>";
    assert_eq!(written.split_once("?>").unwrap().1, expected);
    assert_eq!(read("format: xml", &written), Ok(value));
    let lists = read("{ format: xml, xml: { lists: [p], texts: text } }", "<m><p>1</p></m>");
    assert_eq!(lists, Ok(json!({ "m": { "p": ["1"] } })));
    let rooted =
        write("{ format: xml, xml: { root: r } }", json!({ "a": [1, 2], "b": { "@c": "\"" } }));
    assert!(rooted.unwrap().ends_with("<r><a>1</a><a>2</a><b c=\"&quot;\"></b></r>"));
    for (text, says) in [
        ("<a>\n <b></a>", "line 2, column "),
        ("<a>", "it ends inside of `<a>`"),
        ("hello", "it has no element"),
        ("<a>&x;</a>", "line 1, column 4: `&x;` is not known"),
        ("<!DOCTYPE a [<!ENTITY x \"yyyy\">]><a>&x;</a>", "`&x;` is not known"),
        ("<a b=1/>", "line 1, column 1: "),
    ] {
        let error = read("format: xml", text).unwrap_err();
        assert!(
            error.starts_with("payload is not XML: ") && error.contains(says),
            "{text}: {error}"
        );
    }
    for (value, says) in [
        (json!({ "a": 1, "b": 2 }), "2 members, and XML has one outermost element"),
        (json!({ "1a": 1 }), "`1a` is no name of an element"),
        (json!({ "a": { "@b": [1] } }), "`@b` cannot be an attribute"),
        (json!({ "a": "\u{1}" }), "which XML cannot hold"),
        (json!({ "a": [1, 2] }), "`a` is a list"),
    ] {
        let error = write("format: xml", value).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn line_protocol_is_read() {
    let text = "weather,site=a\\ b,k=x\\,y temp=21.5,n=5i,u=7u,on=t,s=\"a \\\"b\\\",\\\\c\" 1764424800000000000\n\
                # nothing\n\ncpu value=1\n";
    let expected = json!([
        {
            "measurement": "weather",
            "tags": { "site": "a b", "k": "x,y" },
            "fields": { "temp": 21.5, "n": 5, "u": 7, "on": true, "s": "a \"b\",\\c" },
            "time": 1_764_424_800_000_000_000_i64,
        },
        { "measurement": "cpu", "tags": {}, "fields": { "value": 1 } },
    ]);
    assert_eq!(read("format: influx", text), Ok(expected));
    for (text, says) in [
        ("a b=1\nweather temp", "line 2: expected `name=value`, found `temp`"),
        ("m a=x", "line 1: `a`: expected a number, true, false or a text in quotes, found `x`"),
        ("m a=1 x", "line 1: expected a time behind the fields, found `x`"),
        ("m a=\"x", "line 1: `a`: a text begins with `\"` and does not end"),
        (",a=1 b=2", "line 1: expected a measurement in front"),
        ("m", "line 1: expected `name=value`"),
    ] {
        let error = read("format: influx", text).unwrap_err();
        assert!(error.starts_with(&format!("payload is not line protocol: {says}")), "{error}");
    }
}

#[test]
fn line_protocol_is_written() {
    const TIME: &str = "1792843205123456789";
    for (settings, value, expected) in [
        ("{}", json!({ "t": 21, "on": true, "x": null }), format!("site/a t=21,on=true {TIME}\n")),
        (
            "{ measurement: 'power %unit%', tags: [id, room], integers: [m.n], precision: ms }",
            json!({ "id": "a b", "unit": "kW", "m": { "n": 5, "w": 1.5 }, "l": [1, "q\""] }),
            "power\\ kW,id=a\\ b unit=\"kW\",m_n=5i,m_w=1.5,l_0=1,l_1=\"q\\\"\" 1792843205123\n"
                .to_owned(),
        ),
        (
            "{ precision: none }",
            json!([{ "a": 1 }, 2.5]),
            "site/a a=1\nsite/a value=2.5\n".to_owned(),
        ),
    ] {
        let written = write(&format!("format: influx\ninflux: {settings}"), value);
        assert_eq!(written, Ok(expected), "{settings}");
    }
    for (settings, value, says) in [
        ("{}", json!({ "a": null }), "line 1: there is no field to write"),
        (
            "{ integers: [a] }",
            json!({ "a": 1.5 }),
            "line 1: `a` is 1.5; `integers` expects a whole",
        ),
        ("{ tags: [a] }", json!({ "a": "x\ny", "b": 1 }), "has a line break"),
        ("{ measurement: '%x%' }", json!({ "a": 1 }), "`x` is missing"),
        ("{}", json!("x"), "line 1: a text; expected a map or a number"),
    ] {
        let error = write(&format!("format: influx\ninflux: {settings}"), value).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

/// The form that RutOS has for what a Modbus client sends, and others of its places.
#[test]
fn texts_are_written_as_rutos_writes_them() {
    let value = json!({ "name": "power", "data": [1, 2], "none": null, "n": { "x": 1.5 } });
    for (template, expected) in [
        (
            r#"{"TS":"%timestamp%","D":"%date%","data":%data%}"#,
            r#"{"TS":"1792843205","D":"24/10/2026 14:00:05","data":{"name":"power","data":[1,2],"none":null,"n":{"x":1.5}}}"#,
        ),
        ("%name%=%payload.data% at %date_iso_8601%", "power=[1,2] at 2026-10-24T14:00:05+02:00"),
        ("%topic% %n.x% %none% 100%% %timestamp_ms%", "site/a 1.5 null 100% 1792843205123"),
    ] {
        let settings =
            json!({ "format": "template", "template": template, "zone": "Europe/Berlin" });
        assert_eq!(write(&settings.to_string(), value.clone()), Ok(expected.to_owned()));
    }
    let settings = "{ format: [template, hex], template: 'a%bdate%' }";
    assert_eq!(write(settings, value.clone()), Ok("616adc9dc5".to_owned()));
    let error = write("{ format: template, template: '%x%' }", value).unwrap_err();
    assert_eq!(error, "payload cannot be written: `x` is missing, which the text names");
}

#[test]
fn texts_are_read_by_a_template() {
    for (template, text, expected) in [
        ("T=%temp%;H=%hum%", "T=21.5;H=60\r\n", json!({ "temp": 21.5, "hum": 60 })),
        ("%a.b% C", "-3 C", json!({ "a": { "b": -3 } })),
        ("+CSQ: %rssi%,%ber%\n", "+CSQ: 21,99\r\n", json!({ "rssi": 21, "ber": 99 })),
        ("{\"TS\":%ts%,\"data\":%data%}", r#"{"TS":5,"data":{"x":1}}"#, json!({ "ts": 5, "x": 1 })),
        ("%name%", "007", json!({ "name": "007" })),
    ] {
        let settings = json!({ "format": "template", "template": template });
        assert_eq!(read(&settings.to_string(), text), Ok(expected), "{template}");
    }
    for (text, says) in [
        ("X=1;H=2", "expected `T=` at character 1"),
        ("T=1", "nothing ends `%temp%`, which begins at character 3"),
    ] {
        let settings = json!({ "format": "template", "template": "T=%temp%;H=%hum%" });
        let error = read(&settings.to_string(), text).unwrap_err();
        assert_eq!(error, format!("payload does not fit the template: {says}"));
    }
}

/// The examples of its documentation.
#[test]
fn cayenne_lpp_is_read() {
    for (hex, expected) in [
        ("03 67 01 10 05 67 00 FF", json!({ "temperature_3": 27.2, "temperature_5": 25.5 })),
        ("01 67 FF D7", json!({ "temperature_1": -4.1 })),
        (
            "06 71 04 D2 FB 2E 00 00",
            json!({ "accelerometer_6": { "x": 1.234, "y": -1.234, "z": 0 } }),
        ),
        (
            "01 88 06 76 5f f2 96 0a 00 03 e8",
            json!({ "gps_1": { "latitude": 42.3519, "longitude": -87.9094, "altitude": 10 } }),
        ),
        ("02 68 50 03 00 01", json!({ "relative_humidity_2": 40, "digital_in_3": 1 })),
    ] {
        assert_eq!(read("format: [hex, cayenne_lpp]", hex), Ok(expected), "{hex}");
    }
    for (hex, says) in [
        (
            "01 67 FF",
            "payload ends too early: `temperature_1` takes 16 bits at byte 2, and there are 3 bytes",
        ),
        (
            "01 FF 00",
            "payload is not as laid out: `_type` is 255 (0xff), for which there is no case, at byte 2",
        ),
    ] {
        assert_eq!(read("format: [hex, cayenne_lpp]", hex), Err(says.to_owned()));
    }
}

fn laid_out(parts: &str, hex: &str) -> Result<Value, String> {
    read(&format!("format: [hex, binary]\nbinary:\n  parts:\n{parts}"), hex)
}

#[test]
fn bytes_are_read_as_they_are_laid_out() {
    let parts = "
  - { is: 0xA5, type: u8 }
  - { name: temp, type: i16, scale: 0.01, missing: 0x7fff }
  - { name: battery, type: u12, scale: 0.001, offset: 1.5, endian: big }
  - { name: mode, type: u4, values: { 0: off, 0x1: 'on' } }
  - { type: u8, flags: { 0: door, 7: low } }
  - { name: level, type: f32, endian: little }
  - { name: serial, type: hex, length: 3 }
  - { name: label, type: text, length: 4 }
  - { name: meter, type: bcd8 }
  - { name: _count, type: u8 }
  - { name: samples, repeat: _count, type: u16 }
  - { name: rows, repeat: 2, parts: [{ name: a, type: u8 }, { name: b, type: i8 }] }
  - { skip: rest }";
    let hex = "A5 08 98 5DC 1 81 9a99a941 0102ff 41420000 12345678 02 0001 0002 01ff 02fe dead";
    let expected = json!({
        "temp": 22, "battery": 3, "mode": "on", "door": true, "low": true, "level": 21.2,
        "serial": "0102ff", "label": "AB", "meter": 12345678, "samples": [1, 2],
        "rows": [{ "a": 1, "b": -1 }, { "a": 2, "b": -2 }],
    });
    assert_eq!(laid_out(parts, hex), Ok(expected));
    assert_eq!(
        laid_out("  - { name: t, type: i16, missing: 0x8000 }", "8000"),
        Ok(json!({ "t": null }))
    );
    assert_eq!(laid_out("  - { name: t, type: f32 }", "7fc00000"), Ok(json!({ "t": null })));
    assert_eq!(
        laid_out("  - { name: t, type: u64 }", "ffffffffffffffff"),
        Ok(json!({ "t": u64::MAX }))
    );
    assert_eq!(laid_out("  - { name: t, type: bcd4 }", "ffff"), Ok(json!({ "t": null })));
    assert_eq!(
        laid_out("  - { name: f, type: u8, flags: { 1: a } }", "02"),
        Ok(json!({ "f": { "a": true } }))
    );
}

/// Of a DBC file: EngineSpeed 24|16@1+ (0.125,0), of J1939; and a signal of Motorola's order, 7|12@0-.
#[test]
fn can_frames_are_read_by_the_start_bits_of_a_dbc_file() {
    let parts = "
  - { name: speed, at: 3, type: u16, endian: little, scale: 0.125 }
  - { name: torque, at: 2, type: u8, offset: -125 }
  - { name: moved, at: 0, bit: 7, type: i12 }
  - { at: 5 , name: rest, type: hex, length: rest }";
    assert_eq!(
        laid_out(parts, "FFE 0 82 20 4E 00 FF FF"),
        Ok(json!({ "speed": 2500, "torque": 5, "moved": -2, "rest": "00ffff" }))
    );
}

/// As sensors for LoRaWAN send what they have to say: a channel, a type, and a value by the type.
#[test]
fn values_with_a_type_in_front_are_read_by_it() {
    let parts = "
  - repeat: rest
    parts:
      - { name: _what, type: u16 }
      - by: _what
        cases:
          0x0175: [{ name: battery, type: u8 }]
          0x0367: [{ name: temperature, type: i16, endian: little, scale: 0.1 }]
          0x0468: [{ name: humidity, type: u8, scale: 0.5 }]";
    let expected = json!({ "battery": 92, "temperature": 30.8, "humidity": 50.5 });
    assert_eq!(laid_out(parts, "01755C 03673401 046865"), Ok(expected));
    let lengths = "
  - repeat: rest
    parts:
      - { name: _tag, type: u8 }
      - { name: _length, type: u8 }
      - by: _tag
        length: _length
        otherwise: skip
        cases:
          1: [{ name: 'v{_length}', type: u16 }, { skip: rest }]";
    assert_eq!(laid_out(lengths, "09 03 aabbcc 01 02 0005"), Ok(json!({ "v2": 5 })));
    for (parts, hex, says) in [
        (lengths, "09 05 aa", "ends too early: `_tag` takes 5 bytes at byte 2, and 1 are there"),
        ("  - { name: a, type: u16 }", "01", "`a` takes 16 bits at byte 0, and there are 1 bytes"),
        ("  - { name: a, type: u8 }", "010203", "has 2 bytes more than the layout, at byte 1"),
        ("  - { is: 0xA5, type: u8 }", "A4", "expected 165 (0xa5), found 164 (0xa4), at byte 0"),
        ("  - { name: a, type: bcd2 }", "1a", "`a` has a digit that is none, at byte 0"),
        ("  - { name: a, type: text, length: 1 }", "ff", "`a` is not UTF-8 text"),
        (
            "  - { name: a, type: u4 }\n  - { name: b, type: hex, length: 1 }",
            "ffff",
            "does not begin with a byte",
        ),
        (
            "  - { repeat: rest, parts: [{ name: a, at: 0, type: u8 }, { skip: 0, at: 0 }] }",
            "01",
            "takes no bytes",
        ),
    ] {
        let error = laid_out(parts, hex).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_written_by_a_layout_is_read_by_it() {
    let parts = "
  - { is: 0xA5, type: u8 }
  - { name: temp, type: i16, scale: 0.01, missing: 0x7fff }
  - { name: battery, type: u12, scale: 0.001, offset: 1.5 }
  - { name: mode, type: u4, values: { 0: off, 0x1: 'on' } }
  - { name: bits, type: u8, flags: { 0: door, 7: low } }
  - { name: level, type: f32, endian: little }
  - { name: half, type: f16 }
  - { name: big, type: u64, endian: little }
  - { name: serial, type: hex, length: 3 }
  - { name: label, type: text, length: 4 }
  - { name: meter, type: bcd8 }
  - { name: kind, type: u8 }
  - { by: kind, length: 2, cases: { 1: [{ name: x, type: u8 }, { skip: 1 }], 2: [{ name: y, type: i16 }] } }
  - { name: on, type: bool }
  - { name: fine, type: i7 }
  - { name: count, type: u8 }
  - { name: samples, repeat: count, type: u16 }
  - { name: rows, repeat: rest, parts: [{ name: a, type: u8 }] }";
    let settings = |format: &str| format!("format: {format}\nbinary:\n  parts:\n{parts}");
    let value = json!({
        "temp": -12.34, "battery": 3.25, "mode": "on", "bits": { "door": false, "low": true },
        "level": 21.2, "half": 0.5, "big": u64::MAX, "serial": "0102ff", "label": "AB", "meter": 12345678,
        "kind": 2, "y": -5, "on": true, "fine": -64, "count": 2, "samples": [1, 65535], "rows": [{ "a": 9 }],
    });
    let written = goes(&encode(), &settings("binary"), value.clone()).unwrap();
    assert_eq!(goes(&decode(), &settings("binary"), written).unwrap().value(), Ok(&value));
    let error = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        goes(&encode(), &settings("binary"), value).unwrap_err()
    };
    for (name, wrong, says) in [
        ("temp", json!(400), "`temp` is 400; there is room for -327.68 to 327.67"),
        ("mode", json!("standby"), "`mode` is \"standby\", which is none of `values`"),
        ("serial", json!("01020304"), "`serial` takes 4 bytes; there is room for 3"),
        ("count", json!(3), "`samples` has 2 items; `repeat` says 3"),
        ("kind", json!(7), "`kind` is 7, for which there is no case"),
        ("fine", json!("x"), "`fine` is a text; expected a number"),
        ("meter", json!(123_456_789), "there is room for 0 to 99999999"),
        ("rows", json!(5), "`rows` is a number; expected a list"),
    ] {
        let error = error(&|value| value[name] = wrong.clone());
        assert!(error.contains(says), "{error}");
    }
    let missing = error(&|value| drop(value.as_object_mut().unwrap().remove("battery")));
    assert!(missing.contains("`battery` is missing, which the layout has"), "{missing}");
    let mut none = value.clone();
    none["temp"] = Value::Null;
    let written = goes(&encode(), &settings("binary"), none).unwrap();
    assert_eq!(written.to_bytes(Format::Bytes)[1..3], [0x7f, 0xff]);
}

#[test]
fn no_bytes_from_outside_cause_a_panic() {
    let mut random = fastrand::Rng::with_seed(15);
    let layouts = ["
  - { name: _n, type: u8 }
  - { name: a, type: text, length: _n }
  - { name: l, repeat: _n, parts: [{ name: b, type: i13 }, { name: c, type: bcd8 }] }
  - { by: _n, otherwise: skip, cases: { 1: [{ name: x, at: 3, bit: 2, endian: little, type: u9 }] } }
  - { skip: rest }"];
    let formats = [
        "json",
        "csv",
        "xml",
        "influx",
        "cbor",
        "msgpack",
        "base64",
        "hex",
        "gzip",
        "zstd",
        "cayenne_lpp",
    ];
    let mut rigs: Vec<Rig> =
        formats.iter().map(|format| Rig::new(&decode(), &format!("format: {format}"))).collect();
    rigs.extend(
        layouts.map(|parts| {
            Rig::new(&decode(), &format!("format: binary\nbinary:\n  parts:\n{parts}"))
        }),
    );
    rigs.push(Rig::new(&decode(), "{ format: template, template: 'a%b%c%data%d' }"));
    for _ in 0..2000 {
        let alphabet: &[u8] = b"<>/a=\"',; \n&#x0f-%{}[]:\\\x00\x01\x67\xff\x81";
        let bytes: Vec<u8> =
            (0..random.usize(0..40)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
        for rig in &mut rigs {
            let _ = rig.send(Message::new("a", Payload::encoded(bytes.clone(), Format::Bytes)));
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("format: [json, base64]", "`format` has `json` at the wrong end"),
        ("format: [json, csv]", "`format` writes a value twice"),
        ("format: []", "expected 1 to 8, found 0"),
        ("format: jsn", "format"),
        ("{ format: json, csv: {} }", "`csv` does nothing, as `format` is not csv"),
        ("format: binary", "`format: binary` lacks `binary`"),
        ("{ format: binary, binary: { parts: [] } }", "`parts` is empty"),
        ("{ format: json, into: x }", "`into` has nothing to stand beside"),
        ("{ format: json, field: a, into: 'x[0]' }", "`into` is no name of a field"),
        ("{ format: csv, csv: { separator: ab } }", "expected one character"),
        ("{ format: csv, csv: { columns: [a, a] } }", "`columns` has `a` twice"),
        ("{ format: template, template: 'a%' }", "has a `%` without an end"),
        ("{ format: template, template: '%a%%b%' }", "nothing between that tells them apart"),
        ("{ format: template, template: '%timestamp%;%a%' }", "is written and cannot be read"),
        ("{ format: template, template: 'x' }", "no place such as"),
    ] {
        let found = format!("{:?}", configure(&decode(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    for (part, says) in [
        ("{ name: a }", "a part does not say what lies there"),
        ("{ name: a, type: u8, skip: 1 }", "both `type` and `skip`"),
        ("{ name: a, type: u65 }", "`type` is none: `u65`"),
        ("{ type: u8 }", "a part has no `name`"),
        ("{ name: a, type: text }", "`type: text` has no `length`"),
        ("{ name: a, type: text, length: 1, scale: 2 }", "`scale` does nothing for `type: text`"),
        ("{ name: a, type: u8, bit: 1 }", "goes with `at`"),
        ("{ name: a, type: u8, flags: { 8: x } }", "bit 8, which the number does not have"),
        ("{ name: a, type: u8, values: { x: y } }", "`x`, which is no whole number"),
        ("{ name: a, repeat: cuont, type: u8 }", "did you mean `count`?"),
        ("{ by: x, cases: { 1: [] } }", "no part before it has the name `x`"),
        ("{ cases: { 1: [] } }", "`cases` does not say by what"),
        ("{ name: 'a{count', type: u8 }", "a `{` without an end"),
        ("{ name: a, type: u8, scale: 0 }", "`scale` makes the same of every number"),
    ] {
        let text = format!(
            "format: binary\nbinary:\n  parts:\n    - {{ name: count, type: u8 }}\n    - {part}\n"
        );
        let found = format!("{:?}", configure(&decode(), &text).err());
        assert!(found.contains(says), "{part}: {found}");
    }
    for (text, says) in [
        ("format: cayenne_lpp", "can only be read"),
        ("format: [base64, json]", "`format` has `json` at the wrong end"),
        ("{ field: a, format: [json, gzip] }", "expected `base64` or `hex` as the last"),
        ("{ format: xml, xml: { root: '1' } }", "`1` is no name of an element"),
        (
            "{ format: binary, binary: { parts: [{ repeat: rest, parts: [{ name: a, type: u8 }] }] } }",
            "no list to write",
        ),
        ("{ format: json, zone: Europe/Berlin }", "`zone` does nothing"),
    ] {
        let found = format!("{:?}", configure(&encode(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: decode"));
}
