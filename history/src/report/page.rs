//! HTML piece by piece: whatever comes from a history is escaped, because it has no other way in.

use std::fmt::{self, Display, Write};

use crate::check::{Judgement, Verdict};

/// The page so far.
pub(super) struct Page(String);

/// Escapes what is written to it.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Control characters have no place in HTML, and a stray one ends an attribute in some readers.
                c if c.is_control() && c != '\n' => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Page {
    /// The head, up to the opened body.
    pub(super) fn new(verdict: &Verdict) -> Self {
        let mut page = Self(String::with_capacity(256 << 10));
        page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
        page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
        page.text(format_args!("{} – {}", verdict.judgement(), title(verdict)));
        page.raw("</title>\n<style>").raw(STYLE).raw("</style></head>\n<body><main>\n");
        page
    }

    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text or an attribute's value, escaped.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        write!(Escaping(&mut self.0), "{text}").expect("a string takes everything");
        self
    }

    /// A number in an SVG: one decimal.
    pub(super) fn number(&mut self, number: f64) -> &mut Self {
        write!(self.0, "{number:.1}").expect("a string takes everything");
        self
    }

    /// Opens a section with a heading.
    pub(super) fn section(&mut self, heading: &'static str) {
        self.raw("<section><h2>").raw(heading).raw("</h2>\n");
    }

    /// Closes it.
    pub(super) fn end_section(&mut self) {
        self.raw("</section>\n");
    }

    /// Opens a drawing of this height; all share one width.
    pub(super) fn drawing(&mut self, height: f64, label: &'static str) {
        self.raw("<svg viewBox=\"0 0 ").number(super::scale::WIDTH).raw(" ").number(height);
        self.raw("\" role=\"img\" aria-label=\"").raw(label).raw("\">\n");
    }

    /// Closes it.
    pub(super) fn end_drawing(&mut self) {
        self.raw("</svg>\n");
    }

    /// A label: `class` says where it is anchored.
    pub(super) fn label(&mut self, x: f64, y: f64, class: &'static str, text: impl Display) {
        self.raw("<text x=\"").number(x).raw("\" y=\"").number(y).raw("\" class=\"").raw(class).raw("\">");
        self.text(text).raw("</text>\n");
    }

    /// A straight line.
    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &'static str) {
        self.raw("<line x1=\"").number(x1).raw("\" y1=\"").number(y1).raw("\" x2=\"").number(x2);
        self.raw("\" y2=\"").number(y2).raw("\" class=\"").raw(class).raw("\"/>\n");
    }

    /// The whole.
    pub(super) fn finish(mut self) -> String {
        self.raw("</main></body></html>\n");
        self.0
    }
}

/// What the run is called.
pub(super) fn title(verdict: &Verdict) -> &str {
    verdict.begin.as_ref().map_or("a history without a beginning", |begin| begin.title.as_str())
}

/// The class that colours a judgement.
pub(super) fn judgement_class(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Pass => "pass",
        Judgement::Fail => "fail",
        Judgement::Inconclusive => "open",
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--ink:#1d2126;--soft:#5c6570;--line:#dcdfe3;--grid:#e9ebee;
--pass:#18794e;--fail:#c62a2f;--open:#a35200;--acks:#1f6feb;--reads:#d97706;--p50:#0d9488;--p99:#9333ea;
--k0:#d1495b;--k1:#2a6f97;--k2:#e09f3e;--k3:#7b5ea7;--k4:#4d908e;--k5:#9c6644;--k6:#e07fb0;--k7:#6c757d}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e6e8eb;--soft:#9aa4af;--line:#343a42;
--grid:#282e35;--pass:#3dd68c;--fail:#ff6b6f;--open:#ffa94d;--acks:#6ca8ff;--reads:#fbbf24;--p50:#2dd4bf;--p99:#c084fc;
--k0:#f07685;--k1:#5aa9d6;--k2:#f2c14e;--k3:#b39ddb;--k4:#7fc8c4;--k5:#c9a27e;--k6:#f4a9cc;--k7:#a6adb5}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:14px/1.45 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:15px;margin:0 0 10px}h3{font-size:13px;margin:14px 0 4px;font-weight:600}
header{display:flex;gap:16px;align-items:flex-start;margin-bottom:18px}
.badge{color:var(--bg);font-weight:700;letter-spacing:.04em;padding:6px 14px;border-radius:8px;font-size:18px;white-space:nowrap}
.badge.pass{background:var(--pass)}.badge.fail{background:var(--fail)}.badge.open{background:var(--open)}
.meta{color:var(--soft)}.meta b{color:var(--ink);font-weight:600}.meta span{margin-right:16px;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(184px,1fr));gap:10px;margin-bottom:14px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px}
.tile b{display:block;font-size:19px;white-space:nowrap;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:12px}
.tile.bad b{color:var(--fail)}.tile.good b{color:var(--pass)}
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin-bottom:14px}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:11px;font-family:inherit}
text.end{text-anchor:end}text.middle{text-anchor:middle}text.strong{fill:var(--ink);font-weight:600}
.grid{stroke:var(--grid)}.axis{stroke:var(--line)}.lane{fill:var(--grid);opacity:.55}.hit{fill:var(--fail);opacity:.07}
.acks{fill:none;stroke:var(--acks);stroke-width:1.6}.reads{fill:none;stroke:var(--reads);stroke-width:1.6}
.p50{fill:none;stroke:var(--p50);stroke-width:1.6}.p99{fill:none;stroke:var(--p99);stroke-width:1.6}
.failed{fill:var(--fail);opacity:.8}.mark{stroke:var(--ink);stroke-width:2}
.k0{fill:var(--k0)}.k1{fill:var(--k1)}.k2{fill:var(--k2)}.k3{fill:var(--k3)}.k4{fill:var(--k4)}.k5{fill:var(--k5)}.k6{fill:var(--k6)}.k7{fill:var(--k7)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--soft);font-size:12px;margin:2px 0 4px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.legend .l-acks{background:var(--acks)}.legend .l-reads{background:var(--reads)}.legend .l-p50{background:var(--p50)}
.legend .l-p99{background:var(--p99)}.legend .l-failed{background:var(--fail)}
.legend .k0{background:var(--k0)}.legend .k1{background:var(--k1)}.legend .k2{background:var(--k2)}.legend .k3{background:var(--k3)}
.legend .k4{background:var(--k4)}.legend .k5{background:var(--k5)}.legend .k6{background:var(--k6)}.legend .k7{background:var(--k7)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:500;font-size:12px;text-align:left;border-bottom:1px solid var(--line);padding:4px 10px 4px 0}
td{border-bottom:1px solid var(--grid);padding:5px 10px 5px 0;vertical-align:top}td.n,th.n{text-align:right}
tr:last-child td{border-bottom:0}td.bad{color:var(--fail);font-weight:600}td.zero{color:var(--soft)}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:0 36px;align-items:start}
details summary{cursor:pointer}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;margin:6px 0;color:var(--soft)}
.note{color:var(--soft);margin:0 0 8px}";
