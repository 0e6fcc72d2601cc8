//! Stop texts: found wherever the pieces are cut, never shown, nothing else held back for good.

use parlor_engine::StopScanner;
use proptest::prelude::*;

fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut scanner = StopScanner::new(&stops);
    let mut shown: Vec<String> = pieces.iter().map(|piece| scanner.push(piece)).collect();
    shown.push(scanner.finish());
    (shown, scanner.stopped())
}

#[test]
fn text_that_may_become_a_stop_is_held() {
    assert_eq!(
        run(&["END"], &["a E", "N", "D b"]),
        (vec!["a ".into(), "".into(), "".into(), "".into()], true)
    );
    assert_eq!(run(&["END"], &["a E", "x"]), (vec!["a ".into(), "Ex".into(), "".into()], false));
    assert_eq!(run(&["END"], &["E"]), (vec!["".into(), "E".into()], false));
    assert_eq!(run(&["\n\n", "é!"], &["uné", "!"]), (vec!["un".into(), "".into(), "".into()], true));
    // The second stop is complete before the first one is.
    for pieces in [&["abc"][..], &["ab", "c"], &["a", "b", "c"]] {
        assert_eq!(run(&["abc", "b"], pieces).0.concat(), "a");
    }
    assert_eq!(run(&["b", "ab"], &["ab"]).0.concat(), "");
    assert_eq!(run(&[""], &["a"]), (vec!["a".into(), "".into()], false));
}

proptest! {
    /// However the text is cut, what is shown is the text before the stop that is complete first.
    #[test]
    fn cuts_do_not_matter(
        pieces in prop::collection::vec("[abé]{0,4}", 0..12),
        stops in prop::collection::vec("[abé]{1,4}", 0..3),
    ) {
        let text = pieces.concat();
        let found = |stop: &String| text.find(stop.as_str()).map(|at| (at + stop.len(), at));
        let first = stops.iter().filter_map(found).min().map(|(_, at)| at);
        let (shown, stopped) = run(
            &stops.iter().map(String::as_str).collect::<Vec<_>>(),
            &pieces.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        prop_assert_eq!(stopped, first.is_some());
        prop_assert_eq!(shown.concat(), &text[..first.unwrap_or(text.len())]);
    }
}
