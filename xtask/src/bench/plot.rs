//! The picture of a run: one row for each figure on a logarithmic scale of time, as an SVG that needs nothing else.
//!
//! Owns its geometry. Refuses averages, as the figures do: a row shows median, p99 and maximum, and what is promised.

use std::fmt::Write as _;
use std::time::Duration;

use super::report::Figure;

const WIDTH: f64 = 1100.0;
/// Where the scale begins and ends.
const LEFT: f64 = 545.0;
const RIGHT: f64 = 1060.0;
const TOP: f64 = 70.0;
const ROW: f64 = 26.0;
/// The scale's ends: 10 µs and 100 s.
const DECADES: (i32, i32) = (-5, 2);

/// Draws these figures under a title, those without a sample left out.
pub(crate) fn draw(title: &str, figures: &[Figure]) -> String {
    let rows: Vec<&Figure> = figures.iter().filter(|figure| figure.times.count() > 0).collect();
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\">{title}</text>\n\
         <text x=\"16\" y=\"44\" fill=\"#555\">dot: median, bar: to p99, line: to the maximum; red: the promise (dashed p99, solid maximum)</text>\n",
        height = bottom + 40.0,
        title = escaped(title),
    );
    for decade in DECADES.0..=DECADES.1 {
        let x = x_of(10_f64.powi(decade));
        line(&mut svg, (x, TOP - 8.0), (x, bottom), "#ddd", "");
        text(&mut svg, (x, bottom + 18.0), "middle", "#555", &unit(decade));
    }
    for (figure, row) in rows.into_iter().zip(0_u32..) {
        draw_row(&mut svg, figure, TOP + ROW * (f64::from(row) + 0.5));
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, figure: &Figure, y: f64) {
    let colour = if figure.subject.starts_with("last-call") { "#1f6f8b" } else { "#b0892a" };
    let label = format!("{}: {}", figure.subject, figure.what);
    text(svg, (LEFT - 12.0, y + 4.0), "end", "#222", &label);
    let at = |time: Duration| x_of(time.as_secs_f64());
    let times = &figure.times;
    line(svg, (at(times.p50()), y), (at(times.max()), y), colour, "");
    line(svg, (at(times.p50()), y), (at(times.p99()), y), colour, " stroke-width=\"7\"");
    let x = at(times.p50());
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>");
    let limits = [(figure.promise.p99, " stroke-dasharray=\"3 2\""), (figure.promise.max, "")];
    for (limit, style) in limits {
        let Some(limit) = limit else { continue };
        line(svg, (at(limit), y - 10.0), (at(limit), y + 10.0), "#c0392b", style);
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, style: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"{style}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>"
    );
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Where `seconds` lie on the scale; what lies beyond it, at its end.
fn x_of(seconds: f64) -> f64 {
    let (first, last) = (f64::from(DECADES.0), f64::from(DECADES.1));
    let decade = seconds.max(f64::MIN_POSITIVE).log10().clamp(first, last);
    LEFT + (decade - first) / (last - first) * (RIGHT - LEFT)
}

fn unit(decade: i32) -> String {
    format!("{:?}", Duration::from_secs_f64(10_f64.powi(decade)))
}

#[cfg(test)]
mod tests {
    use crate::bench::report::Promise;

    use super::*;

    #[test]
    fn rows_stay_on_the_scale_and_text_is_escaped() {
        let times = [Duration::ZERO, Duration::from_secs(100_000)].into_iter().collect();
        let promise = Promise::max(Duration::from_secs(1));
        let figure = Figure { subject: "a<b", what: "x & y".to_owned(), times, promise, kept: None };
        let svg = draw("<title>", &[figure]);
        assert!(svg.contains("&lt;title&gt;"), "{svg}");
        assert!(svg.contains("a&lt;b: x &amp; y"), "{svg}");
        assert!(svg.contains(&format!("x2=\"{RIGHT:.1}\"")), "the maximum is drawn at the end:\n{svg}");
        assert!(svg.contains("#c0392b"), "the promise is drawn:\n{svg}");
    }

    #[test]
    fn decades_are_named() {
        assert_eq!([-5, -3, 0, 2].map(unit), ["10µs", "1ms", "1s", "100s"]);
    }
}
