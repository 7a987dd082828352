//! The verbs of whoever writes pipelines, one file each. A program for a router alone can do without them.

mod again;
mod demo;
mod fmt;
mod folder;
mod graph;
mod import;
pub mod kinds;
mod lint;
mod new;
pub mod nodes;
mod replay;
pub mod schema;
mod script;
mod test;

use clap::Subcommand;

use super::output::Ending;

#[derive(Subcommand)]
pub(super) enum Verb {
    Lint(lint::Arguments),
    Test(test::Arguments),
    Fmt(fmt::Arguments),
    Graph(graph::Arguments),
    Nodes(nodes::Arguments),
    New(new::Arguments),
    Schema(schema::Arguments),
    Script(script::Arguments),
    Replay(replay::Arguments),
    Import(import::Arguments),
    Demo(demo::Arguments),
}

pub(super) fn do_verb(verb: Verb) -> anyhow::Result<Ending> {
    match verb {
        Verb::Lint(arguments) => lint::lint(arguments),
        Verb::Test(arguments) => test::test(arguments),
        Verb::Fmt(arguments) => fmt::fmt(arguments),
        Verb::Graph(arguments) => graph::graph(arguments),
        Verb::Nodes(arguments) => nodes::nodes(arguments),
        Verb::New(arguments) => new::new(arguments),
        Verb::Schema(arguments) => schema::schema(arguments),
        Verb::Script(arguments) => script::script(arguments),
        Verb::Replay(arguments) => replay::replay(arguments),
        Verb::Import(arguments) => import::import(arguments),
        Verb::Demo(arguments) => demo::demo(arguments),
    }
}
