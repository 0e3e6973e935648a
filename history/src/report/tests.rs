//! The report: escaping, and that what it shows is what was found.

use std::time::Duration;

use super::*;
use crate::check::{Kind, Options, check_events};
use crate::event::Event;
use crate::generate::{Shape, break_history, good_history};

#[test]
fn nothing_in_a_history_can_become_markup() {
    let mut events = good_history(1, Shape::SMALL);
    let evil = "\"><script>alert('x')</script>&\u{1b}";
    for event in &mut events {
        match event {
            Event::Begin(begin) => (begin.title, begin.version) = (evil.to_owned(), evil.to_owned()),
            Event::Partition(partition) => partition.name = evil.to_owned(),
            Event::FaultBegins(fault) => (fault.kind, fault.detail) = (evil.to_owned(), evil.to_owned()),
            _ => {}
        }
    }
    break_history(&mut events, Kind::Corrupt, 1).unwrap();
    let html = html(&check_events(&events, Options::default()));
    assert!(html.contains("&lt;script&gt;"));
    assert!(!html.contains("<script") && !html.contains("alert('x')") && !html.contains('\u{1b}'));
    assert!(!html.contains("http"), "the page must need nothing else");
}

#[test]
fn what_was_found_is_shown() {
    for kind in Kind::ALL {
        let mut events = good_history(4, Shape::SMALL);
        break_history(&mut events, kind, 4).unwrap();
        let options = Options { unavailable: Some(Duration::from_secs(20)), ..Options::default() };
        let verdict = check_events(&events, options);
        let (html, summary) = (html(&verdict), summary(&verdict));
        assert!(html.contains(">FAIL<") && summary.starts_with("FAIL"));
        assert!(html.contains(&format!("<td class=\"bad\">{kind}</td>")), "{kind}");
        assert!(summary.contains(&format!("  {kind}\n")), "{kind}: {summary}");
    }
    let verdict = check_events(&good_history(4, Shape::SMALL), Options::default());
    assert!(html(&verdict).contains(">PASS<") && summary(&verdict).contains("no violations"));
    let acked = thousands(verdict.counts.acked);
    assert!(html(&verdict).contains(&format!("<b>{acked}</b>")) && summary(&verdict).contains(&acked));
}

#[test]
fn an_empty_history_has_a_report_too() {
    let verdict = check_events(&[], Options::default());
    assert!(html(&verdict).contains("INCONCLUSIVE"));
    assert!(summary(&verdict).contains("cut off"));
}

#[test]
fn numbers_and_times_are_readable() {
    assert_eq!(thousands(0), "0");
    assert_eq!(thousands(999), "999");
    assert_eq!(thousands(1_234_567), "1,234,567");
    assert_eq!(duration(Duration::from_micros(1500)), "1.5 ms");
    assert_eq!(duration(Duration::from_millis(2346)), "2.35 s");
    assert_eq!(duration(Duration::from_secs(7384)), "2 h 03 min");
    assert_eq!(tables::utc(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(tables::utc(1_709_210_096), "2024-02-29 12:34:56 UTC");
    assert_eq!(tables::utc(1_735_689_599), "2024-12-31 23:59:59 UTC");
    let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
    assert_eq!(quantile(&times, 0.99), Some(Duration::from_millis(99)));
    assert_eq!(quantile(&[], 0.5), None);
}
