//! The table and the JSON of `bench compare`: figures of each contender, and ratios to the last.

use serde_json::{Map, Value, json};

use super::report::{Measurement, display_number, rounded};

/// Width of the first column.
const NAME_WIDTH: usize = 30;

/// Width of every other column.
const COLUMN_WIDTH: usize = 19;

/// Which figures matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes moved.
    Bytes,
    /// Requests answered.
    Requests,
    /// Events delivered to streams.
    Streams,
}

type Figure = (&'static str, fn(&Measurement) -> Option<f64>);

impl Kind {
    /// The figures, the main one first.
    fn figures(self) -> Vec<Figure> {
        let main: Vec<Figure> = match self {
            Self::Bytes => vec![
                ("mb_per_second", |m| Some(m.mb_per_second())),
                ("cpu_seconds_per_gb", Measurement::cpu_seconds_per_gb),
                ("records_per_second", |m| Some(m.records_per_second())),
            ],
            Self::Requests => vec![
                ("requests_per_second", |m| Some(m.requests_per_second())),
                ("server_cpu_us_per_request", Measurement::cpu_us_per_request),
                ("records_per_second", |m| Some(m.records_per_second())),
            ],
            Self::Streams => vec![
                ("events_per_second", |m| Some(m.records_per_second())),
                ("server_cpu_us_per_event", Measurement::cpu_us_per_record),
                ("rss_bytes_per_stream", |m| m.extra("rss_bytes_per_stream")),
                ("lost", |m| m.extra("lost")),
                ("duplicates", |m| m.extra("duplicates")),
            ],
        };
        let common: [Figure; 5] = [
            ("p50_us", |m| m.latency_us(0.5)),
            ("p99_us", |m| m.latency_us(0.99)),
            ("p999_us", |m| m.latency_us(0.999)),
            ("errors", |m| Some(m.tally.errors as f64)),
            ("server_rss_mb", |m| m.cost.server.map(|s| s.memory.rss_bytes as f64 / 1e6)),
        ];
        main.into_iter().chain(common).collect()
    }
}

/// One server and its rounds.
#[derive(Debug)]
pub(super) struct Contender {
    /// Name of its column.
    pub(super) name: &'static str,
    /// Measured rounds, in order.
    pub(super) rounds: Vec<Measurement>,
}

impl Contender {
    /// All rounds as one measurement.
    fn total(&self) -> Option<Measurement> {
        let (first, rest) = self.rounds.split_first()?;
        let mut total = first.clone();
        for round in rest {
            total.merge(round).ok()?;
        }
        // Extras do not add up: memory per stream is that of the first round, which opens streams
        // in a process that has not yet grown; what must be zero is summed.
        for (name, value) in &mut total.extras {
            let all = self.rounds.iter().filter_map(|r| r.extra(name));
            match *name {
                "lost" | "duplicates" => *value = json!(all.sum::<f64>()),
                "rss_bytes_per_stream" => *value = json!(first.extra(name)),
                _ => {}
            }
        }
        Some(total)
    }
}

/// Contenders at the same work; the last is the reference.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The work, in words.
    pub(super) title: String,
    /// Which figures matter.
    pub(super) kind: Kind,
    /// Who took part.
    pub(super) contenders: Vec<Contender>,
}

/// One line of a table.
struct Row {
    name: &'static str,
    values: Vec<Option<f64>>,
    ratios: Vec<Option<f64>>,
}

impl Comparison {
    fn rows(&self) -> Vec<Row> {
        let totals: Vec<_> = self.contenders.iter().map(Contender::total).collect();
        let figures = self.kind.figures().into_iter();
        let row = |(name, figure): Figure| {
            let values: Vec<_> = totals.iter().map(|m| m.as_ref().and_then(figure)).collect();
            let reference = values.last().copied().flatten().filter(|v| *v != 0.0);
            let others = values.iter().take(values.len().saturating_sub(1));
            let ratios = others.map(|v| Some((*v)? / reference?)).collect();
            Row { name, values, ratios }
        };
        figures.map(row).filter(|r| r.values.iter().any(Option::is_some)).collect()
    }

    /// Smallest and largest round of the main figure, for each contender.
    fn ranges(&self) -> Vec<(f64, f64)> {
        let main = self.kind.figures().first().map(|(_, figure)| *figure);
        let range = |contender: &Contender| {
            let rounds = contender.rounds.iter().filter_map(|r| main.and_then(|figure| figure(r)));
            rounds.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)))
        };
        self.contenders.iter().map(range).collect()
    }

    fn print_table(&self) {
        println!("\n{}", self.title);
        let names = self.contenders.iter().map(|c| c.name.to_owned());
        let reference = self.contenders.last().map_or("", |c| c.name);
        let others = self.contenders.iter().take(self.contenders.len().saturating_sub(1));
        let ratios = others.map(|c| match c.name.strip_prefix("hydrant ") {
            Some(variant) => format!("{variant} / {reference}"),
            None => format!("{} / {reference}", c.name),
        });
        print_row("", names.chain(ratios));
        for row in self.rows() {
            let cell = |v: &Option<f64>| v.map_or_else(|| "-".to_owned(), display_number);
            print_row(row.name, row.values.iter().chain(&row.ratios).map(cell));
        }
        let range =
            |(low, high): (f64, f64)| format!("{}..{}", display_number(low), display_number(high));
        print_row("(slowest..fastest round)", self.ranges().into_iter().map(range));
    }

    fn to_json(&self) -> Value {
        let mut figures = Map::new();
        for row in self.rows() {
            let mut cells = Map::new();
            for (contender, value) in self.contenders.iter().zip(&row.values) {
                cells.insert(contender.name.to_owned(), json!(value.map(rounded)));
            }
            for (contender, ratio) in self.contenders.iter().zip(&row.ratios) {
                let name = format!("{} ratio", contender.name);
                cells.insert(name.replace(' ', "_"), json!(ratio.map(rounded)));
            }
            figures.insert(row.name.to_owned(), Value::Object(cells));
        }
        let rounds = |c: &Contender| c.rounds.iter().map(Measurement::to_json).collect::<Value>();
        let rounds = self.contenders.iter().map(|c| (c.name.to_owned(), rounds(c)));
        json!({
            "title": self.title,
            "reference": self.contenders.last().map(|c| c.name),
            "figures": figures,
            "rounds": Value::Object(rounds.collect()),
        })
    }
}

fn print_row(name: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>COLUMN_WIDTH$}")).collect();
    println!("  {name:<NAME_WIDTH$}{cells}");
}

/// Prints every comparison, as one JSON object or as tables.
pub(super) fn print(comparisons: &[Comparison], json: bool) {
    if json {
        let all: Vec<_> = comparisons.iter().map(Comparison::to_json).collect();
        println!("{}", json!({ "comparisons": all }));
        return;
    }
    for comparison in comparisons {
        comparison.print_table();
    }
}

#[cfg(test)]
mod tests {
    use super::super::proc_stat::Cost;
    use super::super::report::{Tally, Unit};
    use super::*;

    fn contender(name: &'static str, bytes: u64) -> Contender {
        let mut tally = Tally::new().unwrap();
        tally.bytes = bytes;
        let (unit, cost) = (Unit::Record, Cost::default());
        let work = String::new();
        let round = Measurement { work, unit, seconds: 1.0, tally, cost, extras: vec![] };
        Contender { name, rounds: vec![round.clone(), round] }
    }

    #[test]
    fn ratios_are_to_the_last_contender() {
        let contenders = vec![contender("hydrant", 6_000_000), contender("peer", 2_000_000)];
        let comparison = Comparison { title: "t".into(), kind: Kind::Bytes, contenders };
        let json = comparison.to_json();
        assert_eq!(json["figures"]["mb_per_second"]["hydrant_ratio"], json!(3.0));
        assert_eq!(json["figures"]["mb_per_second"]["peer"], json!(2.0));
        assert!(json["figures"].get("cpu_seconds_per_gb").is_none());
        assert_eq!(comparison.ranges(), vec![(6.0, 6.0), (2.0, 2.0)]);
    }
}
