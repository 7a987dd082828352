//! Looks at a chip and the lines that nodes want, for `forebay doctor`. It takes none and switches none.

use forebay_sdk::Examination;

use crate::{
    line::{ChipName, Found, LineId},
    sink::GpioSink,
    source::GpioSource,
};

/// Looks at what can go wrong between here and the lines of a chip.
pub async fn examine(name: &ChipName, asked: &Examination<'_>) {
    let world = &asked.site.world;
    let chip = match name.find(world).await {
        Ok(chip) => chip,
        Err(error) => {
            return asked.wrong("chip", format!("{error:#}"), "name one that is there in `chip`");
        }
    };
    asked.fine(
        "chip",
        format!("{} is there: `{}`, {} lines", chip.name, chip.label, chip.lines.len()),
    );
    let wanted = asked.users.iter().flat_map(|(node, settings)| {
        let source = settings.downcast_ref::<GpioSource>();
        let sink = settings.downcast_ref::<GpioSink>();
        let inputs = source
            .into_iter()
            .flat_map(|source| source.inputs.iter().map(|it| (&*it.name, &it.line)));
        let outputs =
            sink.into_iter().flat_map(|sink| sink.outputs.iter().map(|it| (&*it.name, &it.line)));
        inputs.chain(outputs).map(move |(name, line)| (*node, name, line))
    });
    let wanted: Vec<(&str, &str, &LineId)> = wanted.collect();
    for (node, name, line) in &wanted {
        let what = format!("`{name}`");
        match Found::on(&chip, line) {
            Ok(found) => match &chip.lines[found.number as usize].holder {
                None => asked.fine(what, format!("{} is free for {node}", found.title)),
                Some(holder) if holder.starts_with("forebay ") => {
                    asked.fine(what, format!("{} is in use by `{holder}`", found.title));
                }
                Some(holder) => {
                    let holder = crate::line::in_words(holder);
                    let seen = format!("{} is in use by {holder}", found.title);
                    asked.wrong(what, seen, "a line has one holder: free it there, or use another");
                }
            },
            Err(error) => {
                asked.wrong(what, format!("{error:#}"), "`gpioinfo` shows the lines of a chip")
            }
        }
    }
    if wanted.is_empty() {
        let lines = chip.lines.iter().enumerate().filter(|(_, line)| !line.name.is_empty());
        for (at, line) in lines {
            let way = if line.is_output { "output" } else { "input" };
            let holder = line.holder.as_deref().map_or("free".to_owned(), |holder| {
                format!("in use by {}", crate::line::in_words(holder))
            });
            asked.fine(format!("line {at}"), format!("`{}`, {way}, {holder}", line.name));
        }
    }
}
