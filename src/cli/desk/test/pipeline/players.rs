//! Those who play the other sides, as the plugins offer them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use forebay_sdk::{
    Finding, Span,
    peer::{Played, Stage},
    world::memory::Memory,
};
use forebay_yaml::Yaml;

use super::{
    case::Test,
    scene::{Member, Scene},
};
use crate::config::Name;

/// 2026-01-01T00:00:00Z, as in the tests of plugins.
pub const BEGIN_NANOS: i64 = 1_767_225_600_000_000_000;

/// Says what is wrong with what the other sides are told, without a run.
pub fn rehearse(test: &Test, findings: &mut Vec<Finding>) {
    let memory = Memory::new(BEGIN_NANOS);
    let mut players = Players::new(&test.scene, &memory, Path::new("."), 0);
    for said in test.world.iter().chain(test.steps.iter().flat_map(|step| &step.world)) {
        if let (Some(told), Some(player)) = (&said.told, players.played.get_mut(&said.member)) {
            player.tell(told, findings);
        }
    }
}

/// Those who play the other sides.
pub struct Players {
    /// By the names of the members.
    pub played: BTreeMap<Name, Box<dyn Played>>,
}

impl Players {
    /// Who plays in a world. Nobody answers yet.
    pub fn new(scene: &Scene, memory: &Memory, data: &Path, seed: u64) -> Players {
        let mut played = BTreeMap::new();
        for (number, (name, member)) in (1..).zip(&scene.members) {
            let Member::Peer { peer, connection, users } = member else { continue };
            let stage = Stage {
                connection: Arc::clone(connection),
                users: users.clone(),
                memory: memory.clone(),
                places: member.places(),
                address: SocketAddr::from(([127, 88, 0, 1], number)),
                data: data.join("peers").join(number.to_string()),
                seed,
            };
            let mut player = (peer.play)(stage);
            // As it is unless somebody says otherwise.
            player.tell(&Yaml::empty_map(Span::new(0, 0..0)), &mut Vec::new());
            played.insert(Arc::clone(name), player);
        }
        Players { played }
    }
}
