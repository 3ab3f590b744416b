//! The timeline and the figures as lines of text.
//!
//! Owns the drawing. Refuses to know the terminal: its width, and what it can show, are given.

use crate::shown;

use super::story::{Left, Member, Offers, Outcome, Role, Story, Who};

/// What a terminal can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paper {
    pub(crate) columns: usize,
    pub(crate) colours: bool,
    /// Letters beyond ASCII.
    pub(crate) unicode: bool,
}

/// Lines of a worker that are shown where it did badly.
const LAST_LINES: usize = 5;
/// Text in front of each lane.
const MARGIN: usize = 14;

impl Paper {
    fn steps(self) -> [char; 8] {
        if self.unicode {
            ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            ['.', ':', '-', '=', '+', '*', '#', '@']
        }
    }

    /// The text in one of the terminal's own colours.
    fn painted(self, colour: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Text that stands for something good, or bad.
    fn judged(self, good: bool, text: &str) -> String {
        self.painted(if good { 32 } else { 31 }, text)
    }
}

/// The timeline: for each worker how many calls it has, and its signals under them.
pub(crate) fn timeline(story: &Story, paper: Paper) -> Vec<String> {
    let from = story.workers.iter().filter_map(|member| member.registered_us).min().unwrap_or_default();
    let to = story.workers.iter().filter_map(|member| member.left.map(|(at_us, _)| at_us)).max();
    let width = paper.columns.clamp(50, 120) - MARGIN;
    let span = to.unwrap_or(from).saturating_sub(from).max(1);
    let lanes = Lanes { story, paper, from, span, width };
    let mut lines = vec![lanes.axis()];
    for who in 0..story.workers.len() {
        lines.push(lanes.calls(who));
        lines.extend(lanes.marks(who));
    }
    lines
}

struct Lanes<'s> {
    story: &'s Story,
    paper: Paper,
    from: u64,
    span: u64,
    width: usize,
}

impl Lanes<'_> {
    fn column(&self, at_us: u64) -> usize {
        let share = u128::from(at_us.saturating_sub(self.from)) * self.width as u128 / u128::from(self.span);
        usize::try_from(share).unwrap_or(usize::MAX).min(self.width - 1)
    }

    /// The middle of a column, as a time.
    fn time(&self, column: usize) -> u64 {
        self.from + self.span * (2 * column as u64 + 1) / (2 * self.width as u64)
    }

    fn axis(&self) -> String {
        let mut line = vec![' '; self.width];
        for seconds in (0..).step_by(2) {
            let at_us = seconds * 1_000_000;
            if at_us > self.span {
                break;
            }
            let place = self.column(self.from + at_us);
            let text = format!("{seconds} s");
            if place + text.len() < self.width {
                line.splice(place..place + text.len(), text.chars());
            }
        }
        format!("{:MARGIN$}{}", "", line.into_iter().collect::<String>().trim_end())
    }

    /// A bar as high as the worker has calls; the highest of all lanes fills the line.
    fn calls(&self, who: Who) -> String {
        let member = &self.story.workers[who];
        let alive =
            member.registered_us.unwrap_or(u64::MAX)..member.left.map_or(u64::MAX, |(at_us, _)| at_us);
        let most = (0..self.story.workers.len())
            .flat_map(|who| (0..self.width).map(move |column| self.story.running(who, self.time(column))))
            .max()
            .unwrap_or_default()
            .max(1);
        let steps = self.paper.steps();
        let bar = |column| match self.story.running(who, self.time(column)) {
            0 if alive.contains(&self.time(column)) => '_',
            0 => ' ',
            count => steps[(count * steps.len()).div_ceil(most) - 1],
        };
        let bars: String = (0..self.width).map(bar).collect();
        let name: String = member.name.chars().take(MARGIN - 2).collect();
        let colour = match member.role {
            Role::Relief => 36,
            Role::Ours | Role::Theirs if self.story.kept(who) => 32,
            Role::Ours | Role::Theirs => 31,
        };
        format!("{name:MARGIN$}{}", self.paper.painted(colour, bars.trim_end()))
    }

    /// What was done to a worker and what it did, each under its moment, on as many lines as need be.
    fn marks(&self, who: Who) -> Vec<String> {
        let member = &self.story.workers[who];
        let arrow = if self.paper.unicode { '↑' } else { '^' };
        let mut marks: Vec<(usize, String)> = Vec::new();
        for (nth, at_us) in member.signals_us.iter().enumerate() {
            let text = match (nth, member.full_after_us()) {
                (0, Some(after)) => format!("{arrow} SIGTERM, full after {}", time(after)),
                (0, None) => format!("{arrow} SIGTERM, never full"),
                _ => format!("{arrow} SIGTERM again"),
            };
            marks.push((self.column(*at_us), text));
        }
        if let Some((at_us, left)) = member.left {
            marks.push((self.column(at_us), format!("{arrow} {left}")));
        }
        let mut lines: Vec<String> = Vec::new();
        // From the right, so that the later marks stand higher.
        for (place, text) in marks.into_iter().rev() {
            let place = place.min(self.width.saturating_sub(text.chars().count()));
            match lines
                .iter_mut()
                .find(|line| line.chars().take_while(|c| *c == ' ').count() > place + text.chars().count())
            {
                Some(line) => {
                    let rest: String = line.chars().skip(place + text.chars().count()).collect();
                    *line = format!("{:place$}{text}{rest}", "");
                }
                None => lines.push(format!("{:place$}{text}", "")),
            }
        }
        lines.into_iter().map(|line| format!("{:MARGIN$}{line}", "")).collect()
    }
}

/// The figures of the workers that were told to drain, side by side.
pub(crate) fn figures(story: &Story) -> Vec<(String, Vec<String>)> {
    let drained: Vec<Who> =
        (0..story.workers.len()).filter(|who| story.workers[*who].role != Role::Relief).collect();
    let row = |label: &str, cell: &dyn Fn(&Member, Who) -> String| {
        (label.to_owned(), drained.iter().map(|who| cell(&story.workers[*who], *who)).collect())
    };
    let or_never = |time_us: Option<u64>| time_us.map_or_else(|| "never".to_owned(), time);
    let offers = |offers: Offers| {
        let Offers { made, accepted, declined } = offers;
        let silent = made.saturating_sub(accepted + declined);
        sum(made, &[(accepted, "taken"), (declined, "declined"), (silent, "not answered")])
    };
    let calls = |who| {
        let count = |outcome| u32::try_from(story.count(Some(who), outcome)).unwrap_or(u32::MAX);
        let parts = [Outcome::Finished, Outcome::Failed, Outcome::CutOff].map(count);
        let [finished, failed, cut_off] = parts;
        sum(parts.iter().sum(), &[(finished, "ended well"), (failed, "failed"), (cut_off, "cut off")])
    };
    let at_signal =
        |member: &Member, who| story.running(who, member.signals_us.first().copied().unwrap_or_default());
    vec![
        row("", &|member, _| member.name.to_owned()),
        row("start to registered", &|member, _| {
            or_never(member.registered_us.map(|at_us| at_us.saturating_sub(member.started_us)))
        }),
        row("offers before SIGTERM", &|member, _| offers(member.before)),
        row("SIGTERM to full", &|member, _| or_never(member.full_after_us())),
        row("offers after SIGTERM", &|member, _| offers(member.after)),
        row("taken after it was full", &|member, _| member.taken_when_full.to_string()),
        row("calls at SIGTERM", &|member, who| at_signal(member, who).to_string()),
        row("calls in all", &|_, who| calls(who)),
        row("last call to exit", &|_, who| story.lingered_us(who).map_or_else(|| "-".to_owned(), time)),
        row("exit", &|member, _| {
            member.left.map_or_else(|| Left::Stayed.to_string(), |(_, left)| left.to_string())
        }),
    ]
}

/// The figures as pairs; where several workers drained, each with its name.
pub(crate) fn facts(story: &Story) -> Vec<(String, String)> {
    let mut figures = figures(story).into_iter();
    let (_, names) = figures.next().unwrap_or_default();
    let of_all = |cells: Vec<String>| match &cells[..] {
        [cell] => cell.clone(),
        _ => names
            .iter()
            .zip(&cells)
            .map(|(name, cell)| format!("{name}: {cell}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    figures.map(|(label, cells)| (label.trim().to_owned(), of_all(cells))).collect()
}

/// The figures as a table, and what they come to.
pub(crate) fn table(story: &Story, paper: Paper) -> Vec<String> {
    let figures = figures(story);
    let columns = figures.first().map_or(0, |(_, cells)| cells.len());
    let label = figures.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    let width = |column: usize| figures.iter().map(|(_, cells)| cells[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |(name, cells): &(String, Vec<String>)| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("   {cell:width$}"));
        format!("{name:label$}{}", cells.collect::<String>()).trim_end().to_owned()
    };
    let mut lines: Vec<String> = figures.iter().map(line).collect();
    lines.push(String::new());
    lines.extend(verdict(story).into_iter().map(|(good, text)| paper.judged(good, &text)));
    lines
}

/// What the demo comes to, each sentence with whether it is good news.
pub(crate) fn verdict(story: &Story) -> Vec<(bool, String)> {
    let mut sentences = Vec::new();
    for (who, member) in story.workers.iter().enumerate() {
        let (name, lost, of) = (member.name, story.lost(who), story.calls_of(who).count());
        let bad = match member.role {
            Role::Relief if lost == 0 => continue,
            Role::Ours | Role::Theirs if story.kept(who) => {
                sentences.push((true, format!("{name}: drained; every call that it had was finished.")));
                continue;
            }
            _ if lost > 0 => format!("{name}: {lost} of its {of} calls were lost."),
            Role::Ours | Role::Relief | Role::Theirs => {
                format!("{name}: lost no call, but {}.", member.trouble())
            }
        };
        sentences.push((false, bad));
        if let Some(error) = &member.first_error {
            sentences.push((false, format!("    it said of the first: {}", shown::line(error))));
        }
        if !member.last_words.is_empty() {
            sentences.push((false, "    its last lines:".to_owned()));
            let last = member.last_words.lines().rev().take(LAST_LINES).collect::<Vec<_>>();
            sentences
                .extend(last.into_iter().rev().map(|line| (false, format!("    | {}", shown::line(line)))));
        }
    }
    let (all, without) = (story.calls.len(), story.count(None, Outcome::NoAgent));
    sentences.push(if without == 0 {
        (true, format!("All {all} callers got an agent."))
    } else {
        (false, format!("{without} of {all} callers got no agent."))
    });
    sentences
}

/// A number and what it is made of, without what it has none of.
fn sum(whole: u32, parts: &[(u32, &str)]) -> String {
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<_> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{whole}: {}", parts.join(", ")) }
}

/// A time in the unit that suits it.
pub(crate) fn time(time_us: u64) -> String {
    match time_us {
        0..1_000 => format!("0.{:02} ms", time_us / 10),
        1_000..10_000 => format!("{}.{} ms", time_us / 1_000, time_us % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", time_us / 1_000),
        _ => format!("{}.{} s", time_us / 1_000_000, time_us % 1_000_000 / 100_000),
    }
}
