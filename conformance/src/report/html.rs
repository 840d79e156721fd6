//! `index.html`: one page that needs nothing else, for people.
//!
//! Everything a plugin said is escaped. Without JavaScript the page is complete; with it the table can be filtered.

use std::fmt::Write as _;

use super::formats::{details, plain};
use super::matrix::{Cell, Matrix};
use super::{Report, State, Verdict};
use crate::case::Level;

/// The page.
pub fn page(report: &Report) -> String {
    let (subject, plan) = (&report.subject, &report.plan);
    let tone = match report.verdict {
        Verdict::Conformant => "good",
        Verdict::NonConformant => "bad",
        _ => "open",
    };
    let mut page = String::with_capacity(1 << 20);
    let title = format!("{} {}", escape(&subject.backend), escape(&subject.version));
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>{title}: {verdict}</title><style>{STYLE}</style><main><header class={tone}><p>Camelid conformance, suite {suite}\
         </p><h1>{title} is {verdict}</h1><p>{device} &middot; {way} &middot; {planned} of {total} cases in {seconds:.1} s \
         &middot; {os} {arch} &middot; {started}</p><ul class=counts>",
        verdict = report.verdict.told(),
        suite = escape(&plan.suite),
        device = escape(&subject.device),
        way = escape(&subject.way),
        planned = plan.planned,
        total = plan.total,
        seconds = report.seconds,
        os = escape(&report.machine.os),
        arch = escape(&report.machine.arch),
        started = escape(report.started.get(..16).unwrap_or(&report.started)).replace('T', " "),
    );
    for state in State::ALL {
        let count = report.totals.get(&state).copied().unwrap_or(0);
        if count > 0 {
            let _ = write!(page, "<li class={state}><b>{count}</b> {state}");
        }
    }
    page.push_str("</ul></header>");
    for error in &report.errors {
        let _ = write!(page, "<p class=error>{}</p>", escape(error));
    }
    scores(&mut page, report);
    failures(&mut page, report);
    matrix(&mut page, report);
    margins(&mut page, report);
    table(&mut page, report);
    let _ =
        write!(page, "<footer>suite digest {}</footer></main><script>{SCRIPT}</script></html>", escape(&plan.digest));
    page
}

fn scores(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Profiles</h2><div class=scores>");
    for score in report.scores() {
        let part = 100.0 * score.passed as f64 / score.required.max(1) as f64;
        let claimed = if score.claimed { "claimed" } else { "not claimed" };
        let _ = write!(
            page,
            "<div><b>{}</b> <small>{claimed}</small><div class=bar><i style='width:{part:.1}%'></i></div>{} of {} pass, {} \
             unsupported</div>",
            score.profile, score.passed, score.required, score.unsupported
        );
    }
    page.push_str("</div></section>");
}

fn failures(page: &mut String, report: &Report) {
    let failed: Vec<_> = report.cases.iter().filter(|c| c.state.is_failure() || c.state == State::Blocked).collect();
    if failed.is_empty() {
        return;
    }
    let _ = write!(page, "<section><h2>{} failures</h2>", failed.len());
    for (i, case) in failed.iter().take(200).enumerate() {
        let open = if i < 5 { " open" } else { "" };
        let _ = write!(
            page,
            "<details{open}><summary><span class='tag {0}'>{0}</span> <code>{1}</code></summary><pre>{2}</pre></details>",
            case.state,
            escape(&case.id),
            escape(&details(case))
        );
    }
    if failed.len() > 200 {
        let _ = write!(page, "<p>and {} more, in the table below</p>", failed.len() - 200);
    }
    page.push_str("</section>");
}

fn matrix(page: &mut String, report: &Report) {
    let matrix = Matrix::new(report);
    page.push_str("<section><h2>What is supported</h2>");
    if !matrix.ops.is_empty() {
        let types = matrix.types();
        page.push_str("<div class=scroll><table class=matrix><thead><tr><th>operation");
        for name in &types {
            let _ = write!(page, "<th><span>{}</span>", escape(name));
        }
        page.push_str("<tbody>");
        for (op, row) in &matrix.ops {
            let _ = write!(page, "<tr><th>{}", escape(op));
            for name in &types {
                match row.get(*name) {
                    Some(cell) => square(page, *cell, &format!("op/{op}/{name}/")),
                    None => page.push_str("<td>"),
                }
            }
        }
        page.push_str("</table></div>");
    }
    if !matrix.groups.is_empty() {
        page.push_str("<div class=groups>");
        for level in Level::ALL {
            let row: Vec<_> = matrix.groups.iter().filter(|((l, _), _)| *l == level).collect();
            if row.is_empty() {
                continue;
            }
            let _ = write!(page, "<div><h3>{level}</h3><table class=matrix><tbody>");
            for ((_, group), cell) in row {
                let _ = write!(page, "<tr><th>{}", escape(group));
                square(page, *cell, &format!("{level}/{group}/"));
            }
            page.push_str("</table></div>");
        }
        page.push_str("</div>");
    }
    page.push_str(
        "<p class=legend><i class=pass></i> all pass <i class=part></i> partly unsupported <i class=unsupported></i> \
         unsupported <i class=fail></i> failures</p></section>",
    );
}

fn square(page: &mut String, cell: Cell, prefix: &str) {
    let class = match cell {
        Cell { failed: 1.., .. } | Cell { other: 1.., .. } => "fail",
        Cell { unsupported: 0, .. } => "pass",
        Cell { passed: 0, .. } => "unsupported",
        _ => "part",
    };
    let (prefix, total) = (escape(prefix), cell.total());
    let _ = write!(
        page,
        "<td class={class}><a href='#cases' data-find='{prefix}' title='{prefix}: {} of {total} pass, {} unsupported, {} \
         fail'>{}</a>",
        cell.passed,
        cell.unsupported,
        cell.failed,
        if cell.passed == 0 { total } else { cell.passed }
    );
}

/// One dot a case: its smallest margin on a logarithmic scale; left of 1 is a failure.
fn margins(page: &mut String, report: &Report) {
    const WIDTH: f64 = 1000.0;
    const LANE: f64 = 46.0;
    const LEFT: f64 = 90.0;
    let (low, high) = (-2.0, 8.0);
    let x = |margin: f64| {
        let log = if margin > 0.0 { margin.log10().clamp(low, high) } else { low };
        LEFT + (log - low) / (high - low) * (WIDTH - LEFT - 20.0)
    };
    let levels: Vec<Level> = Level::ALL
        .into_iter()
        .filter(|l| report.cases.iter().any(|c| c.level == *l && c.margin().is_some_and(f64::is_finite)))
        .collect();
    if levels.is_empty() {
        return;
    }
    let height = LANE * levels.len() as f64 + 34.0;
    let _ = write!(
        page,
        "<section><h2>Margins</h2><p>How many times larger the error could be: a dot a case. Left of the line it fails.</p>\
         <div class=scroll><svg viewBox='0 0 {WIDTH} {height}' role=img aria-label='margins of all cases by level'>"
    );
    for power in -2..=8 {
        let at = x(10f64.powi(power));
        let class = if power == 0 { "one" } else { "grid" };
        let bottom = height - 28.0;
        let label = match power {
            8 => "10\u{2078}+".to_owned(),
            0 => "1".to_owned(),
            p if p < 0 => format!("1/{}", 10i64.pow(p.unsigned_abs())),
            p => format!("{}", 10i64.pow(p.unsigned_abs())),
        };
        let _ = write!(
            page,
            "<line class={class} x1={at:.1} x2={at:.1} y1=4 y2={bottom} /><text x={at:.1} y={:.0} text-anchor=middle>{label}</text>",
            height - 10.0
        );
    }
    for (lane, level) in levels.iter().enumerate() {
        let middle = LANE * (lane as f64 + 0.5) + 4.0;
        let _ = write!(page, "<text x=4 y={:.0}>{level}</text>", middle + 4.0);
        let cases = report.cases.iter().filter(|c| c.level == *level);
        for (i, (case, margin)) in cases.filter_map(|c| Some((c, c.margin()?))).enumerate() {
            // Spread over the lane so that dots of one margin stay apart.
            let y = middle + ((i * 37 % 29) as f64 - 14.0) * 1.2;
            let class = if case.state.is_failure() { "bad" } else { "ok" };
            let _ = write!(
                page,
                "<circle class={class} cx={:.1} cy={y:.1} r=3><title>{}: {margin:.3}</title></circle>",
                x(margin),
                escape(&case.id)
            );
        }
    }
    page.push_str("</svg></div></section>");
}

fn table(page: &mut String, report: &Report) {
    page.push_str(
        "<section id=cases><h2>Cases</h2><p class=tools><input id=find type=search placeholder='find in ids and messages' \
         aria-label='find'> <select id=state aria-label='state'><option value=''>every state",
    );
    for state in State::ALL {
        let _ = write!(page, "<option>{state}");
    }
    page.push_str(
        "</select> <span id=shown></span></p><div class=scroll><table class=cases><thead><tr><th>state<th>case<th>margin<th>ms\
         <th>message<tbody>",
    );
    for case in &report.cases {
        let margin = match case.margin() {
            Some(m) if m.is_finite() => format!("{m:.1}"),
            Some(_) => "exact".to_owned(),
            None => String::new(),
        };
        let mut message = case.message.clone();
        for note in &case.notes {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str(note);
        }
        let _ = write!(
            page,
            "<tr data-s={0}><td><span class='tag {0}'>{0}</span><td><code>{1}</code><td class=n>{margin}<td class=n>{2:.0}<td>{3}",
            case.state,
            escape(&case.id),
            case.ms,
            escape(&message)
        );
    }
    page.push_str("</table></div></section>");
}

/// Text as HTML takes it, anywhere.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
