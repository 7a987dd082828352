//! What a router can be told to do. Each is done once at most.

use anyhow::{anyhow, bail};
use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    figures::{Figures, truth},
    modem,
    rutos::{ActFailure, Rutos},
};

/// Longer texts are cut into several messages, each of which costs.
pub const LONGEST_TEXT: usize = 1000;

/// A kind of action, as settings name it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sets an output.
    Output,
    /// Sends a text message.
    Sms,
    /// Restarts the router.
    Reboot,
    /// Makes another SIM the one that is used.
    Sim,
}

impl Kind {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Output => "output",
            Kind::Sms => "sms",
            Kind::Reboot => "reboot",
            Kind::Sim => "sim",
        }
    }
}

/// One thing to do, of which all was checked that can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The output of this name, such as `dout1` or `relay0`.
    Output {
        name: String,
        on: bool,
    },
    Sms {
        to: String,
        text: String,
    },
    Reboot,
    /// The SIM in this slot, from 1.
    Sim {
        slot: u64,
    },
}

impl Action {
    pub fn kind(&self) -> Kind {
        match self {
            Action::Output { .. } => Kind::Output,
            Action::Sms { .. } => Kind::Sms,
            Action::Reboot => Kind::Reboot,
            Action::Sim { .. } => Kind::Sim,
        }
    }

    /// What was done, for logs and answers. The text of a message is not shown.
    pub fn value(&self) -> Value {
        match self {
            Action::Output { name, on } => {
                json!({ "action": "output", "output": name, "value": on })
            }
            Action::Sms { to, .. } => json!({ "action": "sms", "to": to }),
            Action::Reboot => json!({ "action": "reboot" }),
            Action::Sim { slot } => json!({ "action": "sim", "sim": slot }),
        }
    }

    /// Has a router do it.
    pub async fn carry_out(&self, router: &mut Rutos) -> Result<(), ActFailure> {
        let (method, path, body) = match self {
            Action::Output { name, on } => {
                let path = format!("/api/io/{name}/actions/change_state");
                // A relay has a state where the others have a value.
                let body = match (name.starts_with("relay"), on) {
                    (true, true) => json!({ "state": "closed" }),
                    (true, false) => json!({ "state": "open" }),
                    (false, _) => json!({ "value": if *on { "1" } else { "0" } }),
                };
                (Method::POST, path, Some(body))
            }
            Action::Sms { to, text } => {
                let modem = chosen_modem(router).await?;
                let body = json!({ "modem": modem, "number": to, "message": text });
                (Method::POST, "/api/messages/actions/send".to_owned(), Some(body))
            }
            Action::Reboot => (Method::POST, "/api/system/actions/reboot".to_owned(), None),
            Action::Sim { slot } => {
                let (path, body) = sim_card(router, *slot).await?;
                (Method::PUT, path, Some(body))
            }
        };
        let body = body.map(|body| json!({ "data": body }));
        router.act(method, &path, body.as_ref()).await.map(|_| ())
    }
}

async fn chosen_modem(router: &mut Rutos) -> Result<String, ActFailure> {
    let modems = router.look("/api/modems/status").await?;
    let refuse = || ActFailure::Refused(anyhow!("the router has no modem that could send it"));
    Ok(modem::name(modem::chosen(&modems).ok_or_else(refuse)?))
}

/// Where the SIM of a slot is made the one to use.
async fn sim_card(router: &mut Rutos, slot: u64) -> Result<(String, Value), ActFailure> {
    let modem = chosen_modem(router).await?;
    let cards = router.look("/api/sim_cards/config").await?;
    let is_it = |card: &&Value| {
        let card = Figures::of(card);
        card.count(&["position"]) == Some(slot)
            && card.text(&["modem"]).is_none_or(|of| of == modem)
    };
    let card = cards.as_array().and_then(|cards| cards.iter().find(is_it));
    let refuse = || ActFailure::Refused(anyhow!("the router has no SIM {slot}"));
    let id = card.and_then(|card| Figures::of(card).text(&["id"])).ok_or_else(refuse)?;
    let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    Ok((format!("/api/sim_cards/config/{id}"), json!({ "id": id, "primary": "1" })))
}

/// True and false as payloads say it.
pub fn on_or_off(value: &Value) -> anyhow::Result<bool> {
    match truth(value) {
        Some(on) => Ok(on),
        None => bail!("expected true or false, found {value}"),
    }
}
