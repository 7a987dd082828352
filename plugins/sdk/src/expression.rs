//! Expressions in settings, such as `msg.payload.volts * msg.payload.amps`. One plugin knows their language, others
//! have settings in it, and plugins do not know each other: between them stands [`Expressions`].

use std::sync::{Arc, OnceLock};

use crate::{facts::FieldRead, message::Message, payload::Value, settings::Problem};

/// A language of expressions.
pub trait Expressions: Send + Sync {
    /// Reads an expression. What is wrong with it is reported with its place in `setting`.
    fn compile(
        &self,
        text: &str,
        setting: &str,
        gives: Gives,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<dyn Expression>>;
}

/// What an expression is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// True or false.
    Truth,
    /// Any value.
    Value,
}

/// An expression, compiled.
pub trait Expression: Send + Sync {
    /// What it gives for a message of a node.
    ///
    /// # Errors
    ///
    /// When it computes with what is missing, takes too long, or gives what JSON has no form for.
    fn value(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<Value>;

    /// Whether it holds for a message of a node.
    ///
    /// # Errors
    ///
    /// The same, and when it gives neither true nor false.
    fn holds(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<bool>;

    /// The fields that it reads.
    fn reads(&self) -> Vec<FieldRead>;

    /// Whether it reads the time of the message.
    fn reads_time(&self) -> bool;
}

/// That of this build. It is one for all, as settings are read in too many places to hand it to each.
static LANGUAGE: OnceLock<&'static dyn Expressions> = OnceLock::new();

/// Makes the language of this build known. The first one stays.
pub fn learn(language: &'static dyn Expressions) {
    LANGUAGE.get_or_init(|| language);
}

/// Reads an expression in the language of this build. What is wrong with it is reported with its place in
/// `setting`.
pub fn compile(
    text: &str,
    setting: &str,
    gives: Gives,
    problems: &mut Vec<Problem>,
) -> Option<Arc<dyn Expression>> {
    let Some(language) = LANGUAGE.get() else {
        let message =
            format!("`{setting}` is an expression, and this build knows no language of such");
        problems.push(Problem::new(setting, message, "needs the plugin `script`"));
        return None;
    };
    language.compile(text, setting, gives, problems)
}
