//! `loss.svg`.

use parlor_track::{LossCurves, Row, loss_svg};
use proptest::prelude::*;

fn curves(rows: &[Row]) -> LossCurves {
    let mut curves = LossCurves::new("a <run> & more");
    rows.iter().for_each(|row| {
        curves.push(row);
    });
    curves
}

fn count(svg: &str, what: &str) -> usize {
    svg.matches(what).count()
}

#[test]
fn nothing_is_drawn_of_nothing() {
    assert_eq!(loss_svg(&LossCurves::new("t")).unwrap(), None);
    let nan = curves(&[Row::new(1).with("loss", f64::NAN), Row::new(2).with("learning_rate", 0.1)]);
    assert_eq!(loss_svg(&nan).unwrap(), None);
}

#[test]
fn every_part_is_there() {
    let rows: Vec<Row> = (1..=50u64)
        .flat_map(|step| {
            let train =
                Row::new(step).with("loss", 5.0 / step as f64).with("learning_rate", 1e-4 * step as f64);
            let eval = (step % 10 == 0).then(|| Row::new(step).with("eval_loss", 0.5));
            [Some(train), eval]
        })
        .flatten()
        .collect();
    let svg = loss_svg(&curves(&rows)).unwrap().unwrap();
    assert!(svg.contains("<title>a &lt;run&gt; &amp; more</title>"));
    assert!(svg.contains("@media (prefers-color-scheme: dark)"));
    for text in
        ["training loss, smoothed: 0.1", "evaluation loss: 0.5", "learning rate: 0.005", "\nstep\n", "\n50\n"]
    {
        assert!(svg.contains(text), "{text:?} is missing");
    }
    // Two lines of training loss, their key and its dark colour; five points of evaluation with rings, their line and their key.
    assert_eq!(count(&svg, "stroke=\"#2A78D6\""), 4);
    assert_eq!(count(&svg, "<circle"), 11);
    assert_eq!(loss_svg(&curves(&rows)).unwrap().unwrap(), svg);
}

#[test]
fn a_long_run_stays_small() {
    let rows: Vec<Row> = (1..=50_000u64)
        .map(|step| Row::new(step).with("loss", 2.0 + (step % 7) as f64).with("learning_rate", 1e-4))
        .collect();
    let svg = loss_svg(&curves(&rows)).unwrap().unwrap();
    assert!(svg.len() < 100_000, "{} bytes", svg.len());
    assert!(svg.contains("\n50k\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_numbers_make_it_fail(
        points in proptest::collection::vec((any::<u64>(), proptest::num::f64::ANY, proptest::num::f64::ANY), 1..20),
        same in any::<bool>(),
    ) {
        let rows: Vec<Row> = points
            .iter()
            .map(|(step, loss, rate)| {
                let step = if same { points[0].0 } else { *step };
                Row::new(step).with("loss", *loss).with("eval_loss", -*loss).with("learning_rate", *rate)
            })
            .collect();
        if let Some(svg) = loss_svg(&curves(&rows)).unwrap() {
            prop_assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            prop_assert!(!svg.contains("NaN") && !svg.contains(">inf"));
        }
    }
}
