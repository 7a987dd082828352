//! What can be asked, each at its path: one list, by which the server, its guard and the tests go.

use hyper::Method;

use super::page;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A part of the page for a browser.
    Page,
    /// Everything that is known.
    Status,
    /// Whether all is well.
    Health,
    /// What changes, as it changes.
    Events,
    /// The end of the log.
    Log,
    /// What a reload would do.
    Plan,
    /// Numbers, for programs that collect them.
    Metrics,
    /// What a file says of a node.
    Settings,
    /// What nodes sent last.
    History,
    /// The messages of a node as they pass.
    Tap,
    /// To look at the folder anew.
    Reload,
    /// To drop what waits in front of a sink.
    DropBuffer,
}

/// Beside the parts of the page.
const ROUTES: [(&str, Route); 11] = [
    ("/status", Route::Status),
    ("/health", Route::Health),
    ("/events", Route::Events),
    ("/log", Route::Log),
    ("/plan", Route::Plan),
    ("/metrics", Route::Metrics),
    ("/settings", Route::Settings),
    ("/history", Route::History),
    ("/tap", Route::Tap),
    ("/reload", Route::Reload),
    ("/drop-buffer", Route::DropBuffer),
];

/// All paths, with what stands there.
pub fn routes() -> impl Iterator<Item = (&'static str, Route)> {
    page::paths().map(|path| (path, Route::Page)).chain(ROUTES)
}

impl Route {
    pub(super) fn at(path: &str) -> Option<Route> {
        routes().find(|(known, _)| *known == path).map(|(_, route)| route)
    }

    /// Whether it changes something, so that no link may lead there.
    pub fn changes(self) -> bool {
        match self {
            Route::Reload | Route::DropBuffer => true,
            Route::Page
            | Route::Status
            | Route::Health
            | Route::Events
            | Route::Log
            | Route::Plan
            | Route::Metrics
            | Route::Settings
            | Route::History
            | Route::Tap => false,
        }
    }

    pub(super) fn method(self) -> Method {
        if self.changes() { Method::POST } else { Method::GET }
    }

    /// Whether it is told to whoever is on this machine, also where no token is set.
    pub(super) fn is_numbers(self) -> bool {
        matches!(self, Route::Health | Route::Metrics)
    }
}
