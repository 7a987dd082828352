//! The `filter` and `route` transforms: messages go on, or one way or another, by conditions.

use std::sync::Arc;

use forebay_sdk::{
    Configured, Emitter, Fields, Input, Node, Port, Problem, Settings, Site, Topics, Transform,
};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{condition::Condition, settings::output_names};

/// Passes on the messages for which a condition holds, as they came. The others are done with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterSettings {
    /// The condition, in the language of scripts: `msg.payload.power > 100`, `msg.topic.ends_with("/alarm")`.
    when: String,
}

/// Sends each message, as it came, to an output by conditions. One that fits none goes to the main
/// output.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteSettings {
    /// The outputs and their conditions, in this order: `high: msg.payload.power > 100`. Other nodes read
    /// them as `from: node.high`, and as `from: node` what no condition holds for.
    #[schemars(extend("minProperties" = 1))]
    routes: IndexMap<String, String>,
    /// How many outputs a message goes to.
    #[serde(default, rename = "match")]
    matching: Matching,
}

/// How many outputs a message goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matching {
    /// The first whose condition holds.
    #[default]
    First,
    /// Each whose condition holds.
    All,
}

impl Settings for FilterSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let (condition, found) = Condition::compile(&self.when, "when");
        problems.extend(found);
        Some(Filter(condition?))
    }
}

impl Settings for RouteSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        if self.routes.is_empty() {
            let label =
                "expected an output and its condition, such as `high: msg.payload.power > 100`";
            problems.push(Problem::new("routes", "`routes` is empty", label));
        }
        let names: Vec<String> = self.routes.keys().cloned().collect();
        problems.extend(output_names(&names, "routes", |index| format!("routes.{}", names[index])));
        let mut conditions = Vec::with_capacity(names.len());
        for (name, text) in &self.routes {
            let (condition, found) = Condition::compile(text, &format!("routes.{name}"));
            problems.extend(found);
            conditions.extend(condition);
        }
        let is_whole = conditions.len() == names.len();
        let (outputs, conditions) = (names.into(), conditions.into());
        is_whole.then_some(Route { outputs, conditions, matching: self.matching })
    }
}

struct Filter(Condition);

#[derive(Clone)]
struct Route {
    outputs: Arc<[String]>,
    conditions: Arc<[Condition]>,
    matching: Matching,
}

impl Configured for Filter {
    fn build(&self, site: Site) -> Node {
        Node::transform(Filtering { name: site.name, condition: self.0.clone() })
    }

    fn fields(&self) -> Fields {
        Fields::passing(self.0.reads())
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

impl Configured for Route {
    fn build(&self, site: Site) -> Node {
        Node::transform(Routing { name: site.name, route: self.clone() })
    }

    fn outputs(&self) -> Vec<String> {
        self.outputs.to_vec()
    }

    fn fields(&self) -> Fields {
        Fields::passing(self.conditions.iter().flat_map(Condition::reads))
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Filtering {
    name: Arc<str>,
    condition: Condition,
}

struct Routing {
    name: Arc<str>,
    route: Route,
}

impl Transform for Filtering {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        if self.condition.holds(&input.message, &self.name)? {
            out.emit(input.message);
        }
        Ok(())
    }
}

impl Transform for Routing {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Route { conditions, matching, .. } = &self.route;
        let mut ports = Vec::new();
        for (index, condition) in conditions.iter().enumerate() {
            if condition.holds(&input.message, &self.name)? {
                ports.push(Port::named(index));
                if *matching == Matching::First {
                    break;
                }
            }
        }
        let Some(last) = ports.pop() else {
            out.emit(input.message);
            return Ok(());
        };
        for port in ports {
            out.emit_to(port, input.message.clone());
        }
        out.emit_to(last, input.message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::{
        Message, NodeType, Payload,
        testing::{build, configure},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{filter, route};

    fn node(node_type: &dyn NodeType, text: &str) -> Box<dyn Transform> {
        match build(node_type, text, None) {
            Node::Transform(transform) => transform,
            _ => panic!("not a transform"),
        }
    }

    /// Where a message goes, or why nowhere.
    fn goes(node: &mut Box<dyn Transform>, message: &Message) -> Result<Vec<u16>, String> {
        let mut out = Emitter::default();
        let input = Input { message: message.clone(), from: "a".into() };
        node.apply(input, &mut out).map_err(|error| format!("{error:#}"))?;
        let sent = out.drain().map(|(port, envelope)| {
            let (left, came) = (&envelope.message.payload, &message.payload);
            assert_eq!(left.size_bytes(), came.size_bytes(), "as it came");
            port.0
        });
        Ok(sent.collect())
    }

    fn of(payload: Value) -> Message {
        Message::new("site/a/meter", payload)
    }

    #[test]
    fn messages_for_which_the_condition_holds_go_on() {
        for (condition, payload, holds) in [
            ("msg.payload.power > 100", json!({ "power": 100.5 }), true),
            ("msg.payload.power > 100", json!({ "power": 100 }), false),
            ("msg.payload.power > 100", json!({ "power": null }), false),
            ("msg.payload.power > 100", json!({}), false),
            ("msg.payload.power != ()", json!({}), false),
            ("msg.payload.power == ()", json!({}), true),
            (r#""power" in msg.payload"#, json!({ "power": null }), true),
            (r#"msg.topic.ends_with("/meter")"#, json!(5), true),
            (r#"msg.payload.state in ["on", "standby"]"#, json!({ "state": "on" }), true),
            ("msg.payload > 4 && msg.payload < 6", json!(5), true),
            ("!msg.payload.on", json!({ "on": false }), true),
        ] {
            let mut node = node(&filter(), &format!("when: '{}'", condition.replace('\'', "''")));
            let expected = if holds { vec![0] } else { vec![] };
            assert_eq!(
                goes(&mut node, &of(payload.clone())),
                Ok(expected),
                "{condition} {payload}"
            );
        }
    }

    #[test]
    fn what_passes_is_not_rewritten() {
        let text = r#"{"power":1E5,"big":123456789012345678901234567890}"#;
        let message = Message::new("a", Payload::encoded(text, forebay_sdk::Format::Json));
        let mut node = node(&filter(), "when: msg.payload.power > 1");
        let mut out = Emitter::default();
        node.apply(Input { message, from: "a".into() }, &mut out).unwrap();
        let (_, envelope) = out.drain().next().unwrap();
        assert_eq!(envelope.message.payload.json_text().unwrap().unwrap(), text);
    }

    #[test]
    fn a_condition_that_is_none_at_run_time_is_an_error_that_names_it() {
        for (condition, payload, says) in [
            ("msg.payload.power", json!({ "power": 5 }), "`when`: expected true or false, found a"),
            (
                "msg.payload.a.b > 1",
                json!({ "a": null }),
                "`when`: `msg.payload.a` is missing or null",
            ),
            (
                "msg.payload.a + 1 > 1",
                json!({}),
                "`when`: `msg.payload.a` is missing or null, so `+`",
            ),
        ] {
            let mut node = node(&filter(), &format!("when: {condition}"));
            let error = goes(&mut node, &of(payload)).unwrap_err();
            assert!(error.starts_with(says), "{condition}: {error}");
        }
    }

    #[test]
    fn a_message_goes_to_the_first_output_whose_condition_holds_or_to_all() {
        const ROUTES: &str = "routes: { high: msg.payload > 100, some: msg.payload > 10 }";
        let mut first = node(&route(), ROUTES);
        let mut all = node(&route(), &format!("{ROUTES}\nmatch: all"));
        for (payload, by_first, by_all) in
            [(200, vec![2], vec![2, 3]), (50, vec![3], vec![3]), (5, vec![0], vec![0])]
        {
            assert_eq!(goes(&mut first, &of(json!(payload))), Ok(by_first));
            assert_eq!(goes(&mut all, &of(json!(payload))), Ok(by_all));
        }
    }

    #[test]
    fn what_cannot_be_a_condition_says_what_would_be_right() {
        for (text, says) in [
            ("when: ''", "`condition` is empty"),
            ("when: power > 1", "a field of the payload is `msg.payload.power`"),
            ("when: mgs.payload > 1", "did you mean `msg`?"),
            ("when: msg.payload.power = 5", "`=` changes a value; `==` compares"),
            ("when: state.n > 1", "expected one expression"),
            ("when: let a = 5; a > 1", "expected one expression"),
            ("when: msg.payload >", "the script ends here"),
            ("when: msg.payload.includes(1)", "`x.includes(y)` is `y in x` here"),
        ] {
            let found = format!("{:?}", configure(&filter(), text).err());
            assert!(found.contains(says), "{text}: {found}");
        }
        for (text, says) in [
            ("routes: {}", "`routes` is empty"),
            ("routes: { errors: msg.payload > 1 }", "every node has this output"),
            ("routes: { a b: msg.payload > 1 }", "expected letters, digits"),
            ("routes: { a: msg.payload > 1, b: pwr }", "`msg.payload.pwr`"),
        ] {
            let found = format!("{:?}", configure(&route(), text).err());
            assert!(found.contains(says), "{text}: {found}");
        }
    }

    #[test]
    fn the_fields_that_a_condition_reads_are_known() {
        let configured = configure(&filter(), "when: msg.payload.power > 1").unwrap();
        let reads = configured.fields().reads;
        assert_eq!((&*reads[0].field, &*reads[0].setting), ("power", "when"));
    }
}
