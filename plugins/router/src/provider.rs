//! How a router is asked, and how that is found out.

use anyhow::anyhow;
use forebay_sdk::{World, connection::Refused, tls::Tls};
use serde_json::Value;
use tracing::info;

use crate::{
    counters::Asked,
    group::{Group, Part},
    linux::{self, Linux},
    place::Place,
    router::{Router, Speaks},
    rutos::{self, Absent, ActFailure, Answers, Rutos},
    ubus::{self, Ubus},
    web::Web,
};

/// A router that is asked in some way.
pub enum Provider {
    Rutos(Box<Rutos>),
    Ubus(Box<Ubus>),
    Linux(Linux),
}

impl Provider {
    /// Logs in, where that is needed and not done.
    pub async fn enter(&mut self) -> anyhow::Result<()> {
        match self {
            Provider::Rutos(rutos) => rutos.enter().await,
            Provider::Ubus(ubus) => ubus.enter().await,
            Provider::Linux(_) => Ok(()),
        }
    }

    pub async fn read(&mut self, parts: &[Part]) -> anyhow::Result<Answers> {
        match self {
            Provider::Rutos(rutos) => rutos.read(parts).await,
            Provider::Ubus(ubus) => ubus.read(parts).await,
            Provider::Linux(linux) => Ok(linux.read(parts).await),
        }
    }

    /// What the router has on record of a SIM: rows of a time, bytes down and bytes up. None when it has none, now or ever.
    pub async fn record(&mut self, asked: &Asked) -> Result<Option<Value>, ActFailure> {
        match self {
            Provider::Rutos(rutos) => rutos.record(asked).await,
            Provider::Ubus(ubus) => ubus.record(asked).await,
            Provider::Linux(_) => Ok(None),
        }
    }

    /// Says good-bye, so that no session stays behind.
    pub async fn leave(&mut self) {
        match self {
            Provider::Rutos(rutos) => rutos.leave().await,
            Provider::Ubus(ubus) => ubus.leave().await,
            Provider::Linux(_) => (),
        }
    }
}

impl Router {
    /// How this router is asked.
    pub async fn find(&self, world: &World, certificates: &Tls) -> anyhow::Result<Provider> {
        let linux = || Provider::Linux(Linux::new(world.clone(), self.root.clone()));
        let Some(place) = &self.place else {
            return match linux::is_here(world, &self.root).await {
                true => Ok(linux()),
                false => Err(Refused::new(format!(
                    "{} does not show `proc/uptime`: `root` is where the root of the machine is mounted",
                    self.root.display()
                ))
                .into()),
            };
        };
        let web = || self.web(world, place, certificates);
        let (name, password) = (&self.username, &self.password);
        let speaks = match self.speaks {
            Speaks::Auto => {
                let Some(found) = recognise(&mut web()).await? else {
                    return Err(Refused::new(format!(
                        "{place} answers, and neither as RutOS at /api nor as ubus at /ubus"
                    ))
                    .into());
                };
                info!(%place, provider = found.name(), "found out how to ask the router");
                found
            }
            known => known,
        };
        Ok(match speaks {
            Speaks::Ubus => {
                Provider::Ubus(Box::new(Ubus::new(web(), name.clone(), password.clone())))
            }
            Speaks::Linux => linux(),
            Speaks::Auto | Speaks::Rutos => {
                Provider::Rutos(Box::new(Rutos::new(web(), name.clone(), password.clone())))
            }
        })
    }

    /// Asks its web server.
    pub fn web(&self, world: &World, place: &Place, certificates: &Tls) -> Web {
        Web::new(world.clone(), place.clone(), certificates.clone(), self.timeout)
    }
}

/// What a web server speaks, without logging in.
pub async fn recognise(web: &mut Web) -> anyhow::Result<Option<Speaks>> {
    if rutos::is_here(web).await? {
        return Ok(Some(Speaks::Rutos));
    }
    Ok(ubus::is_here(web).await?.then_some(Speaks::Ubus))
}

/// Why a group has nothing to say.
pub fn why_absent(group: Group, answers: &Answers) -> anyhow::Error {
    let first = group.parts().first().and_then(|part| answers.get(part));
    match first {
        Some(Err(Absent::Lasting(why) | Absent::Now(why))) => anyhow!("{why}"),
        Some(Ok(_)) | None => anyhow!("the router says nothing of it"),
    }
}
