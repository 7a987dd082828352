//! The page for a browser, in this program. Whatever it shows it asks for like everybody else: `page/page.js` begins
//! with how.

/// A file of the page.
pub(super) struct Part {
    path: &'static str,
    /// Its media type.
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

/// It loads nothing of anybody else, and nobody else shows it in a page of theirs.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const PARTS: [Part; 4] = [
    Part { path: "/", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    Part {
        path: "/page.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("page/page.js"),
    },
    Part {
        path: "/page.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("page/page.css"),
    },
    Part { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("page/icon.svg") },
];

/// Where they stand.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|part| part.path)
}

/// What stands at a path.
pub(super) fn part(path: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.path == path)
}
