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

/// Text that is shown, or a token that is not.
#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Text(&'a str),
    Hidden(&'a str),
}
use Piece::{Hidden, Text};

fn run_hidden(stops: &[&str], pieces: &[Piece<'_>]) -> (String, bool) {
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut scanner = StopScanner::new(&stops);
    let mut shown = String::new();
    for piece in pieces {
        shown.push_str(&match piece {
            Text(text) => scanner.push(text),
            Hidden(token) => scanner.push_hidden(token),
        });
    }
    shown.push_str(&scanner.finish());
    (shown, scanner.stopped())
}

#[test]
fn a_stop_that_spells_a_hidden_token_is_that_token() {
    let found = |stop: &str, pieces: &[Piece<'_>]| run_hidden(&[stop], pieces);
    assert_eq!(found("<end>", &[Text("a"), Hidden("<end>"), Text("b")]), ("a".into(), true));
    assert_eq!(found("a<end>b", &[Text("xa"), Hidden("<end>"), Text("bc")]), ("x".into(), true));
    assert_eq!(found("<end>\n", &[Text("a"), Hidden("<end>"), Text("b")]), ("ab".into(), false));
    assert_eq!(found("<end><end>", &[Hidden("<end>"), Text("a"), Hidden("<end>"), Hidden("<end>")]).0, "a");
    // Spelled by ordinary tokens it is the same text.
    assert_eq!(found("<end>", &[Text("a<"), Text("end"), Text(">b")]), ("a".into(), true));
}

#[test]
fn no_match_skips_a_hidden_token_or_lies_inside_one() {
    let pieces = [Text("ab"), Hidden("<end>"), Text("cd")];
    for stop in ["bc", "abcd", "end", "<", "b<", "d>", ">c", "<end"] {
        assert_eq!(run_hidden(&[stop], &pieces), ("abcd".into(), false), "{stop}");
    }
    // What was held back for a stop that did not come is shown, and the search goes on after it.
    let pieces = [Text("a"), Hidden("<x>"), Text("a"), Hidden("<x>"), Text("b")];
    assert_eq!(run_hidden(&["a<x>b"], &pieces), ("a".into(), true));
    assert_eq!(run_hidden(&["<x>a<x>c"], &pieces), ("aab".into(), false));
}
