//! The owner of a chip: it looks for it, holds its outputs, and notices when it goes away.

use std::{convert::Infallible, sync::Arc};

use forebay_sdk::{
    Capabilities, Configured, Connection, Examination, Node, Shared, Site, Voice,
    world::gpio::GpioChip,
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::time::{Instant, sleep_until};

use crate::{
    chip::{Chip, ChipSettings, LOOK_EVERY, State},
    examine::examine,
};

impl Configured for ChipSettings {
    fn build(&self, site: Site) -> Node {
        let chip = Arc::new(Chip::new(self.chip.clone(), site.world));
        Node::connection(Shared::new(Arc::clone(&chip)), Owner(chip))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { is_near: true, ..Capabilities::default() }
    }

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        Some(examine(&self.chip, asked).boxed_local())
    }
}

struct Owner(Arc<Chip>);

impl Connection for Owner {
    /// Looks for the chip, and keeps its outputs until it goes away.
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let chip = &*self.0;
        let error = match chip.name.find(&chip.world).await {
            Ok(found) => {
                voice.ready();
                match serve(chip, Arc::new(found), voice).await {
                    Ok(never) => match never {},
                    Err(error) => error.context(format!("{} is gone", chip.name)),
                }
            }
            Err(error) => error,
        };
        chip.state.send_replace(State::Away(format!("{error:#}").into()));
        chip.outputs.forget();
        Err(error)
    }

    async fn close(&mut self) {
        self.0.outputs.close();
    }
}

/// Returns once the chip is gone.
async fn serve(chip: &Chip, found: Arc<GpioChip>, voice: &Voice) -> anyhow::Result<Infallible> {
    let mut look_at = Instant::now() + LOOK_EVERY;
    loop {
        chip.outputs.take(&found, &chip.world, voice).await?;
        chip.outputs.switch(voice)?;
        chip.state.send_replace(State::There(Arc::clone(&found)));
        let due = chip.outputs.due().map_or(look_at, |due| due.min(look_at));
        tokio::select! {
            biased;
            () = chip.changed.notified() => (),
            () = chip.lost.notified() => anyhow::bail!("a line of it says so"),
            () = sleep_until(due) => (),
        }
        if look_at <= Instant::now() {
            chip.outputs.look()?;
            look_at = Instant::now() + LOOK_EVERY;
        }
    }
}
