//! Draws `loss.svg` from a `metrics.jsonl`, or from a made-up run of STEPS steps when a number is given.
//!
//! `cargo run -p parlor-track --example draw_loss -- (metrics.jsonl | STEPS) OUT.svg`

use std::error::Error;
use std::path::Path;

use parlor_track::{LossCurves, Row, loss_svg, read_rows};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, out] = &arguments[..] else {
        return Err("usage: draw_loss (metrics.jsonl | STEPS) OUT.svg".into());
    };
    let (title, rows) = match source.parse::<u64>() {
        Ok(steps) => ("a made-up run".to_owned(), made_up(steps)),
        Err(_) => (source.clone(), read_rows(Path::new(source))?),
    };
    let mut curves = LossCurves::new(title);
    for row in &rows {
        curves.push(row);
    }
    let svg = loss_svg(&curves)?.ok_or("there is no loss in these rows")?;
    Ok(std::fs::write(out, svg)?)
}

/// A falling loss with noise and one spike, warm-up and a cosine.
fn made_up(steps: u64) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut rows = Vec::new();
    let every = (steps / 10).max(1);
    for step in 1..=steps {
        let done = step as f64 / steps as f64;
        let calm = 1.6 + 5.2 * (-done * 9.0).exp();
        let noise = (rng.f64() + rng.f64() + rng.f64() - 1.5) * 0.35;
        let spike = if step == steps / 3 { 6.0 } else { 0.0 };
        let warm = (done / 0.05).min(1.0);
        let rate = 3e-4 * warm * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        rows.push(Row::new(step).with("loss", calm + noise + spike).with("learning_rate", rate));
        if step % every == 0 {
            rows.push(Row::new(step).with("eval_loss", calm + 0.12 + done * 0.1));
        }
    }
    rows
}
